use std::io::Write as _;

use tempfile::NamedTempFile;

use super::*;
use crate::event::Bye;
use crate::filter::{Filter, Matcher};
use crate::pipeline::{self, PipelineError, Wanted};
use crate::sink::{Encoder as _, JsonLines, Writer};

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Recorded starts of containers: `hello`, processes, events, `bye`, filtered by descent.
fn recorded() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/docker.jsonl")).unwrap()
}

fn play_with(bytes: &[u8], filter: &Filter, wanted: &Wanted) -> (Result<Bye, PipelineError>, Vec<Event>) {
    let file = file(bytes);
    let source = Recording::open(file.path()).unwrap();
    let mut lines = Vec::new();
    let mut writer = Writer::new(JsonLines, &mut lines);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let matcher = Matcher::new(filter).unwrap();
    let played = pipeline::run(source, matcher, &mut writer, wanted, std::future::pending(), |_| true);
    let bye = runtime.block_on(played);
    drop(writer);
    (bye, lines.split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect())
}

fn play(bytes: &[u8]) -> (Result<Bye, PipelineError>, Vec<Event>) {
    play_with(bytes, &Filter::default(), &Wanted { snapshot: true, ..Wanted::default() })
}

fn decode(bytes: &[u8]) -> Vec<Event> {
    bytes.split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// The same event, whatever its number.
fn unnumbered(event: &Event) -> Event {
    Event { seq: 0, ..event.clone() }
}

#[test]
fn what_is_read_is_what_was_recorded() {
    let recorded = recorded();
    let (bye, played) = play(&recorded);
    let (bye, original) = (bye.unwrap(), decode(&recorded));
    assert_eq!(played.len(), original.len());
    let middle = 1..original.len() - 1;
    for (a, b) in original[middle.clone()].iter().zip(&played[middle]) {
        assert_eq!(unnumbered(a), unnumbered(b));
    }
    let (old, new) = (original[0].hello().unwrap(), played[0].hello().unwrap());
    assert_eq!(new, &Hello { source: Some(HelloSource::Recording), ..old.clone() });
    let recorded_bye = original.last().unwrap().bye().unwrap();
    // What a filter left out then is not in it: all else is as its recorder said.
    assert_eq!(bye, Bye { seen: bye.seen, filtered: 0, ..recorded_bye.clone() });
    assert_eq!(bye.seen, bye.emitted);
    assert_eq!(played.last().unwrap().time, original.last().unwrap().time);
    assert!(played.iter().enumerate().all(|(n, line)| line.seq == n as u64), "it is numbered again");
    // Once more, it is the same to the byte.
    let mut again = Vec::new();
    played.iter().try_for_each(|event| JsonLines.encode(event, &mut again)).unwrap();
    assert_eq!(play(&again).1, played);
}

#[test]
fn zstd_is_found_by_its_magic_in_any_number_of_frames() {
    let recorded = recorded();
    let half = recorded.len() / 2;
    let mut frames = vec![0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    for part in [&recorded[..half], &recorded[half..]] {
        frames.extend(zstd::encode_all(part, 3).unwrap());
        // A frame that is to be skipped, as an index is.
        frames.extend([0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
    }
    let (bye, played) = play(&frames);
    assert_eq!((bye.unwrap(), played), (play(&recorded).0.unwrap(), play(&recorded).1));
}

#[test]
fn a_torn_recording_is_read_up_to_where_it_is_torn_and_says_so() {
    let recorded = recorded();
    let lost = |lines: &[Event]| {
        let lost: Vec<_> = lines.iter().filter_map(|line| line.lost().cloned()).collect();
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!(lost[0].reason, LostReason::Recording);
        lost[0].total
    };
    let ends: Vec<usize> =
        recorded.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for (whole, cut, total) in [(1, 40, 1), (10, 3, 1), (53, 200, 1), (53, 0, 0), (1, 0, 0)] {
        let (bye, played) = play(&recorded[..ends[whole - 1] + cut]);
        let bye = bye.unwrap();
        assert_eq!((lost(&played), bye.lost), (total, total), "{whole} lines and {cut} bytes");
        // The whole lines, the loss, and an end.
        assert_eq!(played.len(), whole + 2);
        assert_eq!(bye.seen, bye.emitted + bye.lost);
    }
    // The end of the last line alone is not needed.
    assert_eq!(play(&recorded[..recorded.len() - 1]).1, play(&recorded).1);
    // Compressed: what can be decompressed is read.
    let half = ends[30];
    let frames = [&recorded[..half], &recorded[half..]].map(|part| zstd::encode_all(part, 3).unwrap()).concat();
    let (bye, played) = play(&frames[..frames.len() - 9]);
    bye.unwrap();
    assert_eq!((lost(&played), played.len()), (1, 31 + 2), "the last frame is missing");
    let none = play(&frames[..20]).0.unwrap_err().to_string();
    assert!(none.contains("is cut before its first event"), "{none}");
}

#[test]
fn what_is_no_recording_is_refused_with_the_remedy() {
    let recorded = recorded();
    let refused = |bytes: &[u8], wanted: &str| {
        let error = play(bytes).0.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refused(b"", "is empty");
    refused(b"\n \n", "is empty");
    refused(b"what\n", "is no recording: line 1 is no event");
    refused(b"what", "is no recording: line 1 is no event");
    refused(b"{\"v\":1}\n", "is no recording: line 1 is no event");
    refused(b"{\"v\":2,\"event\":\"hello\"}\n", "schema version 2");
    let mut middle = recorded.clone();
    let third = recorded.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0;
    middle.insert(third, b'}');
    refused(&middle, "line 3 of");
    let mut two = recorded.clone();
    two.extend(String::from_utf8(recorded.clone()).unwrap().replace("\"boot_id\":\"", "\"boot_id\":\"f").into_bytes());
    refused(&two, "another boot");
    let missing = Recording::open(Path::new("/nonexistent/file")).unwrap_err().to_string();
    assert!(
        missing.contains("cannot open /nonexistent/file") && missing.contains("tracer stream -o FILE"),
        "{missing}"
    );
    assert!(Recording::open(Path::new("/")).unwrap_err().to_string().contains("directory"));
}

#[test]
fn parts_of_one_boot_are_one_recording() {
    let recorded = recorded();
    let (bye, played) = play(&[&recorded[..], &recorded[..]].concat());
    let (once, single) = play(&recorded);
    let (bye, once) = (bye.unwrap(), once.unwrap());
    assert_eq!((bye.emitted, bye.duration_ns), (2 * once.emitted, 2 * once.duration_ns));
    assert_eq!(played.len(), 2 * single.len() - 2, "one `hello` and one `bye`");
}

#[test]
fn filters_work_as_live_and_the_snapshot_can_be_left_out() {
    let recorded = recorded();
    let original = decode(&recorded);
    let filter = Filter::kind(Kind::Exec);
    let (bye, played) = play_with(&recorded, &filter, &Wanted::default());
    let execs: Vec<Event> = original.iter().filter(|event| event.kind() == Kind::Exec).map(unnumbered).collect();
    assert_eq!(played[1..played.len() - 1].iter().map(unnumbered).collect::<Vec<_>>(), execs);
    assert_eq!(bye.unwrap().execs, execs.len() as u64);
    let (bye, played) = play_with(&recorded, &Filter::default(), &Wanted { count: Some(3), ..Wanted::default() });
    assert_eq!((bye.unwrap().emitted, played.len()), (3, 5));
    assert!(played.iter().all(|line| line.kind() != Kind::Process));
}
