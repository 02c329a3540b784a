//! When records are lost: every one is counted, where it happened, and the tree is made right again.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracer::event::{Capture, Event, Kind, Lost};

use crate::support::{
    BOUND, Case, Guarded, Ident, Need, Run, Stream, Trace, case, check_schema, deed_arguments, run_bounded,
};

use super::attach::check_relation;
use super::exit::assert_status;
use super::tree::{check_adoptions, check_births};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("load::overflow_is_told_exactly", overflow),
        case("load::tree_is_made_right_after_a_loss", tree_after_a_loss),
        // The ring is as small when all is to be right again: others would fill it anew.
        case("load::whole_machine_is_right_after_a_loss", machine_after_a_loss).needs(&[Need::Alone]),
        case("load::degrades_before_it_loses", degrades),
        case("load::large_ring_loses_nothing", large_ring).needs(&[Need::Alone]),
    ]
}

/// Processes made while tracer is stopped: many more than a ring of 64 KiB can hold.
const MANY: u64 = 3000;

/// Events that the kernel told of.
fn told(trace: &Trace, kind: Kind) -> u64 {
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
    assert_eq!(lost.iter().map(|lost| lost.total).sum::<u64>(), bye.lost, "each loss is told where it happened");
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
    // Born: the many, a witness, a survivor, one in the middle and its orphan. The deed itself may be found instead.
    let forks = told(&trace, Kind::Fork) - trace.of(trace.deed(), Kind::Fork).len() as u64;
    assert_eq!(forks + lost.iter().map(|lost| lost.forks).sum::<u64>(), many + 4, "forks: {lost:?}");
    let exits = told(&trace, Kind::Exit);
    assert_eq!(exits + lost.iter().map(|lost| lost.exits).sum::<u64>(), many + 5, "exits: {lost:?}");
    // It happened while tracer was stopped.
    let (from, to): (u64, u64) = (trace.truth.one("overflow").get("from"), trace.truth.one("overflow").get("to"));
    for lost in &lost {
        assert!(lost.after_boot_ns.is_none_or(|after| after < to), "{lost:?}, stopped from {from} to {to}");
        assert!(lost.before_boot_ns.is_none_or(|before| before > from), "{lost:?}, stopped from {from} to {to}");
    }
}

/// What came after the loss is right, and what could not be seen is inferred.
fn tree_after_a_loss() {
    let trace = overflown();
    let witness = trace.truth.one("lost end").id();
    check_births(&trace);
    check_adoptions(&trace);
    for said in trace.truth.all("ended") {
        assert_status(trace.exit(said.id()), said.get("status"));
    }
    let survivor = trace.truth.one("survivor").id();
    let parent: Ident = trace.truth.one("now").get("parent");
    let last = trace.process(survivor, Kind::Exit);
    assert_eq!(last.parent_id, Some(parent.id()), "whose birth may be lost, its parent is known: {last:?}");
    let first = trace.about(survivor)[0];
    assert!(first.kind() != Kind::Exit, "it is known before it ends: {first:?}");
    // The witness is not shown as alive for ever: its end is told, or inferred.
    assert_eq!(trace.of(witness, Kind::Exit).len(), 1, "it has ended: {:?}", trace.about(witness));
}

/// The whole machine, when the tracer of all of it could not keep up: once it can, all that lives is known, with its parent.
fn machine_after_a_loss() {
    let stream = Stream::start(&["--ring-size=64K", "--argv-max=4K"]);
    let tracer = Pid::from_raw(stream.pid() as i32);
    kill(tracer, Signal::SIGSTOP).expect("it is ours");
    let place = tempfile::tempdir().expect("a temporary directory");
    // Some of those that are born unseen stay, an end or an exec of others is missed.
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
    assert!(stays.iter().all(|stays| stable.iter().any(|stat| stat.pid == stays.pid())), "they stay");
    drop(stays);
    let trace = stream.stop();
    check_schema(&trace);
    let bye = trace.bye();
    assert!(bye.lost > 0 && bye.inferred >= 20, "{bye:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
}

/// As the ring fills, long arguments are cut first, then paths are left out, then whole execs; births and ends are last.
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
            other => panic!("neither whole nor degraded: {other:?} of {info:?}"),
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
    assert_eq!((sum(|lost| lost.forks), sum(|lost| lost.exits)), (0, 0), "births and ends have room: {lost:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
}

/// The same with room enough: nothing is lost, though nobody looked for a while.
fn large_ring() {
    let trace = Run::deed_with("stalled", &["500"]).trace();
    super::tree::check_tree(&trace);
    assert_eq!(told(&trace, Kind::Fork) - trace.of(trace.deed(), Kind::Fork).len() as u64, 500);
}
