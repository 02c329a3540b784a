//! How processes exit: status, core dump, cause.

use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;
use tracer::event::{Exit, Kind};

use crate::deeds::exit::ring_with_a_thread;
use crate::support::{BOUND, Case, Need, Run, Trace, TruthLine, case, check_sound, kernel_version, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("exit::every_code", every_code),
        case("exit::every_signal", every_signal),
        case("exit::leader_first_then_last_thread_alone", || leader_first("alone")),
        case("exit::leader_first_then_exit_group", || leader_first("group")),
        case("exit::exit_group_from_a_thread", exit_group_from_thread),
        case("exit::threads_that_end_alone_are_no_exit", threads_alone),
        case("exit::threads_are_told_on_request", threads_on_request),
        case("exit::threads_that_the_kernel_makes_are_told_on_request", kernel_made_thread)
            .needs(&[Need::Kernel(5, 12), Need::Check(no_ring_with_a_thread)]),
        case("exit::leader_first_as_a_thread_on_request", leader_first_on_request),
        case("exit::hook_is_chosen_by_the_prototype", chosen_by_prototype).needs(&[
            Need::Tool("unshare"),
            Need::Tool("mount"),
            Need::Check(no_format),
        ]),
        case("exit::killed_by_another", || killed(Signal::SIGKILL)),
        case("exit::terminated_by_another", || killed(Signal::SIGTERM)),
        case("exit::killed_with_threads", killed_threaded),
        case("exit::segv_with_core", || fault("segv", "core", Signal::SIGSEGV)),
        case("exit::segv_without_core", || fault("segv", "none", Signal::SIGSEGV)),
        case("exit::is_described_by_the_leader", described_by_the_leader),
        case("exit::handled_and_raised_again", || raised_again("handled")),
        case("exit::waited_for_and_raised_again", || raised_again("waited-for")),
        case("exit::raised_again_after_a_timer", || raised_again("timer")),
        case("exit::by_the_kernel_for_a_broken_pipe", || by_kernel("pipe", Signal::SIGPIPE)),
        case("exit::by_the_kernel_for_a_large_file", || by_kernel("file-size", Signal::SIGXFSZ)),
        case("exit::by_the_kernel_for_its_cpu_time", || by_kernel("cpu", Signal::SIGXCPU)),
        case("exit::by_the_kernel_for_a_system_call", || by_kernel("seccomp", Signal::SIGKILL))
            .needs(&[Need::Check(no_mark_of_direct_exits)]),
        case("exit::abort_with_core", || fault("abort", "core", Signal::SIGABRT)),
    ]
}

/// Compares an exit with the status from `wait4`.
#[track_caller]
pub(super) fn assert_status(exit: &Exit, status: i32) {
    if libc::WIFEXITED(status) {
        assert_eq!((exit.code, exit.signal.as_deref()), (Some(libc::WEXITSTATUS(status) as u8), None), "{exit:?}");
        assert!(!exit.core, "no core without a signal: {exit:?}");
    } else {
        let signal = libc::WTERMSIG(status);
        let name =
            Signal::try_from(signal).map_or_else(|_| real_time_name(signal), |signal| signal.as_str().to_owned());
        assert_eq!((exit.code, exit.signal.as_deref()), (None, Some(name.as_str())), "status {status:#x}: {exit:?}");
        assert_eq!(exit.core, libc::WCOREDUMP(status), "status {status:#x}: {exit:?}");
    }
}

/// Returns the name as bash's `kill -l` lists it.
fn real_time_name(signal: i32) -> String {
    match signal {
        34 => "SIGRTMIN".to_owned(),
        64 => "SIGRTMAX".to_owned(),
        35..=49 => format!("SIGRTMIN+{}", signal - 34),
        _ => format!("SIGRTMAX-{}", 64 - signal),
    }
}

/// Asserts that every process that exited according to the truth has one exit in the trace, with that status.
#[track_caller]
pub(super) fn assert_ends(trace: &Trace) -> Vec<&TruthLine> {
    let ended = trace.truth.all("ended");
    assert!(!ended.is_empty(), "the truth has no exit");
    for said in &ended {
        assert_status(trace.exit(said.id()), said.get("status"));
    }
    ended
}

fn every_code() {
    let trace = Run::deed("exit-codes").trace();
    check_sound(&trace);
    assert_eq!(assert_ends(&trace).len(), 256);
}

fn every_signal() {
    let trace = Run::deed("exit-every-signal").trace();
    check_sound(&trace);
    assert_eq!(assert_ends(&trace).len(), 25);
}

fn leader_first(how: &str) {
    let trace = Run::deed_with("exit-leader-first", &[how]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    // After exit(2) of all threads, the status is the leader's before about Linux 5.19, and the last thread's since.
    // wait() decides.
    let gone: u64 = trace.truth.one("leader gone").get("boot_ns");
    assert!(
        trace.one(id, Kind::Exit).boot_ns > Some(gone),
        "the process exits with its last thread, not with its leader"
    );
    assert_eq!(trace.process(id, Kind::Exit).tid, None, "the exit is of the process, not of a thread");
}

fn exit_group_from_thread() {
    let trace = Run::deed("exit-group-from-thread").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    assert_eq!(trace.exit(id).code, Some(33));
    assert_eq!(trace.count(Kind::ThreadStart) + trace.count(Kind::ThreadExit), 0, "threads only on request");
}

fn threads_alone() {
    let trace = Run::deed("exit-threads-alone").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    assert_eq!(trace.exit(id).code, Some(0));
    assert_eq!(trace.about(id).len(), 2, "a fork, an exit, nothing about threads: {:#?}", trace.about(id));
}

fn threads_on_request() {
    let trace = Run::deed("exit-threads-alone").option("--threads").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let reported_tids = |kind| -> Vec<u32> {
        let mut tids: Vec<u32> =
            trace.of(id, kind).iter().map(|event| event.process.as_ref().and_then(|p| p.tid).expect("a tid")).collect();
        tids.sort_unstable();
        tids
    };
    let mut truth: Vec<u32> = trace.truth.all("thread").iter().map(|said| said.get("tid")).collect();
    truth.sort_unstable();
    assert_eq!(truth.len(), 6);
    assert_eq!(reported_tids(Kind::ThreadStart), truth);
    assert_eq!(reported_tids(Kind::ThreadExit), truth);
    assert_eq!(trace.exit(id).code, Some(0), "and one exit of the process");
}

fn no_ring_with_a_thread() -> Option<String> {
    ring_with_a_thread().err().map(|errno| format!("io_uring has no separate threads here: error {errno}"))
}

fn kernel_made_thread() {
    let trace = Run::deed("exit-kernel-made-thread").option("--threads").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let tids =
        |kind| trace.of(id, kind).iter().map(|event| event.process.as_ref().and_then(|p| p.tid)).collect::<Vec<_>>();
    let truth = [Some(trace.truth.one("thread").get::<u32>("tid"))];
    assert_eq!((tids(Kind::ThreadStart), tids(Kind::ThreadExit)), (truth.to_vec(), truth.to_vec()));
}

/// Returns the tracepoint's format from tracefs, which is mounted briefly in a private mount namespace.
fn format_of_exits() -> String {
    let script = "test -d /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing
        cat /sys/kernel/tracing/events/sched/sched_process_exit/format";
    let finished = run_bounded(Command::new("unshare").args(["-m", "sh", "-c", script]), BOUND);
    if finished.status.success() { finished.stdout() } else { String::new() }
}

fn no_format() -> Option<String> {
    (!format_of_exits().contains("print fmt")).then(|| "tracefs does not show sched_process_exit".to_owned())
}

/// If the kernel passes a flag that the whole group is dead, tracer uses it. Otherwise it reports the fallback.
fn chosen_by_prototype() {
    let handed_over = format_of_exits().contains("group_dead");
    let trace = Run::deed_with("exit-leader-first", &["group"]).trace();
    check_sound(&trace);
    assert_ends(&trace);
    let hello = trace.hello();
    let said = hello.fallbacks.iter().any(|fallback| fallback.contains("group_dead"));
    assert_eq!(said, !handed_over, "the kernel passes it: {handed_over}; {:?}", hello.fallbacks);
    assert!(hello.hooks.iter().any(|hook| hook.ends_with("sched_process_exit")), "{:?}", hello.hooks);
}

/// The leader's own exit is an exit of a thread, with its code. The exit of the process comes later.
fn leader_first_on_request() {
    let trace = Run::deed_with("exit-leader-first", &["group"]).option("--threads").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let kinds: Vec<Kind> = trace.about(id).iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [Kind::Fork, Kind::ThreadStart, Kind::ThreadExit, Kind::Exit]);
    let leader = trace.one(id, Kind::ThreadExit);
    assert_eq!(leader.process.as_ref().and_then(|process| process.tid), None, "its tid is the pid");
    assert_eq!(leader.exit().and_then(|exit| exit.code), Some(5));
}

fn killed(signal: Signal) {
    let trace = Run::deed_with("exit-killed", &[&(signal as i32).to_string()]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let sender = trace.truth.one("sender");
    let exit = trace.exit(id);
    assert_eq!(exit.signal.as_deref(), Some(signal.as_str()));
    let cause = exit.cause.as_ref().expect("someone sent the signal");
    assert_eq!(cause.sender_pid, Some(sender.get("pid")));
    assert_eq!(cause.sender_id, Some(sender.id()));
    assert_eq!(cause.sender_comm.as_deref(), Some("assassin"));
    assert_eq!(cause.sender_uid, Some(1234));
    assert!(!cause.kernel && !cause.oom, "{cause:?}");
}

fn killed_threaded() {
    let trace = Run::deed("exit-killed-threaded").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let cause = trace.exit(id).cause.as_ref().expect("someone sent the signal");
    assert_eq!(cause.sender_id, Some(trace.deed()));
}

fn fault(how: &str, core: &str, signal: Signal) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("UTF-8");
    let trace = Run::deed_with("exit-fault", &[how, core, path]).trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    let exit = trace.exit(said.id());
    assert_eq!(exit.signal.as_deref(), Some(signal.as_str()));
    let cause = exit.cause.as_ref().expect("a signal has a cause");
    if how == "abort" {
        assert_eq!(cause.sender_id, Some(said.id()), "abort sends the signal to itself");
    } else {
        assert!(cause.kernel, "a fault's signal comes from the kernel: {cause:?}");
        assert_eq!(cause.sender_pid, None, "a fault has no sender: {cause:?}");
    }
}

/// The last thread to exit has another name and user than the process.
fn described_by_the_leader() {
    let trace = Run::deed("exit-last-thread").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let (process, truth) = (trace.process(id, Kind::Exit), trace.truth.one("proc"));
    assert_eq!(process.image.comm.as_deref(), Some(truth.get::<String>("comm").as_str()));
    assert_eq!((process.uid, process.euid), (Some(truth.get("uid")), None));
}

fn raised_again(how: &str) {
    let trace = Run::deed_with("exit-raised-again", &[how]).trace();
    check_sound(&trace);
    let id = trace.truth.one("ended").id();
    let exit = trace.exit(id);
    assert_status(exit, trace.truth.one("ended").get("status"));
    let cause = exit.cause.as_ref().expect("someone sent the signal");
    assert!(cause.raised_again, "{cause:?}");
    if how == "timer" {
        assert!(cause.kernel, "{cause:?}");
    } else {
        let sender = trace.truth.one("sender");
        assert_eq!((cause.sender_id, cause.sender_comm.as_deref()), (Some(sender.id()), Some("assassin")), "{cause:?}");
    }
}

/// Since 6.0 the kernel marks the exit of every last thread as that of the whole process (kernel/exit.c,
/// `synchronize_group_exit`). So an exit without a signal looks like one whose signal was missed.
fn no_mark_of_direct_exits() -> Option<String> {
    (kernel_version() >= (6, 0)).then(|| "the kernel does not show that it ended a process without a signal".to_owned())
}

fn by_kernel(how: &str, signal: Signal) {
    let trace = Run::deed_with("exit-by-kernel", &[how]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let exit = trace.exit(id);
    assert_eq!(exit.signal.as_deref(), Some(signal.as_str()));
    let cause = exit.cause.as_ref().expect("a signal has a cause");
    assert!(cause.kernel && cause.sender_pid.is_none() && !cause.raised_again, "{cause:?}");
}
