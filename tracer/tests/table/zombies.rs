//! Zombies: which process reaped them, and which parent does not.

use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};
use tracer::proc::Remains;
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, kinds, reaped, task};
use crate::model::padded;
use crate::model::{INIT, KTHREADD, Kernel, Nr};

const AFTER_NS: u64 = 1000 * MS;
const FATHER: raw::TaskRef = raw::TaskRef { start_ns: 100 * MS, tgid: 50, tid: 50 };

/// Returns a father, and a table that follows zombies.
fn father() -> Seen {
    let mut seen = Seen::with(TableOptions { zombie_after_ns: Some(AFTER_NS), ..TableOptions::default() });
    seen.apply(forked(fork(INIT_TASK, raw::TaskRef::default())));
    seen.apply(forked(fork(FATHER, INIT_TASK)));
    seen.apply(execed(exec(FATHER, INIT_TASK, 101 * MS)));
    seen
}

/// Adds a child of the father that runs from one time to another.
fn child(seen: &mut Seen, pid: u32, fork_ms: u64, exit_ms: u64) -> raw::TaskRef {
    let child = task(pid, fork_ms * MS);
    let mut raw = fork(child, FATHER);
    raw.comm = padded("ls");
    seen.apply(forked(raw));
    seen.apply(exited(exit(child, FATHER, exit_ms * MS)));
    child
}

/// Returns what is reported at a time while `/proc` has all of them as zombies.
fn tick(seen: &mut Seen, ms: u64) -> Vec<Event> {
    tick_with(seen, ms, Remains::Zombie, &[])
}

/// Likewise, but these are gone.
fn tick_without(seen: &mut Seen, ms: u64, gone: &[u32]) -> Vec<Event> {
    tick_with(seen, ms, Remains::None, gone)
}

/// Likewise, but these have the given remains.
fn tick_with(seen: &mut Seen, ms: u64, remains: Remains, of: &[u32]) -> Vec<Event> {
    let look = |id: ProcessId| if of.contains(&id.pid()) { remains } else { Remains::Zombie };
    seen.table.check_zombies(ms * MS, look, &mut seen.events);
    std::mem::take(&mut seen.events)
}

/// Returns pid, time as a zombie, and the process that reaped it.
fn reapings(events: &[Event]) -> Vec<(u32, Option<u64>, Option<u32>)> {
    let of = |event: &Event| {
        let reap = event.reap()?;
        Some((event.process.as_ref()?.pid, reap.zombie_ns.map(|ns| ns / MS), reap.by_pid))
    };
    events.iter().filter_map(of).collect()
}

/// Returns pid, time as a zombie, parent, and the number of zombies of that parent.
fn neglected(events: &[Event]) -> Vec<(u32, u64, Option<u32>, u64)> {
    let of = |event: &Event| {
        let zombie = event.zombie()?;
        Some((event.process.as_ref()?.pid, zombie.zombie_ns / MS, zombie.parent_pid, zombie.unreaped))
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_reap_reports_the_reaper_and_the_time_as_a_zombie() {
    let mut seen = father();
    let son = child(&mut seen, 60, 110, 120);
    let events = seen.apply(reaped(son, FATHER, 150 * MS));
    assert_eq!((kinds(&events), reapings(&events)), (vec![Kind::Reap], vec![(60, Some(30), Some(50))]));
    let reap = events[0].reap().unwrap();
    assert_eq!(reap.by_comm.as_deref(), Some("ls"));
    assert_eq!(events[0].process.as_ref().unwrap().parent_id, reap.by_id);
    assert!(tick(&mut seen, 5000).is_empty(), "it is gone");
    assert_eq!(seen.table.due_ns(), None);
    assert!(seen.apply(reaped(son, FATHER, 160 * MS)).is_empty(), "once is enough");
}

#[test]
fn without_a_request_nothing_is_reported() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(FATHER, INIT_TASK)));
    child(&mut seen, 60, 110, 120);
    assert_eq!(seen.table.due_ns(), None);
    assert!(tick(&mut seen, 5000).is_empty());
}

#[test]
fn a_zombie_names_its_parent_and_how_many_that_left() {
    let mut seen = father();
    for (pid, exit_ms) in [(60, 200), (61, 201), (62, 202), (63, 700)] {
        child(&mut seen, pid, 110, exit_ms);
    }
    seen.apply(reaped(task(61, 110 * MS), FATHER, 300 * MS));
    assert_eq!(seen.table.due_ns(), Some(1200 * MS));
    assert!(tick(&mut seen, 1199).is_empty());
    assert_eq!(neglected(&tick(&mut seen, 1202)), [(60, 1002, Some(50), 3), (62, 1000, Some(50), 3)]);
    assert!(tick(&mut seen, 1203).is_empty(), "each is reported once");
    assert_eq!(seen.table.due_ns(), Some(1700 * MS), "when the last one is due");
    assert_eq!(reapings(&seen.apply(reaped(task(60, 110 * MS), FATHER, 1250 * MS))), [(60, Some(1050), Some(50))]);
    assert_eq!(neglected(&tick(&mut seen, 1800)), [(63, 1100, Some(50), 2)]);
}

#[test]
fn when_the_parent_exits_init_has_to_reap_them() {
    let mut seen = father();
    let son = child(&mut seen, 60, 110, 120);
    seen.apply(exited(exit(FATHER, INIT_TASK, 130 * MS)));
    assert_eq!(
        neglected(&tick(&mut seen, 1200)),
        [(60, 1080, Some(1), 2), (50, 1070, Some(1), 2)],
        "the father's children and the father"
    );
    assert_eq!(reapings(&seen.apply(reaped(son, INIT_TASK, 1300 * MS))), [(60, Some(1180), Some(1))]);
    let nonsense = raw::TaskRef { start_ns: 0xdead_beef, tgid: 50, tid: 0x4141 };
    assert_eq!(
        reapings(&seen.apply(reaped(FATHER, nonsense, 1300 * MS))),
        [(50, Some(1170), Some(1))],
        "memory that was reused names no process"
    );
}

#[test]
fn an_exited_reaper_is_reported_and_not_the_process_that_reused_its_memory() {
    let mut seen = father();
    let son = child(&mut seen, 60, 110, 120);
    seen.apply(exited(exit(FATHER, INIT_TASK, 130 * MS)));
    let younger = task(70, 140 * MS);
    seen.apply(forked(fork(younger, INIT_TASK)));
    assert_eq!(reapings(&seen.apply(reaped(son, younger, 150 * MS))), [(60, Some(30), Some(50))]);
}

#[test]
fn a_zombie_whose_exit_was_missed_is_a_zombie() {
    let mut seen = father();
    let son = task(60, 110 * MS);
    seen.apply(forked(fork(son, FATHER)));
    assert_eq!(reapings(&seen.apply(reaped(son, FATHER, 150 * MS))), [(60, None, Some(50))]);
    assert!(seen.table.by_pid(60).is_none());
    assert!(seen.apply(reaped(task(70, 90 * MS), FATHER, 160 * MS)).is_empty(), "this one is unknown");
    assert!(seen.table.by_pid(70).is_none());
}

#[test]
fn a_pid_may_be_used_again_before_its_owner_is_reported_as_gone() {
    let mut seen = father();
    let first = child(&mut seen, 60, 110, 120);
    let second = task(60, 300 * MS);
    seen.apply(forked(fork(second, FATHER)));
    assert_eq!(reapings(&seen.apply(reaped(first, FATHER, 310 * MS))), [(60, Some(190), Some(50))]);
    assert_eq!(seen.table.by_pid(60).map(|living| living.start_ns()), Some(300 * MS), "the second still runs");
    let third = child(&mut seen, 61, 110, 120);
    seen.apply(forked(fork(task(61, 400 * MS), FATHER)));
    assert!(tick_without(&mut seen, 2000, &[61]).is_empty(), "{third:?} may not be reported as gone yet");
    let events = tick(&mut seen, 3000);
    assert_eq!((kinds(&events), reapings(&events)), (vec![Kind::Reap], vec![(61, None, Some(50))]));
    assert_eq!(
        events[0].process.as_ref().unwrap().id,
        ProcessId::from_ns(third.start_ns, 61),
        "not the process that has its pid now"
    );
}

#[test]
fn an_unreported_reap_is_reported_a_little_later() {
    let mut seen = father();
    for (pid, exit_ms) in [(60, 200), (61, 201), (62, 202)] {
        child(&mut seen, pid, 110, exit_ms);
    }
    assert_eq!(neglected(&tick_without(&mut seen, 1300, &[60, 61])), [(62, 1098, Some(50), 1)], "two are gone");
    assert_eq!(seen.table.due_ns(), Some(2300 * MS));
    assert_eq!(reapings(&seen.apply(reaped(task(61, 110 * MS), FATHER, 1250 * MS))), [(61, Some(1049), Some(50))]);
    assert!(tick(&mut seen, 2299).is_empty());
    let events = tick(&mut seen, 2300);
    assert_eq!(reapings(&events), [(60, None, Some(50))], "its father runs: no other process can have reaped it");
    assert!(events[0].is_inferred() && events[0].reap().unwrap().inferred);
    assert!(seen.apply(reaped(task(60, 110 * MS), FATHER, 2301 * MS)).is_empty(), "once is enough");
    seen.apply(reaped(task(62, 110 * MS), FATHER, 2302 * MS));
    assert_eq!(seen.table.due_ns(), None);
}

#[test]
fn a_reported_zombie_is_checked_less_and_less_often_until_it_is_gone() {
    let mut seen = father();
    child(&mut seen, 60, 110, 200);
    assert_eq!(neglected(&tick(&mut seen, 1200)), [(60, 1000, Some(50), 1)]);
    assert_eq!(seen.table.due_ns(), Some(2200 * MS));
    assert!(tick(&mut seen, 2200).is_empty());
    assert_eq!(seen.table.due_ns(), Some(4200 * MS));
    assert!(tick_without(&mut seen, 4200, &[60]).is_empty());
    assert_eq!(reapings(&tick(&mut seen, 5200)), [(60, None, Some(50))]);
    assert_eq!(seen.table.due_ns(), None);
}

#[test]
fn an_exiting_process_is_neither_a_zombie_nor_gone() {
    let mut seen = father();
    let son = child(&mut seen, 60, 110, 200);
    for ms in [1200, 2200, 3200] {
        assert_eq!(seen.table.due_ns(), Some(ms * MS));
        assert!(tick_with(&mut seen, ms, Remains::Ending, &[60]).is_empty());
    }
    assert_eq!(neglected(&tick(&mut seen, 4200)), [(60, 4000, Some(50), 1)]);
    assert_eq!(reapings(&seen.apply(reaped(son, FATHER, 4300 * MS))), [(60, Some(4100), Some(50))]);
}

#[test]
fn many_zombies_are_checked_in_parts() {
    let mut seen = father();
    for pid in 1000..2000 {
        child(&mut seen, pid, 110, 200);
    }
    let mut reported = 0;
    let mut parts = 0;
    while seen.table.due_ns().is_some_and(|due_ns| due_ns <= 1200 * MS) {
        let lines = neglected(&tick(&mut seen, 1200));
        assert!(!lines.is_empty() && lines.iter().all(|&(_, _, _, unreaped)| unreaped == 1000));
        (reported, parts) = (reported + lines.len(), parts + 1);
    }
    assert_eq!(reported, 1000);
    assert!(parts > 1);
}

#[test]
fn the_reaper_is_unknown_once_the_parent_has_exited() {
    let mut seen = father();
    child(&mut seen, 60, 110, 200);
    seen.apply(exited(exit(FATHER, INIT_TASK, 210 * MS)));
    assert!(tick_without(&mut seen, 1200, &[60]).is_empty());
    assert_eq!(reapings(&tick(&mut seen, 2200)), [(60, None, None)]);
}

#[test]
fn zombies_of_the_snapshot_are_followed_too() {
    let mut kernel = Kernel::boot(1000);
    let father = kernel.fork(INIT);
    let son = kernel.fork(father);
    let mut seen = Seen::with(TableOptions { zombie_after_ns: Some(AFTER_NS), ..TableOptions::default() });
    let mut seeds: Vec<_> = [INIT, KTHREADD, father].iter().map(|&nr| kernel.seed_of(nr)).collect();
    let mut dead = kernel.seed_of(son);
    dead.process.zombie = true;
    (dead.read_from_ns, dead.read_until_ns) = (4999 * MS, 5000 * MS);
    seeds.push(dead);
    seen.table.seed(seeds, &mut seen.events);
    seen.events.clear();
    let pid = |nr: Nr| kernel.task(nr).tgid;
    assert_eq!(neglected(&tick(&mut seen, 6500)), [(pid(son), 1500, Some(pid(father)), 1)]);
}
