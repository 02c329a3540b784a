//! The event for each kind of record, and how long exited processes are kept.

use std::sync::Arc;

use tracer::event::id::ProcessId;
use tracer::event::time::Timestamp;
use tracer::event::{Capture, Cause, Event, Exit, Image, Kind};
use tracer::record::Record;
use tracer::record::text::{Arguments, Argv, Text};
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{IDS, INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, header, task, text};
use crate::model::{INIT, Nr, padded};

#[test]
fn a_fork_inherits_the_image_and_reports_when_and_where() {
    let mut seen = Seen::new();
    let father = task(50, 100 * MS);
    seen.apply(forked(fork(father, INIT_TASK)));
    seen.apply(execed(exec(father, INIT_TASK, 101 * MS)));
    let mut raw = fork(task(51, 110 * MS), father);
    raw.comm = padded("worker");
    raw.creator.tid = 54;
    let event = seen.apply(forked(raw)).remove(0);
    assert_eq!((event.kind(), event.boot_ns, event.cpu, event.seq), (Kind::Fork, Some(110 * MS + 1000), Some(2), 0));
    assert_eq!(event.time, Timestamp(1_000_000_000_110_001_000));
    let process = event.process.as_ref().unwrap();
    assert_eq!(process.image.exe.as_deref(), Some("/bin/ls"));
    assert_eq!(process.image.cwd.as_deref(), Some("/tmp"));
    assert_eq!(process.image.argv.as_ref().map(|argv| argv.iter().collect()), Some(vec!["ls", "-l"]));
    assert_eq!(process.image.comm.as_deref(), Some("worker"), "the name of the thread that forked it");
    assert_eq!(process.execs, 0, "its own execs only");
    assert_eq!(process.start_time, Some(Timestamp(1_000_000_000_110_000_000)));
    assert_eq!((process.uid, process.gid, process.euid, process.egid), (Some(1000), Some(100), None, None));
    assert_eq!((process.loginuid, process.sid, process.pgid, process.tty.as_deref()), (None, Some(10), Some(11), None));
    let found = seen.table.by_pid(51).unwrap();
    assert_eq!((found.cgroup_id(), found.parent().map(|parent| parent.pid())), (77, Some(50)));
    assert_eq!(
        seen.table.by_pid(50).unwrap().process().image.comm.as_deref(),
        Some("ls"),
        "the parent process has the name of its leader"
    );
}

#[test]
fn ids_are_reported_where_they_are_known() {
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
    assert_eq!((process.image.comm.as_deref(), process.image.comm_b64.as_deref()), (Some("a\u{fffd}"), Some("Yf8=")));
}

#[test]
fn an_exec_reports_before_and_after() {
    let mut seen = Seen::new();
    let task = task(50, 100 * MS);
    seen.apply(forked(fork(task, INIT_TASK)));
    seen.apply(execed(exec(task, INIT_TASK, 110 * MS)));
    let mut next = exec(task, INIT_TASK, 120 * MS);
    next.raw.ids.euid = 0;
    next.raw.ids.egid = 0;
    next.raw.flags = raw::EXEC_CAPS_GAINED | raw::EXEC_DELETED;
    next.image = Image::new(text("su"), text("…/su"), None, Some(Argv::new(b"ls\0-l\0"))).into();
    (next.exe_capture, next.cwd_capture) = (Some(Capture::Cut), Some(Capture::Unreadable));
    next.interpreter = text("/lib/x");
    (next.raw.argv_bytes, next.raw.argv_captured) = (100, 6);
    let event = seen.apply(execed(next)).remove(0);
    let reported = event.exec().unwrap();
    assert_eq!((reported.previous_exe.as_deref(), reported.filename.as_deref()), (Some("/bin/ls"), Some("./ls")));
    assert_eq!(reported.interpreter.as_deref(), Some("/lib/x"));
    assert_eq!((reported.setid, reported.previous_euid, reported.previous_egid), (true, Some(1000), Some(100)));
    assert!(reported.caps_gained && reported.deleted && !reported.memfd);
    assert_eq!((reported.exe_capture, reported.cwd_capture), (Some(Capture::Cut), Some(Capture::Unreadable)));
    let info = event.argv_info().unwrap();
    assert_eq!((info.argc, info.bytes, info.captured, info.truncated), (2, 100, 6, true));
    assert_eq!(info.reason, Some(Capture::Cut));
    let process = event.process.as_ref().unwrap();
    assert_eq!((process.image.comm.as_deref(), process.image.exe.as_deref()), (Some("su"), Some("…/su")));
    assert_eq!((process.image.cwd.as_deref(), process.execs, process.euid, process.egid), (None, 2, Some(0), Some(0)));
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
        Arc::make_mut(&mut exec.image).set_exe(Text::new(exe.as_bytes()));
        exec.raw.flags = flags;
        let event = seen.apply(execed(exec)).pop().unwrap();
        assert_eq!(event.exec().unwrap().memfd, memfd, "{exe} {flags}");
    }
}

/// Returns what an exit with this status reports.
fn reported_exit(status: u32) -> Exit {
    let mut seen = Seen::new();
    let raw = raw::Exit { status, ..exit(task(50, 100 * MS), INIT_TASK, 110 * MS) };
    seen.apply(exited(raw)).pop().unwrap().exit().unwrap().clone()
}

#[test]
fn a_status_is_taken_apart_as_wait_does() {
    let of = |status| {
        let exit = reported_exit(status);
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
    let process = event.process.as_ref().unwrap();
    assert_eq!((process.image.exe.as_deref(), process.image.comm.as_deref()), (Some("/bin/ls"), Some("renamed")));
    assert_eq!((process.image.argv.as_ref().map(Arguments::len), process.euid, process.execs), (Some(2), Some(0), 1));
    let exit = event.exit().unwrap();
    assert_eq!((exit.duration_ns, exit.usage_partial, exit.cause.clone()), (Some(30 * MS), true, None));
    let usage = exit.usage.as_ref().unwrap();
    assert_eq!((usage.user_ns, usage.max_rss_bytes, usage.minor_faults), (3 * MS, 40_960, 5));
    assert_eq!(exit.own().unwrap().minor_faults, 4);
    let dead = seen.table.dead().next().unwrap();
    assert_eq!((dead.pid(), dead.status(), dead.end_ns()), (50, Some(0), Some(130 * MS)));
    assert_eq!(dead.process().image.exe.as_deref(), Some("/bin/ls"));
}

#[test]
fn time_since_the_last_tick_is_counted() {
    let mut seen = Seen::with(TableOptions { page_size: 16_384, ..TableOptions::default() });
    let mut raw = fork(task(50, 100 * MS), INIT_TASK);
    // The scheduler clock is 500 ms ahead, and was read exactly here.
    raw.header.rq_clock = raw.header.boot_ns + 500 * MS;
    seen.apply(forked(raw));
    let mut raw = exit(raw.child, INIT_TASK, 103 * MS);
    raw.header.rq_clock = 602 * MS;
    raw.rq_clock_task = 590 * MS;
    raw.exec_start = 589 * MS;
    raw.usage.maxrss_pages = 2;
    let usage = seen.apply(exited(raw)).remove(0).exit().unwrap().usage.clone().unwrap();
    let expected = 2 * MS;
    assert!(
        usage.user_ns.abs_diff(expected) < 1_000,
        "1 ms to the run queue's last update and 1 ms since: {}",
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
    let cause = seen.apply(exited(raw)).remove(0).exit().unwrap().cause.clone().unwrap();
    let expected = Cause {
        sender_pid: Some(62),
        sender_id: Some(ProcessId::from_ns(70 * MS, 62)),
        sender_comm: Some("killer".into()),
        sender_uid: Some(33),
        kernel: false,
        raised_again: false,
        oom: false,
    };
    assert_eq!(cause, expected);
}

#[test]
fn a_signal_raised_again_keeps_its_first_sender() {
    let cause = |sent: &[raw::Signal], status: u32| {
        let mut seen = Seen::new();
        let target = task(50, 100 * MS);
        seen.apply(forked(fork(target, INIT_TASK)));
        for sent in sent {
            seen.apply(Record::Signal(*sent));
        }
        let raw = raw::Exit { status, ..exit(target, INIT_TASK, 110 * MS) };
        let cause = seen.apply(exited(raw)).remove(0).exit().unwrap().cause.clone().unwrap();
        (cause.sender_pid, cause.kernel, cause.raised_again)
    };
    let target = task(50, 100 * MS);
    let (other, itself) = (signal(target, 15, 60), signal(target, 15, 50));
    let kernel = raw::Signal { flags: raw::SIGNAL_KERNEL, ..itself };
    assert_eq!(cause(&[other, itself], 15), (Some(60), false, true), "it had blocked the first one");
    assert_eq!(cause(&[other, itself, itself], 15), (Some(60), false, true));
    assert_eq!(cause(&[kernel, itself], 15), (None, true, true), "a timer, say");
    let handled = raw::Signal { flags: raw::SIGNAL_RAISED_AGAIN, ..other };
    assert_eq!(cause(&[handled], 15), (Some(60), false, true), "the BPF program kept the first one");
    assert_eq!(cause(&[itself], 15), (Some(50), false, false), "no process sent it one before");
    assert_eq!(cause(&[other, itself, signal(target, 15, 61)], 15), (Some(61), false, false), "the last sender counts");
    assert_eq!(cause(&[signal(target, 2, 60), itself], 15), (Some(50), false, false), "a different signal");
}

#[test]
fn signals_that_did_not_kill_are_no_cause() {
    let mut seen = Seen::new();
    let target = task(50, 100 * MS);
    let die = |seen: &mut Seen, raw: raw::Exit| seen.apply(exited(raw)).remove(0).exit().unwrap().cause.clone();
    seen.apply(forked(fork(target, INIT_TASK)));
    seen.apply(Record::Signal(signal(target, 15, 60)));
    assert_eq!(die(&mut seen, exit(target, INIT_TASK, 110 * MS)), None, "it exited");

    // Nor is a signal that was sent to an earlier process with the same pid.
    let target = task(50, 200 * MS);
    seen.apply(forked(fork(target, INIT_TASK)));
    assert_eq!(die(&mut seen, raw::Exit { status: 15, ..exit(target, INIT_TASK, 210 * MS) }), None);
}

#[test]
fn the_kernel_and_the_oom_killer_are_distinguished() {
    let cause = |flags: u32, sent: Option<raw::Signal>, status: u32| {
        let mut seen = Seen::new();
        let target = task(50, 100 * MS);
        seen.apply(forked(fork(target, INIT_TASK)));
        if let Some(sent) = sent {
            seen.apply(Record::Signal(sent));
        }
        let raw = exit(target, INIT_TASK, 110 * MS);
        seen.apply(exited(raw::Exit { status, flags: raw.flags | flags, ..raw }))
            .remove(0)
            .exit()
            .unwrap()
            .cause
            .clone()
    };
    let by_kernel = raw::Signal { flags: raw::SIGNAL_KERNEL, ..signal(task(50, 100 * MS), 11, 50) };
    assert_eq!(cause(0, Some(by_kernel), 11), Some(Cause { kernel: true, ..Cause::default() }));
    let oom = raw::Signal { signal: 9, ..by_kernel };
    assert_eq!(cause(raw::EXIT_OOM, Some(oom), 9), Some(Cause { kernel: true, oom: true, ..Cause::default() }));
    assert_eq!(cause(raw::EXIT_OOM, None, 9), Some(Cause { oom: true, ..Cause::default() }));
    assert_eq!(cause(raw::EXIT_OOM, None, 0), None, "marked, but it exited without a signal");
    assert_eq!(cause(0, None, 9), None);
    let kernel = Some(Cause { kernel: true, ..Cause::default() });
    assert_eq!(cause(raw::EXIT_DIRECT, None, 9), kernel, "strict seccomp sends no signal");
    assert_eq!(cause(0, None, 31), kernel, "nor do filters before 5.16");
    let by_another = Some(signal(task(50, 100 * MS), 9, 60));
    assert_eq!(
        cause(raw::EXIT_DIRECT, by_another, 9).unwrap().sender_pid,
        Some(60),
        "5.10 says the same of a blocked one"
    );
}

#[test]
fn a_signal_to_an_unknown_process_adds_none() {
    let mut seen = Seen::new();
    assert!(seen.apply(Record::Signal(signal(task(50, 100 * MS), 9, 60))).is_empty());
    assert_eq!(seen.table.len_living(), 0);
}

#[test]
fn ancestors_are_listed_nearest_first() {
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
        assert_eq!(line(event), [pid(b), pid(a), 1], "{}", event.kind());
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

#[test]
fn exited_processes_are_kept_within_a_bound() {
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
fn processes_that_had_one_pid_are_kept_apart_and_forgotten_one_by_one() {
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
fn a_process_has_one_start_time() {
    let (mut seen, mut kernel) = Seen::booted();
    let start = |event: &Event| event.process.as_ref().and_then(|process| process.start_time);
    // Found in `/proc`, which has the tick; records have the nanosecond.
    let old = kernel.fork(INIT);
    kernel.ring.clear();
    seen.table.seed(vec![kernel.seed_of(old)], &mut seen.events);
    let found = start(&seen.events.remove(0));
    kernel.exec(old);
    // The wall clock is set, or only adjusted.
    seen.table.set_utc_offset(12_345);
    let young = kernel.fork(old);
    kernel.exec(young);
    seen.follow(&mut kernel);
    seen.table.set_utc_offset(-77);
    kernel.exit(young, 0);
    kernel.exit(old, 0);
    let events = seen.follow(&mut kernel);
    let of = |kind: Kind| events.iter().filter(|event| event.kind() == kind).map(start).collect::<Vec<_>>();
    let born = i64::try_from(kernel.procs[young].start_ns).unwrap() + 12_345;
    assert_eq!(of(Kind::Exit), [Some(Timestamp(born)), found]);
    assert!(found.is_some());
}

#[test]
fn a_process_that_changed_its_name_and_user_is_known_by_both_when_it_forks() {
    let mut seen = Seen::new();
    let server = task(50, 100 * MS);
    seen.apply(forked(fork(server, INIT_TASK)));
    let known = |seen: &Seen| {
        let process = seen.table.by_pid(50).unwrap().process();
        (process.image.comm.as_deref().map(str::to_owned), process.uid, process.euid)
    };
    let mut raw = fork(task(51, 110 * MS), server);
    (raw.comm, raw.ids.uid, raw.ids.euid) = (padded("renamed"), 65534, 65534);
    seen.apply(forked(raw));
    assert_eq!(known(&seen), (Some("renamed".into()), Some(65534), None));
    // A thread that is not the leader has a separate name, and may have a separate user.
    let mut raw = fork(task(52, 120 * MS), raw::TaskRef { tid: 53, ..server });
    (raw.comm, raw.ids.uid) = (padded("a-thread"), 1000);
    let child = seen.apply(forked(raw)).remove(0).process.unwrap();
    assert_eq!((child.image.comm.as_deref(), child.uid), (Some("a-thread"), Some(1000)));
    assert_eq!(known(&seen), (Some("renamed".into()), Some(65534), None));
}

#[test]
fn what_proc_shows_of_a_running_process_is_reported_if_it_is_new() {
    let (mut seen, mut kernel) = Seen::booted();
    let server = kernel.fork(INIT);
    kernel.exec(server);
    seen.follow(&mut kernel);
    let pid = kernel.procs[server].pid;
    let known = seen.table.by_pid(pid).unwrap().process();
    let mut seed = kernel.seed_of(server);
    (seed.process.image, seed.process.uid) = (known.image.clone(), known.uid);
    (seed.process.gid, seed.process.loginuid) = (known.gid, known.loginuid);
    (seed.process.sid, seed.process.pgid) = (known.sid, known.pgid);
    (seed.read_from_ns, seed.read_until_ns) = (kernel.now + 1, kernel.now + 2);
    let refresh = |seen: &mut Seen, seed: &tracer::proc::Seed| {
        seen.table.refresh(seed.clone(), &mut seen.events);
        std::mem::take(&mut seen.events)
    };
    assert!(refresh(&mut seen, &seed).is_empty(), "that is known already");

    seed.process.uid = Some(65534);
    seed.process.image_mut().set_comm(Text::new(b"renamed"));
    seed.process.image_mut().set_argv(Argv::new(b"renamed\0"));
    let mut stale = seed.clone();
    stale.read_from_ns = 1;
    assert!(refresh(&mut seen, &stale).is_empty(), "it has exec'd since that was read");
    let mut ending = seed.clone();
    ending.exiting = true;
    assert!(refresh(&mut seen, &ending).is_empty(), "its exit reports how it ended");

    let events = refresh(&mut seen, &seed);
    let process = events[0].process.as_ref().unwrap();
    assert_eq!((events.len(), events[0].kind(), process.uid), (1, Kind::Process, Some(65534)));
    assert_eq!((process.image.comm.as_deref(), process.image.exe.clone()), (Some("renamed"), known.image.exe.clone()));
    assert_eq!(process.image.argv.iter().flatten().collect::<Vec<_>>(), ["renamed"]);
    assert_eq!(process.start_time, known.start_time);
    assert!(refresh(&mut seen, &seed).is_empty(), "once");
}
