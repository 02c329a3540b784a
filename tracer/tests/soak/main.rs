//! Millions of short processes through decoder and table: memory stays bounded, and nothing is dropped silently.
//!
//! Each test measures the memory of its process, so each runs in a separate one. The speed is printed, not asserted:
//! `cargo test --release -p tracer --test soak -- --nocapture` gives the figures of docs/benchmarks.md.
#![expect(clippy::expect_used, reason = "a test")]

#[path = "../decode/encode.rs"]
mod encode;
mod storm;

use std::process::Command;
use std::time::{Duration, Instant};

use storm::{DIFFERENT, MIXED, SAME, Storm};
use tracer::event::{Event, Kind};
use tracer::record::decode::decode;
use tracer::record::gaps::Gaps;
use tracer::table::{Table, TableOptions};

/// Number of processes of the soak.
const MANY: u64 = 5_000_000;

/// After this number, the table has reached its limits.
const WARM: u64 = 1_000_000;

const CEILING: usize = 48 << 20;

/// Memory that an allocator may use beyond the requested amount.
const SLACK: u64 = 8 << 20;

/// Runs a test in a separate process, in which it is the only one.
fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TRACER_SOAK_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let me = std::env::current_exe().expect("/proc is there");
    let done =
        Command::new(me).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().expect("the test starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    for line in text(&done.stdout).lines().filter(|line| line.starts_with("soak: ")) {
        println!("{line}");
    }
}

/// Returns the anonymous resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("since Linux 4.5");
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// The path of the records, up to the events.
struct Flow {
    gaps: Gaps,
    table: Table,
    events: Vec<Event>,
    /// Forks, execs and exits that were reported, and all events.
    reported: [u64; 3],
    all: u64,
}

impl Flow {
    fn new(max_dead: usize, max_bytes: usize) -> Self {
        let table = Table::new(TableOptions { max_dead, max_bytes, ..TableOptions::default() });
        Self { gaps: Gaps::default(), table, events: Vec::new(), reported: [0; 3], all: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let record = decode(bytes).expect("as the BPF programs write it");
        assert_eq!(self.gaps.observe(record.header()), None);
        self.table.apply(record, &mut self.events);
        for event in self.events.drain(..) {
            self.all += 1;
            let kind = [Kind::Fork, Kind::Exec, Kind::Exit].iter().position(|&kind| kind == event.kind());
            if let Some(kind) = kind {
                self.reported[kind] += 1;
            }
        }
    }
}

#[test]
fn millions_of_short_processes_stay_within_the_ceiling() {
    alone("millions_of_short_processes_stay_within_the_ceiling", || {
        let before = resident();
        let mut flow = Flow::new(usize::MAX, CEILING);
        let mut storm = Storm::new(MIXED);
        let (mut warm, mut most) = (0, 0);
        let (mut began, mut taken) = (Instant::now(), 0);
        for n in 1..=MANY {
            storm.step(|bytes| flow.take(bytes));
            assert!(flow.table.bytes() <= CEILING, "after {n}: {}", flow.table.bytes());
            if n % (MANY / 10) == 0 {
                let now = resident() - before;
                let records: u64 = storm.truth.iter().sum();
                report(n, records - taken, began.elapsed(), now, &flow.table);
                (began, taken) = (Instant::now(), records);
                assert!(now <= CEILING as u64 + SLACK, "after {n}: {now}");
                most = most.max(now);
                if n == WARM {
                    warm = now;
                }
            }
        }
        assert!(most <= warm + SLACK, "it grows: {warm} after {WARM}, {most} later");
        assert_eq!(flow.reported, storm.truth, "forks, execs and exits");
        let stats = flow.table.stats();
        let ends = storm.truth[2];
        assert_eq!(stats.dead_forgotten + flow.table.len_dead() as u64, ends, "exited processes are kept or counted");
        assert!(stats.dead_forgotten > MANY / 2 && stats.argv_forgotten == 0, "{stats:?}");
        assert_eq!((stats.merged, stats.retired), (0, 0), "{stats:?}");
    });
}

fn report(n: u64, records: u64, took: Duration, resident: u64, table: &Table) {
    println!(
        "soak: {n:>9} processes, {:>9.0} records/s, {:>5.1} MiB resident, {:>5.1} MiB by its own count, {} exited kept",
        records as f64 / took.as_secs_f64(),
        resident as f64 / f64::from(1 << 20),
        table.bytes() as f64 / f64::from(1 << 20),
        table.len_dead(),
    );
}

/// Returns the memory of an exited process that is kept, in bytes.
fn each(name: &str, commands: &[&[&str]]) -> u64 {
    const KEPT: u64 = 250_000;
    let before = resident();
    let mut flow = Flow::new(usize::MAX, usize::MAX);
    let mut storm = Storm::new(commands);
    for _ in 0..KEPT {
        storm.step(|bytes| flow.take(bytes));
    }
    let (taken, dead) = (resident() - before, flow.table.len_dead() as u64);
    println!("soak: {} bytes for each of {dead} exited processes that are kept, {name}", taken / dead);
    assert!(taken <= flow.table.bytes() as u64 + SLACK, "{taken} are resident, {} counted", flow.table.bytes());
    taken / dead
}

#[test]
fn an_exited_process_takes_little() {
    alone("an_exited_process_takes_little", || {
        assert!(each("repeated commands", SAME) <= 256);
    });
}

#[test]
fn an_exited_process_with_separate_arguments_takes_them_too() {
    alone("an_exited_process_with_separate_arguments_takes_them_too", || {
        assert!(each("each with separate arguments", DIFFERENT) <= 480);
    });
}
