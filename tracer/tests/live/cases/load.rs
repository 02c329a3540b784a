//! When records are lost: every one is counted, where it happened, and the tree is made right again.

use tracer::event::{Event, Kind};

use crate::support::{Case, Ident, Need, Run, Trace, case, check_schema};

use super::exit::assert_status;
use super::tree::{check_adoptions, check_births};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("load::overflow_is_told_exactly", overflow),
        case("load::tree_is_made_right_after_a_loss", tree_after_a_loss)
            .open("after a loss the tree is not yet made right from /proc"),
        case("load::large_ring_loses_nothing", large_ring).needs(&[Need::Alone]),
    ]
}

/// Processes made while tracer is stopped: many more than a ring of 64 KiB can hold.
const MANY: u64 = 3000;

/// Events that the kernel told of. An end that is only inferred has no status; a birth that is inferred is no fork.
fn told(trace: &Trace, kind: Kind) -> u64 {
    let seen = |event: &&Event| event.exit.as_ref().is_none_or(|exit| exit.code.is_some() || exit.signal.is_some());
    trace.of_kind(kind).filter(seen).count() as u64
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
    let lost: Vec<_> = trace.of_kind(Kind::Lost).filter_map(|event| event.lost.as_ref()).collect();
    assert!(!lost.is_empty() && bye.lost > 0, "64 KiB are not enough: {bye:?}");
    assert_eq!(lost.iter().map(|lost| lost.total).sum::<u64>(), bye.lost, "each loss is told where it happened");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
    for lost in &lost {
        assert_eq!(lost.total, lost.forks + lost.execs + lost.exits + lost.signals, "by type: {lost:?}");
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
    assert!(first.kind != Kind::Exit, "it is known before it ends: {first:?}");
    // The witness is not shown as alive for ever: its end is told, or inferred.
    assert_eq!(trace.of(witness, Kind::Exit).len(), 1, "it has ended: {:?}", trace.about(witness));
}

/// The same with room enough: nothing is lost, though nobody looked for a while.
fn large_ring() {
    let trace = Run::deed_with("stalled", &["500"]).trace();
    super::tree::check_tree(&trace);
    assert_eq!(told(&trace, Kind::Fork) - trace.of(trace.deed(), Kind::Fork).len() as u64, 500);
}
