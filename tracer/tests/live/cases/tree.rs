//! The parent of each process: at its fork, and when a parent exits.

use std::collections::{BTreeMap, BTreeSet};

use tracer::event::id::ProcessId;
use tracer::event::{Kind, ReparentReason};

use crate::support::{Case, Ident, Need, Run, Trace, TruthLine, case, check_sound};

use super::exit::assert_status;

pub(super) fn cases() -> Vec<Case> {
    let tree = |deed: &'static str, arguments: &'static [&'static str]| move || drop(tree(deed, arguments));
    vec![
        case("tree::orphan_goes_to_init", tree("tree-orphan", &["init"])),
        case("tree::orphan_goes_to_a_subreaper", tree("tree-orphan", &["subreaper"])),
        case("tree::subreaper_set_after_the_children_were_made", tree("tree-orphan", &["late"])),
        case("tree::subreaper_no_more", tree("tree-orphan", &["unset"])),
        case("tree::subreaper_that_dies", tree("tree-subreaper-dies", &[])),
        case("tree::nearest_of_two_subreapers", tree("tree-subreaper-nearest", &[])),
        case("tree::subreaper_whose_leader_has_ended", tree("tree-subreaper-leaderless", &[])),
        case("tree::orphan_62_below_a_subreaper", tree("tree-deep", &["62"])),
        case("tree::orphan_63_below_a_subreaper", tree("tree-deep", &["63"])),
        case("tree::orphan_100_below_a_subreaper", tree("tree-deep", &["100"])),
        case("tree::double_fork_daemon", daemon),
        case("tree::fifty_orphans_at_once", fifty),
        case("tree::forking_thread_ends_process_lives", tree("tree-thread", &["stays"])),
        case("tree::forking_thread_ends_then_its_process", tree("tree-thread", &["then-process"])),
        case("tree::clone_parent", clone_parent),
        case("tree::namespace_orphan_goes_to_its_init", tree("ns-orphan", &["init"])),
        case("tree::namespace_orphan_goes_to_a_subreaper_inside", tree("ns-orphan", &["subreaper"])),
        case("tree::namespace_in_a_namespace", nested),
        case("tree::namespace_init_dies_and_all_in_it", init_dies),
        case("tree::namespace_joined_from_outside", tree("ns-joined", &[])),
        case("tree::namespace_init_loses_its_parent", tree("ns-outer-parent", &[])),
        // Before 6.14 pid_max applies to the whole machine.
        case("tree::namespace_with_few_pids", || {
            let trace = Run::deed("ns-pid-max").trace();
            check_tree(&trace);
        })
        .needs(&[Need::Kernel(6, 14)]),
        case("tree::chosen_pids", tree("pid-chosen", &[])),
        case("tree::pid_used_again", tree("pid-reuse", &["20", "25"])),
        case("tree::pid_used_again_at_once", pid_used_again_at_once),
        // Alone: a machine-wide stream that starts meanwhile cannot distinguish processes that had the same pid
        // within a tick.
        case("tree::eight_pids_used_over_and_over", cycle).needs(&[Need::Alone]),
    ]
}

fn tree(deed: &str, arguments: &[&str]) -> Trace {
    let trace = Run::deed_with(deed, arguments).trace();
    check_tree(&trace);
    trace
}

/// Compares each fork, adoption and exit in the truth with the trace, and asserts that there are no other adoptions.
pub(super) fn check_tree(trace: &Trace) {
    check_sound(trace);
    check_forks(trace);
    check_adoptions(trace);
    for said in trace.truth.all("unmoved") {
        let parent: Ident = said.get("parent");
        let seen = trace.about(said.id());
        let first = seen.first().and_then(|event| event.process.as_ref()).expect("it was forked");
        assert_eq!(first.parent_id, Some(parent.id()), "{said:?}");
    }
    for said in trace.truth.all("ended") {
        assert_status(trace.exit(said.id()), said.get("status"));
    }
}

pub(super) fn check_forks(trace: &Trace) {
    let born = trace.truth.all("born");
    assert!(!born.is_empty(), "the truth has no fork");
    for said in born {
        let process = trace.process(said.id(), Kind::Fork);
        let (parent, creator): (Ident, Ident) = (said.get("parent"), said.get("creator"));
        assert_eq!(process.parent_id, Some(parent.id()), "{said:?}");
        assert_eq!(
            process.creator_id,
            (creator != parent).then(|| creator.id()),
            "reported when it is not the parent: {said:?}"
        );
        let ns_pids: Vec<u32> = said.get("ns_pids");
        assert_eq!(
            process.ns_pids.as_deref(),
            (ns_pids.len() > 1).then_some(&*ns_pids),
            "reported when nested: {said:?}"
        );
    }
}

/// Compares the adoptions of each process, in order.
pub(super) fn check_adoptions(trace: &Trace) {
    let mut truth: BTreeMap<ProcessId, Vec<&TruthLine>> = BTreeMap::new();
    for said in trace.truth.all("born") {
        truth.entry(said.id()).or_default();
    }
    for said in trace.truth.all("adopted") {
        truth.entry(said.id()).or_default().push(said);
    }
    for (id, adoptions) in truth {
        let reported: Vec<_> = trace.of(id, Kind::Reparent).into_iter().filter_map(|event| event.reparent()).collect();
        assert_eq!(
            reported.len(),
            adoptions.len(),
            "{id:?} was adopted so: {adoptions:?}, and the trace reports {reported:?}"
        );
        for (reported, said) in reported.iter().zip(adoptions) {
            let (from, to): (Ident, Ident) = (said.get("from"), said.get("to"));
            assert_eq!(
                (reported.from_id, reported.to_id, reported.to_pid),
                (from.id(), Some(to.id()), to.pid),
                "{said:?}"
            );
            assert_eq!(reported.reason, reason(trace, to), "{said:?}");
        }
    }
}

/// Returns why: the new parent is the init of the namespace (the machine's is 1), or a subreaper. The deeds have no
/// other adopters.
fn reason(trace: &Trace, to: Ident) -> ReparentReason {
    if to.pid == 1 || trace.truth.all("init").iter().any(|init| init.ident() == to) {
        ReparentReason::Init
    } else {
        ReparentReason::Subreaper
    }
}

fn daemon() {
    let trace = tree("tree-daemon", &[]);
    let adopted = trace.truth.one("adopted").id();
    let last = trace.process(adopted, Kind::Exit);
    assert_ne!(last.sid, Some(last.pid), "it did not start the session");
    let leader = last.sid.expect("it is in a session");
    let known = trace.truth.all("born").iter().any(|said| said.get::<u32>("pid") == leader);
    assert!(known, "its session is that of the process in the middle: {last:?}");
}

fn fifty() {
    let trace = tree("tree-many", &[]);
    assert_eq!(trace.count(Kind::Reparent), 50);
}

fn clone_parent() {
    let trace = tree("tree-clone-parent", &[]);
    let brother = trace.truth.one("unmoved").id();
    let process = trace.process(brother, Kind::Exit);
    assert_eq!(process.parent_id, Some(trace.deed()));
    assert!(process.creator_id.is_some(), "still reported at the exit: {process:?}");
}

fn nested() {
    let trace = tree("ns-nested", &[]);
    let deepest = trace.truth.all("born").iter().map(|said| said.get::<Vec<u32>>("ns_pids").len()).max();
    assert_eq!(deepest, Some(3), "two levels below the first");
}

/// The kernel kills them one by one. A process that outlives its parent briefly is reparented to the exiting init,
/// and never further.
fn init_dies() {
    let trace = Run::deed("ns-init-dies").trace();
    check_sound(&trace);
    check_forks(&trace);
    let init = trace.truth.one("ended");
    assert_status(trace.exit(init.id()), init.get("status"));
    let doomed = trace.truth.all("doomed");
    assert_eq!(doomed.len(), 6);
    for said in doomed {
        let exit = trace.exit(said.id());
        assert_eq!(exit.signal.as_deref(), Some("SIGKILL"), "the kernel kills them: {exit:?}");
        for event in trace.of(said.id(), Kind::Reparent) {
            let reparent = event.reparent().expect("a reparent line has `reparent`");
            assert_eq!((reparent.to_id, reparent.reason), (Some(init.id()), ReparentReason::Init), "{said:?}");
        }
    }
}

/// Within one clock tick the ids are the same. The trace must still have the right number of processes, and the exit
/// of each.
fn pid_used_again_at_once() {
    let trace = Run::deed_with("pid-reuse", &["60", "0"]).trace();
    check_sound(&trace);
    let ended = trace.truth.all("ended");
    let pid = ended[0].ident().pid;
    let of = |kind| trace.of_kind(kind).filter(move |event| event.process.as_ref().is_some_and(|p| p.pid == pid));
    assert_eq!(of(Kind::Fork).count(), 60);
    let exits: Vec<_> = of(Kind::Exit).collect();
    assert_eq!(exits.len(), 60);
    for (event, said) in exits.iter().zip(ended) {
        assert_eq!(event.process.as_ref().map(|process| process.id), Some(said.id()), "in order");
        assert_status(event.exit().expect("an exit line has `exit`"), said.get("status"));
    }
}

/// The same pids, but never within one clock tick of each other: each id is reported once.
fn cycle() {
    let trace = tree("pid-cycle", &[]);
    let (born, ended) = (trace.truth.all("born"), trace.truth.all("ended"));
    let identities: BTreeSet<ProcessId> = born.iter().map(|said| said.id()).collect();
    assert_eq!(identities.len(), born.len(), "no two are the same");
    let pids: BTreeSet<u32> = ended.iter().map(|said| said.ident().pid).collect();
    assert!(pids.len() < ended.len() / 2, "pids are used again: {} for {}", pids.len(), ended.len());
    assert_eq!(
        trace.count(Kind::Fork) as usize,
        born.len() + usize::from(!trace.of(trace.deed(), Kind::Fork).is_empty())
    );
}
