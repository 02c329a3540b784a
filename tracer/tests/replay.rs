//! Replays a recorded ring through decoder and table, and compares the lines byte by byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Buf as _;
use tracer::event::{Event, Kind};
use tracer::record::decode::decode;
use tracer::record::gaps::Gaps;
use tracer::table::{Table, TableOptions};

/// Made by `examples/capture.rs` from
/// `sh -c '/bin/true one two; (sleep 0.1 & ) ; kill -TERM $$'`, on Linux 6.18.
const CAPTURE: &[u8] = include_bytes!("captures/shell.ring");

fn replay(mut capture: &[u8]) -> Vec<Event> {
    let utc_minus_boot_ns = capture.get_i64_le();
    let mut table = Table::new(TableOptions { utc_minus_boot_ns, ..TableOptions::default() });
    let mut gaps = Gaps::default();
    let mut events = Vec::new();
    while capture.has_remaining() {
        let len = capture.get_u32_le() as usize;
        let record = decode(&capture[..len]).unwrap();
        assert_eq!(gaps.observe(record.header()), None, "the recording is complete");
        table.apply(record, &mut events);
        capture.advance(len);
    }
    events
}

fn lines() -> String {
    let line = |event: Event| serde_json::to_string(&event).unwrap() + "\n";
    replay(CAPTURE).into_iter().map(line).collect()
}

#[test]
fn a_recorded_ring_gives_the_same_lines_to_the_byte() {
    assert_eq!(lines(), lines());
    insta::assert_snapshot!(lines());
}

#[test]
fn a_recorded_ring_is_complete() {
    let events = replay(CAPTURE);
    let count = |kind: Kind| events.iter().filter(|event| event.kind() == kind).count();
    // The shell itself existed before: it is added as `process`, and exits like the processes that it forked.
    assert_eq!(count(Kind::Exit), count(Kind::Fork) + 1);
    assert!(events.iter().any(|event| event.reparent().is_some()));
    let killed = events.iter().filter_map(|event| event.exit()).find(|exit| exit.signal.is_some()).unwrap();
    assert_eq!(killed.signal.as_deref(), Some("SIGTERM"));
    assert_eq!(killed.cause.as_ref().unwrap().sender_comm.as_deref(), Some("sh"));
}
