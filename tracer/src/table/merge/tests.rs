use super::*;
use crate::event::Image;
use crate::record::{Exec, Fork};

const MS: u64 = 1_000_000;

fn task(tgid: u32, start_ns: u64) -> raw::TaskRef {
    raw::TaskRef { start_ns, tgid, tid: tgid }
}

fn header(kind: u16, boot_ns: u64) -> raw::Header {
    raw::Header { kind, boot_ns, ..raw::Header::default() }
}

fn fork(child: raw::TaskRef, parent: raw::TaskRef) -> Record {
    let header = header(raw::KIND_FORK, child.start_ns + 1);
    Record::Fork(Fork {
        raw: raw::Fork { header, child, parent, creator: parent, ..raw::Fork::default() },
        ns_pids: None,
    })
}

fn exit(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> Record {
    let mut comm = [0; 16];
    comm[..2].copy_from_slice(b"sh");
    Record::Exit(Box::new(raw::Exit {
        header: header(raw::KIND_EXIT, boot_ns),
        task,
        parent,
        comm,
        ids: raw::Ids { uid: 5, euid: 6, loginuid: ID_UNSET, ..raw::Ids::default() },
        flags: raw::EXIT_GROUP,
        ..raw::Exit::default()
    }))
}

fn exec(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> Record {
    let ids = raw::Ids { uid: 1000, euid: 0, ..raw::Ids::default() };
    let header = header(raw::KIND_EXEC, boot_ns);
    let raw = raw::Exec { header, task, parent, ids, old_euid: 1000, ..raw::Exec::default() };
    Record::Exec(Box::new(Exec::new(raw, Image::none())))
}

/// Returns a process that was read at 500 ms.
fn seed(pid: u32, start_ns: u64, ppid: u32) -> Seed {
    let mut process = Process::new(ProcessId::from_ns(start_ns, pid), Provenance::Procfs);
    process.image_mut().exe = Some("/bin/old".into());
    process.image_mut().comm = Some("old".into());
    process.euid = Some(0);
    Seed {
        process,
        ppid,
        start_ticks: start_ns / TICK_NS,
        start_ns: 0,
        tty: 0,
        cgroup_id: 0,
        mnt_ns: 0,
        pid_ns: 0,
        exiting: false,
        gone: false,
        read_from_ns: 499 * MS,
        read_until_ns: 500 * MS,
        image_until_ns: 500 * MS,
    }
}

fn merged(seeds: Vec<Seed>, pending: &[Record]) -> Vec<Seed> {
    reconcile(seeds, &pending.iter().collect())
}

fn pids(seeds: &[Seed]) -> Vec<(u32, bool)> {
    seeds.iter().map(|seed| (seed.process.pid, seed.process.zombie)).collect()
}

const INIT: raw::TaskRef = raw::TaskRef { start_ns: 10 * MS, tgid: 1, tid: 1 };

#[test]
fn processes_without_records_stay_as_found() {
    let seeds = vec![seed(1, 10 * MS, 0), seed(50, 100 * MS, 1)];
    assert_eq!(merged(seeds.clone(), &[]), seeds);
    assert_eq!(merged(seeds.clone(), &[fork(task(51, 400 * MS), task(50, 101 * MS))]), seeds);
}

#[test]
fn a_process_with_a_pending_fork_is_left_out() {
    let seeds = vec![seed(1, 10 * MS, 0), seed(50, 400 * MS, 1)];
    assert_eq!(pids(&merged(seeds, &[fork(task(50, 404 * MS), INIT)])), [(1, false)]);
}

#[test]
fn a_process_with_a_pending_exit_was_alive() {
    let mut exited = seed(50, 100 * MS, 1);
    (exited.process.zombie, exited.exiting) = (true, true);
    let pending = [exit(task(50, 100 * MS), INIT, 300 * MS)];
    assert_eq!(pids(&merged(vec![seed(1, 10 * MS, 0), exited.clone()], &pending)), [(1, false), (50, false)]);
    assert_eq!(pids(&merged(vec![exited.clone()], &[])), [(50, true)]);

    // It vanished before it was read completely.
    exited.gone = true;
    assert_eq!(pids(&merged(vec![exited.clone(), seed(1, 10 * MS, 0)], &pending)), [(50, false), (1, false)]);
    assert!(merged(vec![exited], &[]).is_empty(), "it ended before tracing began, and is no zombie any more");
}

#[test]
fn a_process_past_its_exit_record_is_a_zombie() {
    let mut ending = seed(50, 100 * MS, 1);
    ending.exiting = true;
    assert_eq!(pids(&merged(vec![ending], &[])), [(50, true)]);
}

#[test]
fn an_image_that_may_be_newer_than_a_pending_exec_is_dropped() {
    let of = |boot_ns| {
        let seeds = vec![seed(1, 10 * MS, 0), seed(50, 100 * MS, 1)];
        merged(seeds, &[exec(task(50, 100 * MS), INIT, boot_ns)]).remove(1).process
    };
    for boot_ns in [400 * MS, 500 * MS, 510 * MS] {
        assert_eq!(*of(boot_ns).image, Image::default());
    }
    assert_eq!(of(530 * MS).image.exe.as_deref(), Some("/bin/old"), "read well before");
    assert_eq!(of(530 * MS).euid, None, "1000, as the record says it was");
}

#[test]
fn a_process_that_vanished_unread_is_built_from_its_records() {
    let pending = [exit(task(50, 100 * MS), INIT, 300 * MS)];
    let seeds = merged(vec![seed(1, 10 * MS, 0)], &pending);
    let process = &seeds[1].process;
    assert_eq!((process.pid, seeds[1].ppid, process.zombie, process.inferred), (50, 1, false, true));
    assert_eq!((process.image.comm.as_deref(), process.uid, process.euid), (Some("sh"), Some(5), Some(6)));
    assert_eq!((process.source, process.loginuid), (Provenance::Kernel, None));
}

#[test]
fn a_process_that_is_only_named_had_exited_before() {
    let pending = [exec(task(50, 100 * MS), task(40, 90 * MS), 300 * MS)];
    let seeds = merged(vec![seed(1, 10 * MS, 0), seed(50, 100 * MS, 1)], &pending);
    assert_eq!(pids(&seeds), [(1, false), (50, false), (40, true)]);
    assert_eq!((seeds[2].ppid, seeds[2].process.inferred), (PPID_UNKNOWN, true));
}

#[test]
fn a_younger_process_with_the_same_pid_is_left_out() {
    let pending = [exit(task(50, 100 * MS), INIT, 300 * MS)];
    let seeds = merged(vec![seed(1, 10 * MS, 0), seed(50, 450 * MS, 1)], &pending);
    let [_, old] = &seeds[..] else { panic!("{seeds:?}") };
    assert_eq!((old.process.pid, old.start_ticks), (50, 10));
}

#[test]
fn children_of_a_process_with_a_pending_fork_are_left_out() {
    let pending = [fork(task(50, 400 * MS), INIT)];
    let found = vec![seed(1, 10 * MS, 0), seed(50, 400 * MS, 1), seed(51, 450 * MS, 50), seed(52, 460 * MS, 51)];
    assert_eq!(pids(&merged(found, &pending)), [(1, false)]);
    // But a child of an earlier process with that pid, which was not seen, is kept.
    let found = vec![seed(1, 10 * MS, 0), seed(50, 400 * MS, 1), seed(51, 300 * MS, 50)];
    assert_eq!(pids(&merged(found, &pending)), [(1, false), (51, false)]);
}

#[test]
fn a_signal_proves_nothing() {
    let signal = raw::Signal { target: task(50, 100 * MS), sender: task(60, 100 * MS), ..raw::Signal::default() };
    assert_eq!(pids(&merged(vec![seed(1, 10 * MS, 0)], &[Record::Signal(signal)])), [(1, false)]);
}

#[test]
fn two_processes_with_one_pid_in_a_tick_leave_the_older_without_image() {
    let pending = [exit(task(50, 401 * MS), INIT, 403 * MS), fork(task(50, 405 * MS), INIT)];
    let seeds = merged(vec![seed(1, 10 * MS, 0), seed(50, 400 * MS, 1)], &pending);
    assert_eq!(pids(&seeds), [(1, false), (50, false)]);
    assert_eq!(seeds[1].process.image.exe, None);
}

#[test]
fn of_two_processes_with_one_pid_during_attach_the_later_was_alive() {
    let (old, young) = (task(50, 100 * MS), task(50, 200 * MS));
    let pending = [exit(old, INIT, 150 * MS), exec(young, INIT, 300 * MS)];
    for found in [vec![seed(1, 10 * MS, 0)], vec![seed(1, 10 * MS, 0), seed(50, 200 * MS, 1)]] {
        let seeds = merged(found, &pending);
        assert_eq!(
            seeds.iter().map(|seed| (seed.process.pid, seed.start_ticks)).collect::<Vec<_>>(),
            [(1, 1), (50, 20)]
        );
    }
}
