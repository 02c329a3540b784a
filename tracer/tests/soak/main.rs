//! Millions of short processes through decoder and table: memory stays where it is, and nothing is forgotten in silence.
//!
//! Each test looks at the memory of its process, so each has one of its own. How fast it goes is said, not asserted:
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

/// Processes of the soak.
const MANY: u64 = 5_000_000;

/// After so many, the table has what it may have.
const WARM: u64 = 1_000_000;

const CEILING: usize = 48 << 20;

/// What an allocator may take beyond what was asked for.
const SLACK: u64 = 8 << 20;

/// Runs a test in a process of its own, in which this is the only one.
fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TRACER_SOAK_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let me = std::env::current_exe().expect("/proc is there");
    let done = Command::new(me).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    for line in text(&done.stdout).lines().filter(|line| line.starts_with("soak: ")) {
        println!("{line}");
    }
}

/// Resident memory of this process that is its own, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("since Linux 4.5");
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// What the records go through, up to the events.
struct Flow {
    gaps: Gaps,
    table: Table,
    events: Vec<Event>,
    /// Forks, execs and exits that were told, and all events.
    told: [u64; 3],
    all: u64,
}

impl Flow {
    fn new(max_dead: usize, max_bytes: usize) -> Self {
        let table = Table::new(TableOptions { max_dead, max_bytes, ..TableOptions::default() });
        Self { gaps: Gaps::default(), table, events: Vec::new(), told: [0; 3], all: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let record = decode(bytes).expect("it is as the kernel side writes it");
        assert_eq!(self.gaps.observe(record.header()), None);
        self.table.apply(record, &mut self.events);
        for event in self.events.drain(..) {
            self.all += 1;
            let kind = [Kind::Fork, Kind::Exec, Kind::Exit].iter().position(|&kind| kind == event.kind());
            if let Some(kind) = kind {
                self.told[kind] += 1;
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
        assert_eq!(flow.told, storm.truth, "births, execs and ends");
        let stats = flow.table.stats();
        let ends = storm.truth[2];
        assert_eq!(stats.dead_forgotten + flow.table.len_dead() as u64, ends, "the dead are remembered or counted");
        assert!(stats.dead_forgotten > MANY / 2 && stats.argv_forgotten == 0, "{stats:?}");
        assert_eq!((stats.merged, stats.retired), (0, 0), "{stats:?}");
    });
}

fn report(n: u64, records: u64, took: Duration, resident: u64, table: &Table) {
    println!(
        "soak: {n:>9} processes, {:>9.0} records/s, {:>5.1} MiB resident, {:>5.1} MiB by its own count, {} dead kept",
        records as f64 / took.as_secs_f64(),
        resident as f64 / f64::from(1 << 20),
        table.bytes() as f64 / f64::from(1 << 20),
        table.len_dead(),
    );
}

/// Memory of one that is dead and kept, in bytes.
fn each(name: &str, commands: &[&[&str]]) -> u64 {
    const KEPT: u64 = 250_000;
    let before = resident();
    let mut flow = Flow::new(usize::MAX, usize::MAX);
    let mut storm = Storm::new(commands);
    for _ in 0..KEPT {
        storm.step(|bytes| flow.take(bytes));
    }
    let (taken, dead) = (resident() - before, flow.table.len_dead() as u64);
    println!("soak: {} bytes for each of {dead} dead that are kept, {name}", taken / dead);
    assert!(taken <= flow.table.bytes() as u64 + SLACK, "{taken} are resident, {} counted", flow.table.bytes());
    taken / dead
}

#[test]
fn one_that_is_dead_takes_little() {
    alone("one_that_is_dead_takes_little", || {
        assert!(each("commands that come again", SAME) <= 256);
    });
}

#[test]
fn one_that_is_dead_and_had_arguments_of_its_own_takes_them_too() {
    alone("one_that_is_dead_and_had_arguments_of_its_own_takes_them_too", || {
        assert!(each("each with arguments of its own", DIFFERENT) <= 480);
    });
}
