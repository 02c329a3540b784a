//! Each of the hard cases of the process tree.

use tracer::event::id::ProcessId;
use tracer::event::{Kind, ReparentReason};
use tracer::record::Record;
use tracer_common::record as raw;

use crate::kit::{INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, kinds, moves, task};
use crate::model::{Home, INIT, KTHREADD, Kernel, Nr, ProcState};

#[test]
fn orphans_go_to_init_in_the_order_of_their_forks() {
    let (mut seen, mut kernel) = Seen::booted();
    let father = kernel.fork(INIT);
    let children: Vec<Nr> = (0..5).map(|_| kernel.fork(father)).collect();
    kernel.exit(father, 0);
    let events = seen.follow(&mut kernel);
    let pid = |nr: Nr| kernel.procs[nr].pid;
    let expected: Vec<_> = children.iter().map(|&child| (pid(child), pid(father), 1, ReparentReason::Init)).collect();
    assert_eq!(moves(&events), expected);
    assert_eq!(kinds(&events)[6..], [[Kind::Exit].as_slice(), &[Kind::Reparent; 5]].concat());
}

#[test]
fn orphans_go_to_the_nearest_living_subreaper() {
    let (mut seen, mut kernel) = Seen::booted();
    let far = kernel.fork(INIT);
    kernel.set_subreaper(far, true);
    let near = kernel.fork(far);
    kernel.set_subreaper(near, true);
    let father = kernel.fork(near);
    let child = kernel.fork(father);
    kernel.exit(father, 0);
    let pid = |nr: Nr| kernel.procs[nr].pid;
    let (far, near, father, child_pid) = (pid(far), near, pid(father), pid(child));
    let near_pid = pid(near);
    let events = seen.follow(&mut kernel);
    assert_eq!(moves(&events), [(child_pid, father, near_pid, ReparentReason::Subreaper)]);

    // The subreaper exits: the next outer one adopts.
    kernel.exit(near, 0);
    let events = seen.follow(&mut kernel);
    assert_eq!(moves(&events), [(child_pid, near_pid, far, ReparentReason::Subreaper)]);
}

#[test]
fn a_subreaper_set_after_the_children_were_made_counts() {
    let (mut seen, mut kernel) = Seen::booted();
    let reaper = kernel.fork(INIT);
    let father = kernel.fork(reaper);
    let child = kernel.fork(father);
    kernel.set_subreaper(reaper, true);
    kernel.exit(father, 0);
    seen.follow(&mut kernel);
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(kernel.procs[reaper].pid));

    let father = child;
    let child = kernel.fork(father);
    kernel.set_subreaper(reaper, false);
    kernel.exit(father, 0);
    seen.follow(&mut kernel);
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1), "it is no subreaper any more");
}

#[test]
fn a_daemon_that_forks_twice_is_known_by_its_creator() {
    let (mut seen, mut kernel) = Seen::booted();
    let shell = kernel.fork(INIT);
    let middle = kernel.fork(shell);
    let daemon = kernel.fork(middle);
    kernel.exit(middle, 0);
    kernel.exec(daemon);
    let events = seen.follow(&mut kernel);
    let last = events.last().and_then(|event| event.process.clone()).unwrap();
    assert_eq!((last.ppid, last.parent_id), (Some(1), Some(kernel.id(INIT))));
    assert_eq!(last.creator_id, Some(kernel.id(middle)));
    assert!(seen.table.is_descendant_of(kernel.id(daemon), kernel.id(shell)), "through the exited one");
    assert!(seen.table.is_descendant_of(kernel.id(daemon), kernel.id(INIT)));
    assert!(seen.table.is_descendant_of(kernel.id(daemon), kernel.id(daemon)));
    assert!(!seen.table.is_descendant_of(kernel.id(shell), kernel.id(daemon)));
}

#[test]
fn a_sibling_has_its_creators_parent() {
    let (mut seen, mut kernel) = Seen::booted();
    let father = kernel.fork(INIT);
    let creator = kernel.fork(father);
    let sibling = kernel.clone_into(creator, true, Home::Same);
    let events = seen.follow(&mut kernel);
    let process = events.last().and_then(|event| event.process.clone()).unwrap();
    assert_eq!(process.parent_id, Some(kernel.id(father)));
    assert_eq!(process.creator_id, Some(kernel.id(creator)));
    kernel.exit(creator, 0);
    seen.follow(&mut kernel);
    assert_eq!(
        seen.parent(kernel.procs[sibling].pid),
        Some(kernel.procs[father].pid),
        "unaffected by its creator's exit"
    );
}

#[test]
fn a_sibling_forked_while_the_parent_exits_moves_on_at_once() {
    let (mut seen, mut kernel) = Seen::booted();
    let father = kernel.fork(INIT);
    let creator = kernel.fork(father);
    kernel.exit_begin(father, 0);
    kernel.submit(father);
    let sibling = kernel.clone_into(creator, true, Home::Same);
    assert!(kernel.exit_notify(father));
    let events = seen.follow(&mut kernel);
    let pid = |nr: Nr| kernel.procs[nr].pid;
    assert_eq!(kinds(&events[2..]), [Kind::Exit, Kind::Reparent, Kind::Fork, Kind::Reparent]);
    assert_eq!(events[4].process.as_ref().unwrap().parent_id, Some(kernel.id(father)), "as it was at its fork");
    assert_eq!(
        moves(&events),
        [(pid(creator), pid(father), 1, ReparentReason::Init), (pid(sibling), pid(father), 1, ReparentReason::Init)]
    );
    assert_eq!(seen.parent(pid(sibling)), Some(1));
}

#[test]
fn an_adopter_that_exits_before_it_adopts_passes_children_on() {
    let (mut seen, mut kernel) = Seen::booted();
    let far = kernel.fork(INIT);
    kernel.set_subreaper(far, true);
    let near = kernel.fork(far);
    kernel.set_subreaper(near, true);
    let father = kernel.fork(near);
    let child = kernel.fork(father);
    // The father's record is made while the near one runs, and leaves the ring after that one's.
    kernel.exit_begin(father, 0);
    kernel.exit_begin(near, 0);
    kernel.submit(near);
    kernel.submit(father);
    kernel.settle();
    seen.follow(&mut kernel);
    assert_eq!(kernel.procs[child].parent, Some(far));
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(kernel.procs[far].pid));
}

#[test]
fn a_subreaper_set_during_the_exit_is_known_by_the_next_record() {
    let (mut seen, mut kernel) = Seen::booted();
    let reaper = kernel.fork(INIT);
    let father = kernel.fork(reaper);
    let child = kernel.fork(father);
    kernel.exit_begin(father, 0);
    kernel.submit(father);
    kernel.set_subreaper(reaper, true);
    assert!(kernel.exit_notify(father));
    seen.follow(&mut kernel);
    let pids = (kernel.procs[child].pid, kernel.procs[reaper].pid);
    assert_eq!(seen.parent(pids.0), Some(1), "as the exit record reports");
    kernel.exec(child);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Reparent, Kind::Exec]);
    assert_eq!(moves(&events), [(pids.0, 1, pids.1, ReparentReason::Subreaper)]);
    assert_eq!(seen.table.stats().corrected, 1);
}

#[test]
fn orphans_in_a_pid_namespace_go_to_its_init() {
    let (mut seen, mut kernel) = Seen::booted();
    let outside = kernel.fork(INIT);
    kernel.set_subreaper(outside, true);
    let inner = kernel.clone_into(outside, false, Home::New);
    let father = kernel.fork(inner);
    let child = kernel.fork(father);
    // From outside, by setns: the parent is outside, the reaper inside.
    let visitor = kernel.clone_into(outside, false, Home::Space(1));
    let visitors_child = kernel.fork(visitor);
    kernel.exit(father, 0);
    kernel.exit(visitor, 0);
    let events = seen.follow(&mut kernel);
    let pid = |nr: Nr| kernel.procs[nr].pid;
    assert_eq!(
        moves(&events),
        [
            (pid(child), pid(father), pid(inner), ReparentReason::Init),
            (pid(visitors_child), pid(visitor), pid(inner), ReparentReason::Init)
        ]
    );
    let process = seen.table.by_pid(pid(child)).unwrap().process();
    assert_eq!(process.ns_pids.as_deref(), Some(&[pid(child), 3][..]));
}

#[test]
fn the_exit_of_a_namespaces_init_ends_its_processes() {
    let (mut seen, mut kernel) = Seen::booted();
    let inner = kernel.clone_into(INIT, false, Home::New);
    let child = kernel.fork(inner);
    let grandchild = kernel.fork(child);
    let nested = kernel.clone_into(child, false, Home::New);
    let nested_child = kernel.fork(nested);
    seen.follow(&mut kernel);
    kernel.exit_begin(inner, 9);
    kernel.submit(inner);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Exit], "its children stay its children until they exit");
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(kernel.procs[inner].pid));
    kernel.settle();
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events).iter().filter(|&&kind| kind == Kind::Exit).count(), 4);
    for nr in [inner, child, grandchild, nested, nested_child] {
        assert!(seen.table.by_pid(kernel.procs[nr].pid).is_none());
    }
    // Processes that outlived their parent briefly went to the dying init, as in the kernel.
    assert!(
        moves(&events)
            .iter()
            .all(|&(_, _, to, reason)| to == kernel.procs[inner].pid && reason == ReparentReason::Init)
    );
}

#[test]
fn a_pid_used_again_is_another_process() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK)));
    seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 120 * MS)));
    seen.apply(forked(fork(task(50, 140 * MS), INIT_TASK)));
    let old = ProcessId::from_ns(100 * MS, 50);
    let new = ProcessId::from_ns(140 * MS, 50);
    assert_eq!(seen.table.by_pid(50).map(|process| process.id()), Some(new));
    assert_eq!(seen.table.by_id(old).map(|process| process.is_living()), Some(false));
    assert_eq!(seen.table.stats().retired, 0);
}

#[test]
fn a_pid_used_again_within_a_tick_has_the_same_id_but_is_not_confused() {
    let mut seen = Seen::new();
    let (first, second) = (task(50, 100 * MS), task(50, 104 * MS));
    seen.apply(forked(fork(first, INIT_TASK)));
    seen.apply(execed(exec(first, INIT_TASK, 101 * MS)));
    seen.apply(exited(exit(first, INIT_TASK, 102 * MS)));
    let events = seen.apply(forked(fork(second, INIT_TASK)));
    let process = events[0].process.as_ref().unwrap();
    assert_eq!(process.id, ProcessId::from_ns(first.start_ns, 50), "the limit of the public id");
    assert_eq!((process.execs, process.image.exe.as_deref()), (0, None), "the second has nothing of the first");
    let events = seen.apply(exited(exit(second, INIT_TASK, 106 * MS)));
    assert_eq!(events[0].exit().unwrap().duration_ns, Some(2 * MS));
    assert_eq!((seen.table.len_dead(), seen.table.stats().merged), (2, 0));
}

#[test]
fn kernel_threads_and_what_they_start() {
    let (mut seen, mut kernel) = Seen::booted();
    let worker = kernel.fork(KTHREADD);
    let helper = kernel.clone_into(worker, true, Home::Same);
    let events = seen.follow(&mut kernel);
    let process = events[1].process.as_ref().unwrap();
    assert!(process.kthread);
    assert_eq!((process.ppid, process.creator_id), (Some(2), Some(kernel.id(worker))));
    kernel.exec(helper);
    kernel.exit(worker, 0);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Exec, Kind::Exit]);
    assert!(!events[0].process.as_ref().unwrap().kthread, "an exec makes it a user process");
    assert!(events[1].process.as_ref().unwrap().kthread);
    assert_eq!(seen.parent(kernel.procs[helper].pid), Some(2));
}

#[test]
fn a_leader_that_exits_first_does_not_end_the_process() {
    let (mut seen, mut kernel) = Seen::booted();
    let process = kernel.fork(INIT);
    kernel.thread_start(process);
    kernel.thread_exit(process, 0);
    let child = kernel.fork(process);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Fork, Kind::ThreadStart, Kind::ThreadExit, Kind::Fork]);
    let pid = kernel.procs[process].pid;
    let tid = kernel.procs[process].threads[0];
    assert_eq!(events[1].process.as_ref().unwrap().tid, Some(tid));
    assert_eq!(events[2].process.as_ref().unwrap().tid, None, "the leader's tid is the pid");
    assert_eq!(events[2].exit().unwrap().code, Some(0));
    assert!(seen.table.by_pid(pid).is_some());
    kernel.exit(process, 3 << 8);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent]);
    assert_eq!((events[0].process.as_ref().unwrap().pid, events[0].process.as_ref().unwrap().tid), (pid, None));
    assert_eq!(events[0].exit().unwrap().code, Some(3));
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1));
}

#[test]
fn an_exec_by_another_thread_reports_its_tid() {
    let (mut seen, mut kernel) = Seen::booted();
    let process = kernel.fork(INIT);
    kernel.thread_start(process);
    let tid = kernel.procs[process].threads[1];
    kernel.exec_begin(process, 1);
    kernel.submit(process);
    let events = seen.follow(&mut kernel);
    assert_eq!(events.last().unwrap().exec().unwrap().from_tid, Some(tid));
    assert_eq!(events.last().unwrap().process.as_ref().unwrap().tid, None);
}

#[test]
fn an_exit_recorded_twice_is_one() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK)));
    seen.apply(forked(fork(task(51, 101 * MS), task(50, 100 * MS))));
    let last = exit(task(50, 100 * MS), INIT_TASK, 120 * MS);
    assert_eq!(kinds(&seen.apply(exited(last))), [Kind::Exit, Kind::Reparent]);
    let too = raw::Exit { task: raw::TaskRef { tid: 55, ..last.task }, ..last };
    assert!(seen.apply(exited(too)).is_empty());
    assert_eq!(seen.table.stats().merged, 1);
}

#[test]
fn the_model_frees_pids_only_when_they_are_reaped() {
    let mut kernel = Kernel::boot(5);
    let a = kernel.fork(INIT);
    let b = kernel.fork(INIT);
    assert_eq!(kernel.fork_begin(INIT, false, Home::Same), None);
    kernel.exit_begin(a, 0);
    kernel.submit(a);
    kernel.exit_notify(a);
    assert_eq!((kernel.procs[a].state, kernel.fork_begin(INIT, false, Home::Same)), (ProcState::Zombie, None));
    kernel.reap(a);
    let c = kernel.fork(INIT);
    assert_eq!(kernel.procs[c].pid, kernel.procs[a].pid);
    assert_ne!(kernel.procs[c].pid, kernel.procs[b].pid);
}

#[test]
fn an_orphan_too_far_below_its_reaper_waits_for_proc() {
    let (mut seen, mut kernel) = Seen::booted();
    let subreaper = kernel.fork(INIT);
    kernel.set_subreaper(subreaper, true);
    let father = kernel.fork(subreaper);
    let child = kernel.fork(father);
    seen.follow(&mut kernel);
    assert!(!seen.table.take_unsettled());
    kernel.exit(father, 0);
    for record in &mut kernel.ring {
        if let Record::Exit(exit) = record {
            exit.reaper = raw::TaskRef::default();
            exit.flags = exit.flags & !raw::EXIT_REAPER_SUBREAPER | raw::EXIT_REAPER_DEEP;
        }
    }
    let pid = |nr: Nr| kernel.procs[nr].pid;
    let (pids, seed) = ([child, father, subreaper].map(pid), kernel.seed_of(child));
    assert!(moves(&seen.follow(&mut kernel)).is_empty(), "no guess");
    assert!(seen.table.take_unsettled() && !seen.table.take_unsettled());
    assert_eq!(seen.table.unsettled().map(|process| process.pid()).collect::<Vec<_>>(), [pids[0]]);
    seen.table.settle(&seed, &mut seen.events);
    let [child, father, subreaper] = pids;
    assert_eq!(moves(&std::mem::take(&mut seen.events)), [(child, father, subreaper, ReparentReason::Subreaper)]);
    assert_eq!(seen.table.unsettled().count(), 0);
}
