//! The process table, case by case: each of the hard ones under "Tree", and what an event says of each kind of record.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test")]

mod model;

use model::{Home, INIT, KTHREADD, Kernel, Nr, State, padded};
use tracer::event::{Capture, Cause, Event, Exit, Kind, ReparentReason, Source};
use tracer::id::ProcessId;
use tracer::record::{Exec, Field, Fork, Record};
use tracer::table::{Table, TableOptions};
use tracer::text::{Argv, Text};
use tracer::time::Timestamp;
use tracer_common::record as raw;

const MS: u64 = 1_000_000;

/// A table that has seen nothing yet, and what it says.
struct Seen {
    table: Table,
    events: Vec<Event>,
}

impl Seen {
    fn new() -> Self {
        Self::with(TableOptions { utc_minus_boot_ns: 1_000_000_000_000_000_000, ..TableOptions::default() })
    }

    fn with(options: TableOptions) -> Self {
        Self { table: Table::new(options), events: Vec::new() }
    }

    /// A table that has found init and kthreadd, and a kernel in which there is nobody else.
    fn booted() -> (Self, Kernel) {
        let kernel = Kernel::boot(1000);
        let mut seen = Self::with(TableOptions { ancestors: true, ..TableOptions::default() });
        seen.table.seed(vec![kernel.seed_of(INIT), kernel.seed_of(KTHREADD)], &mut seen.events);
        seen.events.clear();
        (seen, kernel)
    }

    fn apply(&mut self, record: Record) -> Vec<Event> {
        self.table.apply(record, &mut self.events);
        std::mem::take(&mut self.events)
    }

    fn follow(&mut self, kernel: &mut Kernel) -> Vec<Event> {
        let records: Vec<Record> = kernel.ring.drain(..).collect();
        records.into_iter().flat_map(|record| self.apply(record)).collect()
    }

    fn parent(&self, pid: u32) -> Option<u32> {
        self.table.by_pid(pid).expect("it lives").ppid()
    }
}

fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(|event| event.kind).collect()
}

/// Pid, old and new parent's pid, and reason of each reparenting.
fn moves(events: &[Event]) -> Vec<(u32, u32, u32, ReparentReason)> {
    let of = |event: &Event| {
        let to = event.reparent.as_ref()?;
        Some((event.process.as_ref()?.pid, to.from_id.pid(), to.to_pid, to.reason))
    };
    events.iter().filter_map(of).collect()
}

fn header(kind: u16, boot_ns: u64) -> raw::Header {
    raw::Header { kind, boot_ns, cpu: 2, ..raw::Header::default() }
}

fn task(tgid: u32, start_ns: u64) -> raw::TaskRef {
    raw::TaskRef { start_ns, tgid, tid: tgid }
}

const INIT_TASK: raw::TaskRef = raw::TaskRef { start_ns: 5 * MS, tgid: 1, tid: 1 };

const IDS: raw::Ids = raw::Ids {
    uid: 1000,
    gid: 100,
    euid: 1000,
    egid: 100,
    loginuid: raw::ID_UNSET,
    sid: 10,
    pgid: 11,
    tty: 0,
    cgroup: 77,
};

fn fork(child: raw::TaskRef, creator: raw::TaskRef) -> raw::Fork {
    raw::Fork {
        header: header(raw::KIND_FORK, child.start_ns + 1000),
        child,
        parent: creator,
        creator,
        ids: IDS,
        comm: padded("sh"),
        ..raw::Fork::default()
    }
}

fn forked(raw: raw::Fork) -> Record {
    Record::Fork(Fork { raw, ns_pids: None })
}

fn field(text: &str) -> Field<Text> {
    Field { value: Some(Text::new(text.as_bytes())), capture: None }
}

fn exec(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> Exec {
    Exec {
        raw: raw::Exec {
            header: header(raw::KIND_EXEC, boot_ns),
            task,
            parent,
            ids: IDS,
            old_euid: IDS.euid,
            old_egid: IDS.egid,
            comm: padded("ls"),
            argc: 2,
            argv_bytes: 6,
            argv_captured: 6,
            ..raw::Exec::default()
        },
        exe: field("/bin/ls"),
        cwd: field("/tmp"),
        filename: field("./ls"),
        interpreter: Field { value: None, capture: None },
        argv: Field { value: Some(Argv::new(b"ls\0-l\0")), capture: None },
    }
}

fn exit(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> raw::Exit {
    raw::Exit {
        header: header(raw::KIND_EXIT, boot_ns),
        task,
        parent,
        reaper: INIT_TASK,
        ids: IDS,
        comm: padded("ls"),
        flags: raw::EXIT_GROUP,
        ..raw::Exit::default()
    }
}

#[expect(clippy::large_types_passed_by_value, reason = "made for the record that it becomes")]
fn exited(raw: raw::Exit) -> Record {
    Record::Exit(Box::new(raw))
}

fn execed(exec: Exec) -> Record {
    Record::Exec(Box::new(exec))
}

// The tree.

#[test]
fn orphans_go_to_init_in_the_order_of_their_birth() {
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

    // The subreaper ends: the next one up takes over.
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
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1), "it is none any more");
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
    assert!(seen.table.is_descendant_of(kernel.id(daemon), kernel.id(shell)), "through the dead one");
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
        "not touched by its creator's end"
    );
}

#[test]
fn a_sibling_born_while_the_parent_ends_moves_on_at_once() {
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
    assert_eq!(events[4].process.as_ref().unwrap().parent_id, Some(kernel.id(father)), "as it was at birth");
    assert_eq!(
        moves(&events),
        [(pid(creator), pid(father), 1, ReparentReason::Init), (pid(sibling), pid(father), 1, ReparentReason::Init)]
    );
    assert_eq!(seen.parent(pid(sibling)), Some(1));
}

#[test]
fn an_heir_that_ends_before_it_inherits_passes_it_on() {
    let (mut seen, mut kernel) = Seen::booted();
    let far = kernel.fork(INIT);
    kernel.set_subreaper(far, true);
    let near = kernel.fork(far);
    kernel.set_subreaper(near, true);
    let father = kernel.fork(near);
    let child = kernel.fork(father);
    // The father's record is made while the near one lives, and comes out of the ring after that one's.
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
fn a_subreaper_that_appears_in_the_blink_is_told_by_the_next_record() {
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
    assert_eq!(seen.parent(pids.0), Some(1), "as the exit record said");
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
fn the_init_of_a_pid_namespace_takes_all_in_it_along() {
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
    assert_eq!(kinds(&events), [Kind::Exit], "its children stay its own until they die");
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(kernel.procs[inner].pid));
    kernel.settle();
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events).iter().filter(|&&kind| kind == Kind::Exit).count(), 4);
    for nr in [inner, child, grandchild, nested, nested_child] {
        assert!(seen.table.by_pid(kernel.procs[nr].pid).is_none());
    }
    // Those that outlived their parent for a moment went to the dying init, as in the kernel.
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
    assert_eq!((process.execs, process.exe.as_deref()), (0, None), "the second has nothing of the first");
    let events = seen.apply(exited(exit(second, INIT_TASK, 106 * MS)));
    assert_eq!(events[0].exit.as_ref().unwrap().duration_ns, Some(2 * MS));
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
fn a_leader_that_ends_first_does_not_end_the_process() {
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
    assert_eq!(events[2].exit.as_ref().unwrap().code, Some(0));
    assert!(seen.table.by_pid(pid).is_some());
    kernel.exit(process, 3 << 8);
    let events = seen.follow(&mut kernel);
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent]);
    assert_eq!((events[0].process.as_ref().unwrap().pid, events[0].process.as_ref().unwrap().tid), (pid, None));
    assert_eq!(events[0].exit.as_ref().unwrap().code, Some(3));
    assert_eq!(seen.parent(kernel.procs[child].pid), Some(1));
}

#[test]
fn an_exec_by_another_thread_tells_its_tid() {
    let (mut seen, mut kernel) = Seen::booted();
    let process = kernel.fork(INIT);
    kernel.thread_start(process);
    let tid = kernel.procs[process].threads[1];
    kernel.exec_begin(process, 1);
    kernel.submit(process);
    let events = seen.follow(&mut kernel);
    assert_eq!(events.last().unwrap().exec.as_ref().unwrap().from_tid, Some(tid));
    assert_eq!(events.last().unwrap().process.as_ref().unwrap().tid, None);
}

#[test]
fn an_exit_told_twice_is_one() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK)));
    seen.apply(forked(fork(task(51, 101 * MS), task(50, 100 * MS))));
    let last = exit(task(50, 100 * MS), INIT_TASK, 120 * MS);
    assert_eq!(kinds(&seen.apply(exited(last))), [Kind::Exit, Kind::Reparent]);
    let too = raw::Exit { task: raw::TaskRef { tid: 55, ..last.task }, ..last };
    assert!(seen.apply(exited(too)).is_empty());
    assert_eq!(seen.table.stats().merged, 1);
}

// What nobody has seen.

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
        assert_eq!((process.source, process.ppid, event.boot_ns), (Source::Kernel, None, Some(raw.header.boot_ns)));
    }
    assert_eq!(events[0].process.as_ref().unwrap().id, ProcessId::from_ns(95 * MS, 41));
    let child = events[2].process.as_ref().unwrap();
    assert_eq!(child.parent_id, Some(ProcessId::from_ns(90 * MS, 40)));
    assert!(!child.inferred);
    assert_eq!(seen.table.stats().inferred, 2);

    // What a later record tells of its parent is taken without a reparenting.
    let events = seen.apply(execed(exec(brother, father, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec]);
    assert_eq!(seen.parent(41), Some(40));
}

#[test]
fn an_exec_of_somebody_unknown_makes_it_known_first() {
    let mut seen = Seen::new();
    let mut exec = exec(task(50, 100 * MS), INIT_TASK, 110 * MS);
    (exec.raw.ids.euid, exec.raw.old_euid) = (0, 1000);
    let events = seen.apply(execed(exec));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Process, Kind::Exec]);
    let (before, after) = (events[1].process.as_ref().unwrap(), events[2].process.as_ref().unwrap());
    assert_eq!((before.pid, before.ppid, before.inferred), (50, Some(1), true));
    assert_eq!((before.exe.clone(), before.argv.clone(), before.comm.clone(), before.execs), (None, None, None, 0));
    assert_eq!((before.uid, before.euid), (Some(1000), None), "as it was before");
    assert_eq!((after.euid, after.execs, after.inferred), (Some(0), 1, true));
    assert_eq!(events[2].exec.as_ref().unwrap().previous_exe, None);
}

#[test]
fn an_exit_of_somebody_unknown_makes_it_known_first() {
    let mut seen = Seen::new();
    let events = seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Process, Kind::Exit]);
    assert_eq!(events[1].process.as_ref().unwrap().comm.as_deref(), Some("ls"));
    assert_eq!(events[2].exit.as_ref().unwrap().duration_ns, Some(10 * MS));
    assert_eq!((seen.table.len_living(), seen.table.len_dead()), (1, 1));
}

#[test]
fn whose_pid_another_has_is_dead_without_an_exit() {
    let mut seen = Seen::new();
    seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK)));
    seen.apply(forked(fork(task(51, 110 * MS), task(50, 100 * MS))));
    let events = seen.apply(forked(fork(task(50, 200 * MS), INIT_TASK)));
    assert_eq!(kinds(&events), [Kind::Reparent, Kind::Fork]);
    assert_eq!(moves(&events), [(51, 50, 1, ReparentReason::Init)]);
    let old = seen.table.by_id(ProcessId::from_ns(100 * MS, 50)).unwrap();
    assert_eq!((old.is_living(), old.status(), old.end_ns()), (false, None, Some(200 * MS + 1000)));
    assert_eq!(seen.table.stats().retired, 1);

    // Its exit was only late: it is told, once.
    assert_eq!(kinds(&seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 150 * MS)))), [Kind::Exit]);
    assert!(seen.apply(exited(exit(task(50, 100 * MS), INIT_TASK, 150 * MS))).is_empty());
    assert_eq!(seen.table.by_pid(50).map(|process| process.start_ns()), Some(200 * MS));
}

#[test]
fn a_record_of_one_long_forgotten_does_not_bury_the_living() {
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

// What `/proc` has told.

#[test]
fn a_process_of_the_snapshot_is_told_with_its_parent_and_keeps_its_source() {
    let mut kernel = Kernel::boot(100);
    let child = kernel.fork(INIT);
    kernel.exec(child);
    kernel.ring.clear();
    let mut seen = Seen::with(TableOptions { utc_minus_boot_ns: 7, ..TableOptions::default() });
    // The child first: parents are told before their children all the same.
    seen.table.seed([child, KTHREADD, INIT].map(|nr| kernel.seed_of(nr)).into(), &mut seen.events);
    let events = std::mem::take(&mut seen.events);
    let order: Vec<u32> = events.iter().map(|event| event.process.as_ref().unwrap().pid).collect();
    assert_eq!(order, [1, 2, kernel.procs[child].pid]);
    assert_eq!(events[2].process.as_ref().unwrap().parent_id, Some(kernel.id(INIT)));
    assert_eq!(events[0].process.as_ref().unwrap().ppid, Some(0));
    assert_eq!((events[2].boot_ns, events[2].cpu), (None, None), "not an event of the kernel's");
    assert_eq!(events[2].time, Timestamp(kernel.now as i64 + 7));

    kernel.exit(child, 0);
    let events = seen.follow(&mut kernel);
    let process = events[0].process.as_ref().unwrap();
    assert_eq!((process.source, process.exe.as_deref()), (Source::Procfs, Some("/bin/x1")));
    let exact = kernel.procs[child].start_ns;
    assert_eq!(process.start_time, Some(Timestamp(exact as i64 + 7)), "the record told it to the nanosecond");
    assert_eq!(process.id, kernel.id(child));
}

#[test]
fn a_zombie_is_dead_from_the_start_and_has_no_exit() {
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
fn children_of_one_that_was_found_ending_wait_for_news() {
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
    assert_eq!(seen.parent(pids[0]), Some(pid(father)), "as the kernel has it too");

    // Another look is too early at first; then one of the children tells of all of them.
    seen.table.settle(&kernel.seed_of(children[1]), &mut seen.events);
    assert!(seen.events.is_empty());
    assert!(kernel.exit_notify(father));
    kernel.pass(1000);
    seen.table.settle(&kernel.seed_of(children[1]), &mut seen.events);
    let reaper = kernel.procs[reaper].pid;
    let father = kernel.procs[father].pid;
    assert_eq!(moves(&seen.events), pids.map(|pid| (pid, father, reaper, ReparentReason::Subreaper)));
    assert_eq!(seen.table.unsettled().count(), 0);
}

#[test]
fn an_exit_that_comes_after_all_is_told() {
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
fn what_a_record_from_before_the_snapshot_says_of_a_parent_is_old() {
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
fn a_fork_of_somebody_already_found_is_not_told_again() {
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

// What events say.

#[test]
fn a_fork_inherits_the_image_and_tells_when_and_where() {
    let mut seen = Seen::new();
    let father = task(50, 100 * MS);
    seen.apply(forked(fork(father, INIT_TASK)));
    seen.apply(execed(exec(father, INIT_TASK, 101 * MS)));
    let mut raw = fork(task(51, 110 * MS), father);
    raw.comm = padded("worker");
    let event = seen.apply(forked(raw)).remove(0);
    assert_eq!((event.kind, event.boot_ns, event.cpu, event.seq), (Kind::Fork, Some(110 * MS + 1000), Some(2), 0));
    assert_eq!(event.time, Timestamp(1_000_000_000_110_001_000));
    let process = event.process.unwrap();
    assert_eq!(process.exe.as_deref(), Some("/bin/ls"));
    assert_eq!(process.cwd.as_deref(), Some("/tmp"));
    assert_eq!(process.argv.as_deref().map(|argv| argv.iter().map(|a| &**a).collect()), Some(vec!["ls", "-l"]));
    assert_eq!(process.comm.as_deref(), Some("worker"), "the name of the thread that forked it");
    assert_eq!(process.execs, 0, "its own");
    assert_eq!(process.start_time, Some(Timestamp(1_000_000_000_110_000_000)));
    assert_eq!((process.uid, process.gid, process.euid, process.egid), (Some(1000), Some(100), None, None));
    assert_eq!((process.loginuid, process.sid, process.pgid, process.tty), (None, Some(10), Some(11), None));
    let found = seen.table.by_pid(51).unwrap();
    assert_eq!((found.cgroup_id(), found.parent().map(|parent| parent.pid())), (77, Some(50)));
    assert_eq!(seen.table.by_pid(50).unwrap().process().comm.as_deref(), Some("ls"), "its father's is another");
}

#[test]
fn ids_are_told_where_they_say_something() {
    let mut seen = Seen::new();
    let mut raw = fork(task(50, 100 * MS), INIT_TASK);
    raw.ids = raw::Ids { euid: 0, egid: 5, loginuid: 1000, tty: (136 << 20) | 3, ..IDS };
    let process = seen.apply(forked(raw)).pop().and_then(|event| event.process).unwrap();
    assert_eq!((process.euid, process.egid, process.loginuid), (Some(0), Some(5), Some(1000)));
    assert_eq!(process.tty.as_deref(), Some("pts/3"));
    assert_eq!(seen.table.by_pid(50).unwrap().process().tty.as_deref(), Some("pts/3"));
}

#[test]
fn names_that_are_not_utf8_keep_their_bytes() {
    let mut seen = Seen::new();
    let mut raw = fork(task(50, 100 * MS), INIT_TASK);
    raw.comm[..3].copy_from_slice(b"a\xff\0");
    let process = seen.apply(forked(raw)).pop().and_then(|event| event.process).unwrap();
    assert_eq!((process.comm.as_deref(), process.comm_b64.as_deref()), (Some("a\u{fffd}"), Some("Yf8=")));
}

#[test]
fn an_exec_tells_before_and_after() {
    let mut seen = Seen::new();
    let task = task(50, 100 * MS);
    seen.apply(forked(fork(task, INIT_TASK)));
    seen.apply(execed(exec(task, INIT_TASK, 110 * MS)));
    let mut next = exec(task, INIT_TASK, 120 * MS);
    next.raw.ids.euid = 0;
    next.raw.ids.egid = 0;
    next.raw.flags = raw::EXEC_CAPS_GAINED | raw::EXEC_DELETED;
    next.raw.comm = padded("su");
    next.exe = Field { value: Some(Text::new("…/su".as_bytes())), capture: Some(Capture::Cut) };
    next.cwd = Field { value: None, capture: Some(Capture::Unreadable) };
    next.interpreter = field("/lib/x");
    (next.raw.argv_bytes, next.raw.argv_captured) = (100, 6);
    let event = seen.apply(execed(next)).remove(0);
    let told = event.exec.unwrap();
    assert_eq!((told.previous_exe.as_deref(), told.filename.as_deref()), (Some("/bin/ls"), Some("./ls")));
    assert_eq!(told.interpreter.as_deref(), Some("/lib/x"));
    assert_eq!((told.setid, told.previous_euid, told.previous_egid), (true, Some(1000), Some(100)));
    assert!(told.caps_gained && told.deleted && !told.memfd);
    assert_eq!((told.exe_capture, told.cwd_capture), (Some(Capture::Cut), Some(Capture::Unreadable)));
    let info = event.argv_info.unwrap();
    assert_eq!((info.argc, info.bytes, info.captured, info.truncated), (2, 100, 6, true));
    assert_eq!(info.reason, Some(Capture::Cut));
    let process = event.process.unwrap();
    assert_eq!((process.comm.as_deref(), process.exe.as_deref()), (Some("su"), Some("…/su")));
    assert_eq!((process.cwd, process.execs, process.euid, process.egid), (None, 2, Some(0), Some(0)));
}

#[test]
fn a_memfd_is_known_by_its_mount_and_its_name() {
    let mut seen = Seen::new();
    for (exe, flags, memfd) in [
        ("/memfd:x", raw::EXEC_INTERNAL_MOUNT, true),
        ("/memfd:x", 0, false),
        ("/dev/zero", raw::EXEC_INTERNAL_MOUNT, false),
    ] {
        let mut exec = exec(task(50, 100 * MS), INIT_TASK, 110 * MS);
        exec.exe = field(exe);
        exec.raw.flags = flags;
        let event = seen.apply(execed(exec)).pop().unwrap();
        assert_eq!(event.exec.unwrap().memfd, memfd, "{exe} {flags}");
    }
}

/// What an exit with this status says.
fn told_exit(status: u32) -> Exit {
    let mut seen = Seen::new();
    let raw = raw::Exit { status, ..exit(task(50, 100 * MS), INIT_TASK, 110 * MS) };
    *seen.apply(exited(raw)).pop().and_then(|event| event.exit).unwrap()
}

#[test]
fn a_status_is_taken_apart_as_wait_does() {
    let of = |status| {
        let exit = told_exit(status);
        (exit.code, exit.signal.as_deref().map(str::to_owned), exit.core)
    };
    assert_eq!(of(0), (Some(0), None, false));
    assert_eq!(of(255 << 8), (Some(255), None, false));
    assert_eq!(of(9), (None, Some("SIGKILL".to_owned()), false));
    assert_eq!(of(11 | 0x80), (None, Some("SIGSEGV".to_owned()), true));
    assert_eq!(of(37), (None, Some("SIGRTMIN+3".to_owned()), false));
}

#[test]
fn an_exit_stands_alone() {
    let mut seen = Seen::new();
    let task = task(50, 100 * MS);
    seen.apply(forked(fork(task, INIT_TASK)));
    seen.apply(execed(exec(task, INIT_TASK, 101 * MS)));
    let mut raw = exit(task, INIT_TASK, 130 * MS);
    raw.comm = padded("renamed");
    raw.ids.euid = 0;
    raw.flags |= raw::EXIT_USAGE_PARTIAL;
    raw.usage = raw::Usage { runtime: 3 * MS, maxrss_pages: 10, minflt: 4, cminflt: 1, ..raw::Usage::default() };
    let event = seen.apply(exited(raw)).remove(0);
    let process = event.process.unwrap();
    assert_eq!((process.exe.as_deref(), process.comm.as_deref()), (Some("/bin/ls"), Some("renamed")));
    assert_eq!((process.argv.map(|argv| argv.len()), process.euid, process.execs), (Some(2), Some(0), 1));
    let exit = event.exit.unwrap();
    assert_eq!((exit.duration_ns, exit.usage_partial, exit.cause.clone()), (Some(30 * MS), true, None));
    let usage = exit.usage.as_ref().unwrap();
    assert_eq!((usage.user_ns, usage.max_rss_bytes, usage.minor_faults), (3 * MS, 40_960, 5));
    assert_eq!(exit.own().unwrap().minor_faults, 4);
    let dead = seen.table.dead().next().unwrap();
    assert_eq!((dead.pid(), dead.status(), dead.end_ns()), (50, Some(0), Some(130 * MS)));
    assert_eq!(dead.process().exe.as_deref(), Some("/bin/ls"));
}

#[test]
fn time_since_the_last_tick_is_counted() {
    let mut seen = Seen::with(TableOptions { page_size: 16_384, ..TableOptions::default() });
    let mut raw = fork(task(50, 100 * MS), INIT_TASK);
    // Scheduler clock 500 ms ahead, seen exactly here.
    raw.header.rq_clock = raw.header.boot_ns + 500 * MS;
    seen.apply(forked(raw));
    let mut raw = exit(raw.child, INIT_TASK, 103 * MS);
    raw.header.rq_clock = 602 * MS;
    raw.rq_clock_task = 590 * MS;
    raw.exec_start = 589 * MS;
    raw.usage.maxrss_pages = 2;
    let usage = seen.apply(exited(raw)).remove(0).exit.and_then(|exit| exit.usage).unwrap();
    let expected = 2 * MS;
    assert!(
        usage.user_ns.abs_diff(expected) < 1_000,
        "1 ms to the run queue's last look and 1 ms since: {}",
        usage.user_ns
    );
    assert_eq!(usage.max_rss_bytes, 32_768);
}

fn signal(target: raw::TaskRef, signal: u32, sender: u32) -> raw::Signal {
    raw::Signal {
        header: header(raw::KIND_SIGNAL, 105 * MS),
        target,
        sender: task(sender, 70 * MS),
        sender_comm: padded("killer"),
        signal,
        sender_uid: 33,
        ..raw::Signal::default()
    }
}

#[test]
fn the_last_sender_of_the_deadly_signal_is_the_cause() {
    let mut seen = Seen::new();
    let target = task(50, 100 * MS);
    seen.apply(forked(fork(target, INIT_TASK)));
    for (number, sender) in [(15, 60), (9, 61), (9, 62), (15, 63), (2, 64)] {
        assert!(seen.apply(Record::Signal(signal(target, number, sender))).is_empty());
    }
    let raw = raw::Exit { status: 9, ..exit(target, INIT_TASK, 110 * MS) };
    let cause = seen.apply(exited(raw)).remove(0).exit.and_then(|exit| exit.cause).unwrap();
    let expected = Cause {
        sender_pid: Some(62),
        sender_id: Some(ProcessId::from_ns(70 * MS, 62)),
        sender_comm: Some("killer".into()),
        sender_uid: Some(33),
        kernel: false,
        oom: false,
    };
    assert_eq!(cause, expected);
}

#[test]
fn signals_that_did_not_kill_are_no_cause() {
    let mut seen = Seen::new();
    let target = task(50, 100 * MS);
    let die = |seen: &mut Seen, raw: raw::Exit| seen.apply(exited(raw)).remove(0).exit.unwrap().cause;
    seen.apply(forked(fork(target, INIT_TASK)));
    seen.apply(Record::Signal(signal(target, 15, 60)));
    assert_eq!(die(&mut seen, exit(target, INIT_TASK, 110 * MS)), None, "it exited");

    // Nor is what was sent to the one that had the pid before.
    let target = task(50, 200 * MS);
    seen.apply(forked(fork(target, INIT_TASK)));
    assert_eq!(die(&mut seen, raw::Exit { status: 15, ..exit(target, INIT_TASK, 210 * MS) }), None);
}

#[test]
fn the_kernel_and_the_oom_killer_are_told_apart() {
    let cause = |flags: u32, sent: Option<raw::Signal>, status: u32| {
        let mut seen = Seen::new();
        let target = task(50, 100 * MS);
        seen.apply(forked(fork(target, INIT_TASK)));
        if let Some(sent) = sent {
            seen.apply(Record::Signal(sent));
        }
        let raw = exit(target, INIT_TASK, 110 * MS);
        seen.apply(exited(raw::Exit { status, flags: raw.flags | flags, ..raw })).remove(0).exit.unwrap().cause
    };
    let by_kernel = raw::Signal { flags: raw::SIGNAL_KERNEL, ..signal(task(50, 100 * MS), 11, 50) };
    assert_eq!(cause(0, Some(by_kernel), 11), Some(Cause { kernel: true, ..Cause::default() }));
    let oom = raw::Signal { signal: 9, ..by_kernel };
    assert_eq!(cause(raw::EXIT_OOM, Some(oom), 9), Some(Cause { kernel: true, oom: true, ..Cause::default() }));
    assert_eq!(cause(raw::EXIT_OOM, None, 9), Some(Cause { oom: true, ..Cause::default() }));
    assert_eq!(cause(raw::EXIT_OOM, None, 0), None, "marked, but it exited by itself");
    assert_eq!(cause(0, None, 9), None);
}

#[test]
fn a_signal_to_nobody_makes_nobody() {
    let mut seen = Seen::new();
    assert!(seen.apply(Record::Signal(signal(task(50, 100 * MS), 9, 60))).is_empty());
    assert_eq!(seen.table.len_living(), 0);
}

#[test]
fn ancestors_are_told_nearest_first() {
    let (mut seen, mut kernel) = Seen::booted();
    let (a, b) = {
        let a = kernel.fork(INIT);
        (a, kernel.fork(a))
    };
    kernel.exec(a);
    let c = kernel.fork(b);
    kernel.exit(c, 0);
    let events = seen.follow(&mut kernel);
    let line = |event: &Event| event.ancestors.iter().flatten().map(|ancestor| ancestor.pid).collect::<Vec<_>>();
    let pid = |nr: Nr| kernel.procs[nr].pid;
    for event in &events[3..] {
        assert_eq!(line(event), [pid(b), pid(a), 1], "{}", event.kind);
    }
    let first = &events[3].ancestors.as_ref().unwrap()[1];
    assert_eq!((first.comm.as_deref(), first.exe.as_deref()), (Some("x1"), Some("/bin/x1")));
}

#[test]
fn the_wall_clock_can_be_set() {
    let mut seen = Seen::with(TableOptions::default());
    seen.table.set_utc_offset(-5);
    let event = seen.apply(forked(fork(task(50, 100 * MS), INIT_TASK))).pop().unwrap();
    assert_eq!(event.time, Timestamp(100_001_000 - 5));
    assert_eq!(event.boot_ns, Some(100_001_000));
}

#[test]
fn unknown_records_are_counted() {
    let mut seen = Seen::new();
    assert!(seen.apply(Record::Unknown(header(99, 5))).is_empty());
    assert_eq!(seen.table.stats().unknown, 1);
}

// The dead.

#[test]
fn the_dead_are_kept_within_a_bound() {
    let mut seen = Seen::with(TableOptions { max_dead: 100, ..TableOptions::default() });
    let father = task(2000, 50 * MS);
    seen.apply(forked(fork(father, INIT_TASK)));
    for n in 0..1000 {
        let task = task(3000 + n, u64::from(100 + n) * MS);
        seen.apply(forked(fork(task, father)));
        seen.apply(exited(exit(task, father, task.start_ns + MS)));
    }
    assert_eq!((seen.table.len_dead(), seen.table.len_living()), (100, 2));
    let kept: Vec<u32> = seen.table.dead().map(|process| process.pid()).collect();
    assert_eq!(kept, (3900..4000).collect::<Vec<_>>(), "the latest, oldest first");
    assert!(seen.table.by_id(ProcessId::from_ns(100 * MS, 3000)).is_none());
    assert!(seen.table.by_id(ProcessId::from_ns(1099 * MS, 3999)).is_some());
    assert_eq!(seen.table.children(ProcessId::from_ns(50 * MS, 2000)).count(), 0);
}

#[test]
fn a_creator_that_is_forgotten_is_still_named() {
    let mut seen = Seen::with(TableOptions { max_dead: 0, ..TableOptions::default() });
    let father = task(50, 100 * MS);
    seen.apply(forked(fork(father, INIT_TASK)));
    seen.apply(forked(fork(task(51, 101 * MS), father)));
    seen.apply(exited(exit(father, INIT_TASK, 110 * MS)));
    for n in 0..64 {
        let task = task(3000 + n, 120 * MS);
        seen.apply(forked(fork(task, INIT_TASK)));
        seen.apply(exited(exit(task, INIT_TASK, 121 * MS)));
    }
    assert!(seen.table.by_id(ProcessId::from_ns(100 * MS, 50)).is_none());
    let orphan = seen.table.by_pid(51).unwrap().process();
    assert_eq!(orphan.creator_id, Some(ProcessId::from_ns(100 * MS, 50)));
    assert_eq!(orphan.ppid, Some(1));
}

#[test]
fn many_that_had_one_pid_are_kept_apart_and_forgotten_one_by_one() {
    let mut seen = Seen::with(TableOptions { max_dead: 64, ..TableOptions::default() });
    for n in 0..200u64 {
        let task = task(50, (100 + n * 10) * MS);
        seen.apply(forked(fork(task, INIT_TASK)));
        let alive: Vec<u64> = seen.table.living().filter(|process| process.pid() == 50).map(|p| p.start_ns()).collect();
        assert_eq!(alive, [task.start_ns]);
        seen.apply(exited(exit(task, INIT_TASK, task.start_ns + MS)));
        for back in 0..64.min(n) {
            let id = ProcessId::from_ns((100 + (n - back) * 10) * MS, 50);
            assert_eq!(seen.table.by_id(id).map(|process| process.id()), Some(id));
        }
    }
    assert_eq!(seen.table.len_dead(), 64);
}

#[test]
fn the_model_frees_pids_only_when_they_are_waited_for() {
    let mut kernel = Kernel::boot(5);
    let a = kernel.fork(INIT);
    let b = kernel.fork(INIT);
    assert_eq!(kernel.fork_begin(INIT, false, Home::Same), None);
    kernel.exit_begin(a, 0);
    kernel.submit(a);
    kernel.exit_notify(a);
    assert_eq!((kernel.procs[a].state, kernel.fork_begin(INIT, false, Home::Same)), (State::Zombie, None));
    kernel.reap(a);
    let c = kernel.fork(INIT);
    assert_eq!(kernel.procs[c].pid, kernel.procs[a].pid);
    assert_ne!(kernel.procs[c].pid, kernel.procs[b].pid);
}
