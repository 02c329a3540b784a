//! What each stage of user space costs: decode, process table, JSON, one after the other on the same records.
//!
//! `cargo xtask bench --stages` runs it and writes the figures into docs/benchmarks.md. The records are a ring that was
//! recorded while `make -j2` built a small C program (`tests/captures/make.ring`, made by `examples/capture.rs` from `make.sh` beside it), and those of
//! a synthetic storm (`tests/soak/storm.rs`), long enough that the table forgets exited processes as it goes.
#![expect(clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "criterion makes a public function")]

#[path = "../tests/decode/encode.rs"]
mod encode;
#[path = "../tests/soak/storm.rs"]
#[expect(dead_code, reason = "the soak uses more of it")]
mod storm;

use std::hint::black_box;
use std::io;

use bytes::Buf as _;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tracer::event::Event;
use tracer::pipeline::consumer::Consumer as _;
use tracer::record::decode::decode;
use tracer::record::gaps::Gaps;
use tracer::sink::{JsonLines, Writer};
use tracer::table::{Table, TableOptions};

const RECORDED: &[u8] = include_bytes!("../tests/captures/make.ring");

/// Processes of the storm that is made up.
const PROCESSES: usize = 20_000;

/// Records one after the other, as they lie in the ring.
struct Ring {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Ring {
    fn recorded(mut capture: &[u8]) -> Self {
        let mut ring = Self { bytes: Vec::new(), lengths: Vec::new() };
        capture.advance(size_of::<i64>());
        while capture.has_remaining() {
            let len = capture.get_u32_le() as usize;
            ring.push(&capture[..len]);
            capture.advance(len);
        }
        ring
    }

    fn made_up() -> Self {
        let mut ring = Self { bytes: Vec::new(), lengths: Vec::new() };
        let mut storm = storm::Storm::new(storm::MIXED);
        for _ in 0..PROCESSES {
            storm.step(|record| ring.push(record));
        }
        ring
    }

    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.lengths.push(record.len());
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |&len| {
            let (record, after) = rest.split_at(len);
            rest = after;
            record
        })
    }
}

/// Decodes all, as the live source does, and hands what became of each on.
fn tell(ring: &Ring, table: &mut Table, gaps: &mut Gaps, mut take: impl FnMut(&Event)) {
    let mut events = Vec::new();
    for bytes in ring.records() {
        let record = decode(bytes).expect("a sound record");
        let _ = black_box(gaps.observe(record.header()));
        table.apply(record, &mut events);
        events.iter().for_each(&mut take);
        events.clear();
    }
}

fn stages(criterion: &mut Criterion) {
    for (name, ring) in [("make", Ring::recorded(RECORDED)), ("storm", Ring::made_up())] {
        let fresh = || (Table::new(TableOptions::default()), Gaps::default());
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ring.lengths.len() as u64));
        group.bench_function("decode", |bench| {
            bench.iter(|| ring.records().for_each(|bytes| drop(black_box(decode(bytes)))));
        });
        group.bench_function("decode, table", |bench| {
            bench.iter_batched_ref(
                fresh,
                |(table, gaps)| tell(&ring, table, gaps, |event| _ = black_box(event)),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("decode, table, JSON", |bench| {
            let mut sink = Writer::new(JsonLines, io::sink());
            bench.iter_batched_ref(
                fresh,
                |(table, gaps)| tell(&ring, table, gaps, |event| sink.take(event).expect("it takes all")),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
