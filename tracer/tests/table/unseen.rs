//! Processes that no record reported, and processes that only `/proc` reported.

use tracer::event::id::ProcessId;
use tracer::event::time::Timestamp;
use tracer::event::{Kind, Provenance, ReparentReason};
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, kinds, moves, task};
use crate::model::{INIT, KTHREADD, Kernel, Nr};

#[test]
fn an_unknown_parent_becomes_known() {
    let mut seen = Seen::new();
    let (father, brother) = (task(40, 90 * MS), task(41, 95 * MS));
    let raw = raw::Fork { parent: father, ..fork(task(50, 100 * MS), brother) };
    let events = seen.apply(forked(raw));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Process, Kind::Fork]);
    for event in &events[..2] {
        let process = event.process.as_ref().unwrap();
        assert!(process.inferred);
        assert_eq!((process.source, process.ppid, event.boot_ns), (Provenance::Kernel, None, Some(raw.header.boot_ns)));
    }
    assert_eq!(events[0].process.as_ref().unwrap().id, ProcessId::from_ns(95 * MS, 41));
    let child = events[2].process.as_ref().unwrap();
    assert_eq!(child.parent_id, Some(ProcessId::from_ns(90 * MS, 40)));
    assert!(!child.inferred);
    assert_eq!(seen.table.stats().inferred, 2);

    // The parent in a later record is taken without a reparenting.
    let events = seen.apply(execed(exec(brother, father, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec]);
    assert_eq!(seen.parent(41), Some(40));
}

#[test]
fn an_exec_of_an_unknown_process_makes_it_known_first() {
    let mut seen = Seen::new();
    let mut exec = exec(task(50, 100 * MS), INIT_TASK, 110 * MS);
    (exec.raw.ids.euid, exec.raw.old_euid) = (0, 1000);
    let events = seen.apply(execed(exec));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Process, Kind::Exec]);
    let (before, after) = (events[1].process.as_ref().unwrap(), events[2].process.as_ref().unwrap());
    assert_eq!((before.pid, before.ppid, before.inferred), (50, Some(1), true));
    assert_eq!(
        (before.image.exe.clone(), before.image.argv.clone(), before.image.comm.clone(), before.execs),
        (None, None, None, 0)
    );
    assert_eq!((before.uid, before.euid), (Some(1000), None), "as it was before");
    assert_eq!((after.euid, after.execs, after.inferred), (Some(0), 1, true));
    assert_eq!(events[2].exec().unwrap().previous_exe, None);
}

#[test]
fn an_exit_of_an_unknown_process_makes_it_known_first() {
    let mut seen = Seen::new();
    let events = seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Process, Kind::Exit]);
    assert_eq!(events[1].process.as_ref().unwrap().image.comm.as_deref(), Some("ls"));
    assert_eq!(events[2].exit().unwrap().duration_ns, Some(10 * MS));
    assert_eq!((seen.table.len_living(), seen.table.len_dead()), (1, 1));
}

#[test]
fn a_process_whose_pid_is_used_again_has_exited_without_an_exit() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK)));
    seen.apply(forked(fork(task(51, 110 * MS), task(50, 100 * MS))));
    let events = seen.apply(forked(fork(task(50, 200 * MS), INIT_TASK)));
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent, Kind::Fork]);
    assert!(events[0].process.as_ref().unwrap().inferred);
    assert_eq!(events[0].exit(), Some(&tracer::event::Exit::default()), "its status is unknown");
    assert_eq!(moves(&events), [(51, 50, 1, ReparentReason::Init)]);
    let old = seen.table.by_id(ProcessId::from_ns(100 * MS, 50)).unwrap();
    assert_eq!((old.is_living(), old.status(), old.end_ns()), (false, None, Some(200 * MS + 1000)));
    assert_eq!(seen.table.stats().retired, 1);

    // An exit is reported once.
    assert!(seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 150 * MS))).is_empty());
    assert_eq!(seen.table.by_pid(50).map(|process| process.start_ns()), Some(200 * MS));
}

#[test]
fn a_record_of_a_forgotten_process_does_not_end_a_running_one() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 200 * MS), INIT_TASK)));
    assert!(seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 300 * MS))).is_empty());
    assert_eq!(seen.table.by_pid(50).map(|process| process.start_ns()), Some(200 * MS));
}

#[test]
fn an_exit_whose_reaper_is_unknown_leaves_the_children_to_init() {
    let (mut seen, mut kernel) = Seen::booted();
    let reaper = kernel.fork(INIT);
    let father = kernel.fork(reaper);
    let (a, b) = (kernel.fork(father), kernel.fork(father));
    seen.follow(&mut kernel);
    let pid = |nr: Nr| kernel.procs[nr].pid;
    let unknown = |nr: Nr| raw::Exit {
        reaper: raw::TaskRef::default(),
        ..exit(kernel.task(nr), kernel.task(kernel.procs[nr].parent.unwrap()), kernel.now)
    };
    let events = seen.apply(exited(unknown(father)));
    assert_eq!(
        moves(&events),
        [(pid(a), pid(father), 1, ReparentReason::Init), (pid(b), pid(father), 1, ReparentReason::Init)]
    );
}

#[test]
fn a_process_of_the_snapshot_has_its_parent_and_keeps_its_source() {
    let mut kernel = Kernel::boot(100);
    let child = kernel.fork(INIT);
    kernel.exec(child);
    kernel.ring.clear();
    let mut seen = Seen::with(TableOptions { utc_minus_boot_ns: 7, ..TableOptions::default() });
    // The child first: parents are reported before their children anyway.
    seen.table.seed([child, KTHREADD, INIT].map(|nr| kernel.seed_of(nr)).into(), &mut seen.events);
    let events = std::mem::take(&mut seen.events);
    let order: Vec<u32> = events.iter().map(|event| event.process.as_ref().unwrap().pid).collect();
    assert_eq!(order, [1, 2, kernel.procs[child].pid]);
    assert_eq!(events[2].process.as_ref().unwrap().parent_id, Some(kernel.id(INIT)));
    assert_eq!(events[0].process.as_ref().unwrap().ppid, Some(0));
    assert_eq!((events[2].boot_ns, events[2].cpu), (None, None), "not an event of the kernel");
    assert_eq!(events[2].time, Timestamp(kernel.now as i64 + 7));

    kernel.exit(child, 0);
    let events = seen.follow(&mut kernel);
    let process = events[0].process.as_ref().unwrap();
    assert_eq!((process.source, process.image.exe.as_deref()), (Provenance::Procfs, Some("/bin/x1")));
    let exact = kernel.procs[child].start_ns;
    assert_eq!(process.start_time, Some(Timestamp(exact as i64 + 7)), "the record has it to the nanosecond");
    assert_eq!(process.id, kernel.id(child));
}

#[test]
fn a_zombie_of_the_snapshot_has_no_exit() {
    let mut kernel = Kernel::boot(100);
    let child = kernel.fork(INIT);
    kernel.exit_begin(child, 0);
    kernel.submit(child);
    assert!(kernel.exit_notify(child));
    kernel.ring.clear();
    let mut seen = Seen::new();
    seen.table.seed([INIT, KTHREADD, child].map(|nr| kernel.seed_of(nr)).into(), &mut seen.events);
    let process = seen.events[2].process.as_ref().unwrap();
    assert!(process.zombie);
    assert_eq!(process.ppid, Some(1));
    assert!(seen.table.by_pid(kernel.procs[child].pid).is_none());
    assert_eq!(seen.table.len_dead(), 1);
}

#[test]
fn children_of_a_process_found_exiting_wait_for_a_recheck() {
    let mut kernel = Kernel::boot(100);
    let reaper = kernel.fork(INIT);
    kernel.set_subreaper(reaper, true);
    let father = kernel.fork(reaper);
    let children = [kernel.fork(father), kernel.fork(father), kernel.fork(father)];
    kernel.exit_begin(father, 0);
    kernel.submit(father);
    kernel.ring.clear();
    let mut seen = Seen::new();
    let mut seeds: Vec<_> = (0..kernel.procs.len()).map(|nr| kernel.seed_of(nr)).collect();
    for seed in &mut seeds {
        seed.process.zombie |= seed.exiting;
    }
    seen.table.seed(seeds, &mut seen.events);
    seen.events.clear();
    let pid = |nr: Nr| kernel.procs[nr].pid;
    let pids = children.map(pid);
    assert_eq!(seen.table.unsettled().map(|process| process.pid()).collect::<Vec<_>>(), pids);
    assert_eq!(seen.parent(pids[0]), Some(pid(father)), "as in the kernel");

    // The next check is too early. Then one of the children shows it for all of them.
    seen.table.settle(&kernel.seed_of(children[1]), &mut seen.events);
    assert!(seen.events.is_empty());
    assert!(kernel.exit_notify(father));
    kernel.pass(1000);
    seen.table.settle(&kernel.seed_of(children[1]), &mut seen.events);
    let reaper = kernel.procs[reaper].pid;
    let father = kernel.procs[father].pid;
    let mut found = moves(&seen.events);
    found.sort_by_key(|&(pid, ..)| pid);
    assert_eq!(found, pids.map(|pid| (pid, father, reaper, ReparentReason::Subreaper)));
    assert_eq!(seen.table.unsettled().count(), 0);
}

#[test]
fn a_late_exit_is_reported() {
    let mut kernel = Kernel::boot(100);
    let father = kernel.fork(INIT);
    let child = kernel.fork(father);
    kernel.exit_begin(father, 0);
    let mut seeds: Vec<_> = (0..kernel.procs.len()).map(|nr| kernel.seed_of(nr)).collect();
    seeds[father].process.zombie = true;
    kernel.ring.clear();
    let mut seen = Seen::new();
    seen.table.seed(seeds, &mut seen.events);
    seen.events.clear();
    kernel.pass(1000);
    kernel.submit(father);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent]);
    assert!(!events[0].process.as_ref().unwrap().zombie);
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1));
}

#[test]
fn a_parent_in_a_record_from_before_the_snapshot_is_outdated() {
    let mut kernel = Kernel::boot(100);
    let father = kernel.fork(INIT);
    let child = kernel.fork(father);
    kernel.ring.clear();
    kernel.exec(child);
    kernel.pass(10);
    let mut seeds: Vec<_> = (0..kernel.procs.len()).map(|nr| kernel.seed_of(nr)).collect();
    seeds[child].ppid = 1;
    let mut seen = Seen::new();
    seen.table.seed(seeds, &mut seen.events);
    seen.events.clear();
    assert_eq!(kinds(&seen.follow(&mut kernel)), [Kind::Exec]);
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1));
}

#[test]
fn a_fork_of_a_process_already_found_is_not_reported_again() {
    let mut kernel = Kernel::boot(100);
    let child = kernel.fork(INIT);
    let mut seen = Seen::new();
    seen.table.seed((0..3).map(|nr| kernel.seed_of(nr)).collect(), &mut seen.events);
    seen.events.clear();
    assert!(seen.follow(&mut kernel).is_empty());
    assert_eq!(seen.table.stats().merged, 1);
    let found = seen.table.by_pid(kernel.procs[child].pid).unwrap();
    assert_eq!(found.creator_id(), Some(kernel.id(INIT)));
    assert_eq!(found.start_ns(), kernel.procs[child].start_ns);
}

#[test]
fn a_record_that_names_an_exiting_parent_keeps_the_parent_from_proc() {
    let mut kernel = Kernel::boot(100);
    let reaper = kernel.fork(INIT);
    kernel.set_subreaper(reaper, true);
    let father = kernel.fork(reaper);
    let child = kernel.fork(father);
    kernel.exit_begin(father, 0);
    kernel.submit(father);
    kernel.ring.clear();
    // This record names the father. Its exit and the move to the reaper are missed.
    kernel.exec_begin(child, 0);
    kernel.submit(child);
    let mut seeds: Vec<_> = (0..kernel.procs.len()).map(|nr| kernel.seed_of(nr)).collect();
    seeds[father].process.zombie = true;
    (seeds[child].ppid, seeds[child].read_until_ns) = (kernel.procs[reaper].pid, 0);
    let mut seen = Seen::new();
    seen.table.seed(seeds, &mut seen.events);
    seen.events.clear();
    assert_eq!(kinds(&seen.follow(&mut kernel)), [Kind::Exec]);
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(kernel.procs[reaper].pid));
}
