//! Lost records: each one is counted where it happened, and the tree is repaired.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracer::event::{Capture, Event, Kind, Lost};

use crate::support::{
    BOUND, Case, Guarded, Ident, Need, Run, Stream, Trace, case, check_schema, deed_arguments, run_bounded,
};

use super::attach::check_relation;
use super::exit::assert_status;
use super::tree::{check_adoptions, check_forks};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("load::overflow_is_told_exactly", overflow),
        case("load::tree_is_made_right_after_a_loss", tree_after_a_loss),
        // Alone: the ring is still small while the state is repaired, and other cases would fill it again.
        case("load::whole_machine_is_right_after_a_loss", machine_after_a_loss).needs(&[Need::Alone]),
        case("load::degrades_before_it_loses", degrades),
        case("load::large_ring_loses_nothing", large_ring).needs(&[Need::Alone]),
    ]
}

/// Number of processes forked while tracer is stopped: far more than a ring of 64 KiB can hold.
const MANY: u64 = 3000;

/// Returns the number of events that the kernel reported.
fn from_kernel(trace: &Trace, kind: Kind) -> u64 {
    trace.of_kind(kind).filter(|event| !event.is_inferred()).count() as u64
}

fn overflown() -> Trace {
    Run::deed_with("overflow", &[&MANY.to_string(), "@events"])
        .option("--ring-size=64K")
        .option("--argv-max=4K")
        .trace()
}

fn overflow() {
    let trace = overflown();
    check_schema(&trace);
    let bye = trace.bye();
    let lost: Vec<_> = trace.of_kind(Kind::Lost).filter_map(|event| event.lost()).collect();
    assert!(!lost.is_empty() && bye.lost > 0, "64 KiB are not enough: {bye:?}");
    assert_eq!(lost.iter().map(|lost| lost.total).sum::<u64>(), bye.lost, "each loss is reported where it happened");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
    assert_eq!(
        bye.inferred,
        trace.events().filter(|event| event.is_inferred() && !event.kind().is_framing()).count() as u64
    );
    for lost in &lost {
        let by_type = lost.forks + lost.execs + lost.exits + lost.signals + lost.cgroups;
        assert_eq!(lost.total, by_type, "by type: {lost:?}");
    }
    let many = MANY + trace.truth.one("more").get::<u64>("more");
    // Forked: the many, a witness, a survivor, one in the middle and its orphan. The deed itself may be found
    // instead.
    let forks = from_kernel(&trace, Kind::Fork) - trace.of(trace.deed(), Kind::Fork).len() as u64;
    assert_eq!(forks + lost.iter().map(|lost| lost.forks).sum::<u64>(), many + 4, "forks: {lost:?}");
    let exits = from_kernel(&trace, Kind::Exit);
    assert_eq!(exits + lost.iter().map(|lost| lost.exits).sum::<u64>(), many + 5, "exits: {lost:?}");
    // The loss happened while tracer was stopped.
    let (from, to): (u64, u64) = (trace.truth.one("overflow").get("from"), trace.truth.one("overflow").get("to"));
    for lost in &lost {
        assert!(lost.after_boot_ns.is_none_or(|after| after < to), "{lost:?}, stopped from {from} to {to}");
        assert!(lost.before_boot_ns.is_none_or(|before| before > from), "{lost:?}, stopped from {from} to {to}");
    }
}

/// Events after the loss are correct, and missing ones are inferred.
fn tree_after_a_loss() {
    let trace = overflown();
    let witness = trace.truth.one("lost end").id();
    check_forks(&trace);
    check_adoptions(&trace);
    for said in trace.truth.all("ended") {
        assert_status(trace.exit(said.id()), said.get("status"));
    }
    let survivor = trace.truth.one("survivor").id();
    let parent: Ident = trace.truth.one("now").get("parent");
    let last = trace.process(survivor, Kind::Exit);
    assert_eq!(last.parent_id, Some(parent.id()), "its fork may be lost, but its parent is known: {last:?}");
    let first = trace.about(survivor)[0];
    assert!(first.kind() != Kind::Exit, "it is reported before it exits: {first:?}");
    // The witness does not stay in the tree forever: its exit is reported or inferred.
    assert_eq!(trace.of(witness, Kind::Exit).len(), 1, "it has exited: {:?}", trace.about(witness));
}

/// The tracer of the whole machine could not keep up. Once it can, every running process is known with its parent.
fn machine_after_a_loss() {
    let stream = Stream::start(&["--ring-size=64K", "--argv-max=4K"]);
    let tracer = Pid::from_raw(stream.pid() as i32);
    kill(tracer, Signal::SIGSTOP).expect("it is ours");
    let place = tempfile::tempdir().expect("a temporary directory");
    // Some processes whose fork is missed stay. For others an exit or an exec is missed.
    let mut stays: Vec<Guarded> = Vec::new();
    for _ in 0..20 {
        for _ in 0..50 {
            let arguments = deed_arguments("nothing", &place.path().join("nothing"), &[]);
            run_bounded(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()), BOUND);
        }
        stays.push(Guarded::spawn(Command::new("sh").args(["-c", "sleep 300; :"]).stdin(Stdio::null())));
    }
    kill(tracer, Signal::SIGCONT).expect("it is ours");
    stream.wait_for("\"event\":\"lost\"");
    let known = |pid: u32| {
        move |event: &Event| {
            event.process.as_ref().is_some_and(|process| process.pid == pid && process.image.argv.is_some())
        }
    };
    for stays in &stays {
        stream.events_until(&known(stays.pid()));
    }
    let stable = check_relation(&stream);
    assert!(stays.iter().all(|stays| stable.iter().any(|stat| stat.pid == stays.pid())), "they run");
    drop(stays);
    let trace = stream.stop();
    check_schema(&trace);
    let bye = trace.bye();
    assert!(bye.lost > 0 && bye.inferred >= 20, "{bye:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
}

/// As the ring fills, long arguments are truncated first, then paths are left out, then whole execs. Forks and exits
/// come last.
fn degrades() {
    let many = 80;
    let run = Run::deed_with("filling", &[&many.to_string()]);
    let trace = run.option("--ring-size=256K").option("--argv-max=16K").trace();
    check_schema(&trace);
    let bye = trace.bye();
    let level = |event: &Event| {
        let info = event.argv_info().expect("an exec has it");
        let paths = event.exec().expect("an exec has it").exe_capture;
        let degraded = Some(Capture::Degraded);
        match (info.captured, info.reason, paths) {
            (captured, None, None) if captured == info.bytes => 0,
            (4096, reason, None) if reason == degraded => 1,
            (0, reason, paths) if (reason, paths) == (degraded, degraded) => 2,
            other => panic!("neither complete nor degraded: {other:?} of {info:?}"),
        }
    };
    let is_true =
        |event: &&Event| event.process.as_ref().is_some_and(|process| process.image.comm.as_deref() == Some("true"));
    let execs = trace.of_kind(Kind::Exec).filter(|event| !event.is_inferred()).filter(is_true);
    let levels: Vec<usize> = execs.map(level).collect();
    assert!(levels.is_sorted(), "{levels:?}");
    let [whole, cut, bare] = [0, 1, 2].map(|wanted| levels.iter().filter(|&&level| level == wanted).count() as u64);
    assert!(whole > 0 && cut > 0 && bare > 0, "{levels:?}");
    assert_eq!((bye.argv_degraded, bye.paths_degraded), (cut + bare, bare));
    let lost: Vec<_> = trace.of_kind(Kind::Lost).filter_map(|event| event.lost()).collect();
    let sum = |of: fn(&Lost) -> u64| lost.iter().map(|lost| of(lost)).sum::<u64>();
    assert!(sum(|lost| lost.execs) > 0, "{bye:?}");
    assert_eq!(levels.len() as u64 + sum(|lost| lost.execs), many, "{bye:?}");
    assert_eq!((sum(|lost| lost.forks), sum(|lost| lost.exits)), (0, 0), "forks and exits are kept: {lost:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
}

/// The same with a larger ring: nothing is lost, although tracer did not read for a while.
fn large_ring() {
    let trace = Run::deed_with("stalled", &["500"]).trace();
    super::tree::check_tree(&trace);
    assert_eq!(from_kernel(&trace, Kind::Fork) - trace.of(trace.deed(), Kind::Fork).len() as u64, 500);
}
