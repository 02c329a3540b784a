//! What a record costs on its way from the ring to a line: decoded, through the table, as JSON.
//!
//! The records are those of `tests/captures/shell.ring`, into a new table each time. Figures are nanoseconds per record.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]
#![expect(missing_docs, reason = "criterion's macros make functions without any")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Buf as _;
use criterion::{Criterion, criterion_group, criterion_main};
use tracer::decode::decode;
use tracer::event::Event;
use tracer::table::{Table, TableOptions};

const CAPTURE: &[u8] = include_bytes!("../tests/captures/shell.ring");

/// Records as they lie in the ring.
fn records() -> Vec<&'static [u8]> {
    let mut capture = &CAPTURE[8..];
    let mut records = Vec::new();
    while capture.has_remaining() {
        let len = capture.get_u32_le() as usize;
        records.push(&capture[..len]);
        capture.advance(len);
    }
    records
}

fn stages(c: &mut Criterion) {
    let records = records();
    let per_record = |time: Duration| time / records.len() as u32;
    c.bench_function("decode", |bench| {
        bench.iter_custom(|times| {
            let began = Instant::now();
            for _ in 0..times {
                for record in &records {
                    black_box(decode(black_box(record)).unwrap());
                }
            }
            per_record(began.elapsed())
        });
    });
    for (name, json) in [("decode + table", false), ("decode + table + JSON", true)] {
        c.bench_function(name, |bench| {
            bench.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                let (mut events, mut lines): (Vec<Event>, _) = (Vec::new(), Vec::new());
                for _ in 0..times {
                    // The capture's first process is unknown to a new table only.
                    let mut table = Table::new(TableOptions::default());
                    let began = Instant::now();
                    for record in &records {
                        table.apply(decode(black_box(record)).unwrap(), &mut events);
                        for event in events.drain(..) {
                            if json {
                                serde_json::to_writer(&mut lines, &event).unwrap();
                            }
                            black_box(&event);
                        }
                    }
                    black_box(&lines);
                    lines.clear();
                    spent += began.elapsed();
                }
                per_record(spent)
            });
        });
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
