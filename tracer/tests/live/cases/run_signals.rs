//! Signals and `tracer run`: what the command inherits, what is forwarded to it, and what ends it before it starts.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::run::{await_signal, check_caught};
use crate::support::{BOUND, Case, Guarded, case, command, deed_arguments, open_directory, proc, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run_signals::sent_to_tracer_alone_are_passed_on", passed_on),
        case("run_signals::every_other_one_is_passed_on_too", every_other),
        case("run_signals::tracer_stops_and_continues_with_the_command", stops_and_continues),
        case("run_signals::a_blocked_tracer_still_passes_them_on", blocked),
        case("run_signals::ctrl_c_while_the_command_is_held", ctrl_c_while_held),
        case("run_signals::a_parent_that_ignores_sigchld", parent_ignores_sigchld),
        case("run_signals::ignored_as_by_hand", ignored_as_by_hand),
    ]
}

fn passed_on() {
    for signal in [Signal::SIGUSR1, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        let place = open_directory();
        let tracer = await_signal(place.path());
        tracer.signal(signal);
        check_caught(tracer, place.path(), signal);
    }
}

fn send(pid: u32, signal: i32) {
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "signal {signal} to {pid}");
}

/// Starts `tracer run` around the deed that prints the signals it receives. Returns its standard output too.
fn say_signals(place: &std::path::Path, command: &mut Command) -> (Guarded, BufReader<ChildStdout>) {
    command.args(["run", "-o"]).arg(place.join("events")).arg("--");
    command.args(deed_arguments("say-signals", &place.join("truth"), &[]));
    let mut tracer = Guarded::spawn(command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut said = BufReader::new(tracer.child().stdout.take().expect("it was piped"));
    assert_eq!(next_line(&mut said), "ready");
    (tracer, said)
}

fn next_line(said: &mut impl BufRead) -> String {
    let mut line = String::new();
    said.read_line(&mut line).expect("UTF-8");
    line.trim().to_owned()
}

fn every_other() {
    let place = open_directory();
    let (mut tracer, mut said) = say_signals(place.path(), &mut command([""; 0]));
    let uncatchable = [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM];
    let ordinary = (1..32).filter(|signal| !uncatchable.contains(signal));
    for signal in ordinary.chain([libc::SIGRTMIN(), libc::SIGRTMIN() + 1, libc::SIGRTMAX()]) {
        send(tracer.pid(), signal);
        assert_eq!(next_line(&mut said), format!("{signal:02}"));
    }
    // Real-time signals are queued.
    for _ in 0..3 {
        send(tracer.pid(), libc::SIGRTMIN());
    }
    for _ in 0..3 {
        assert_eq!(next_line(&mut said), libc::SIGRTMIN().to_string());
    }
    send(tracer.pid(), libc::SIGTERM);
    assert_eq!(tracer.wait(BOUND).code(), Some(128 + libc::SIGTERM));
}

fn await_state(pid: u32, what: &str, is: fn(char) -> bool) {
    let end = Instant::now() + BOUND;
    while !proc::stat(pid).is_some_and(|stat| is(stat.state)) {
        assert!(Instant::now() < end, "{pid} is not {what}:\n{}", proc::process_tree(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stops_and_continues() {
    let place = open_directory();
    let arguments: [OsString; 7] = [
        "run".into(),
        "-o".into(),
        place.path().join("events").into(),
        "--".into(),
        "sh".into(),
        "-c".into(),
        "echo $$; while :; do sleep 0.1; done".into(),
    ];
    let mut tracer = Guarded::spawn(command(&arguments).process_group(0).stdout(Stdio::piped()));
    let mut said = BufReader::new(tracer.child().stdout.take().expect("it was piped"));
    let cmd: u32 = next_line(&mut said).parse().expect("its pid");
    let both = |what: &str, is: fn(char) -> bool| {
        await_state(cmd, what, is);
        await_state(tracer.pid(), what, is);
    };
    let group = -(tracer.pid() as i32) as u32;
    // To one or both of them, as `kill`, a terminal and a shell's `fg` do.
    for (stopped, signal, continued) in [
        (tracer.pid(), libc::SIGTSTP, tracer.pid()),
        (tracer.pid(), libc::SIGTTIN, cmd),
        (group, libc::SIGTSTP, group),
        (cmd, libc::SIGSTOP, cmd),
        (cmd, libc::SIGTTOU, tracer.pid()),
    ] {
        send(stopped, signal);
        both("stopped", |state| state == 'T');
        send(continued, libc::SIGCONT);
        both("running", |state| state != 'T');
    }
    // The helper that continued it is gone.
    let children = || proc::all().values().filter(|stat| stat.ppid == tracer.pid() && stat.pid != cmd).count();
    let end = Instant::now() + BOUND;
    while children() > 0 {
        assert!(Instant::now() < end, "a helper is left:\n{}", proc::process_tree(tracer.pid()));
        std::thread::sleep(Duration::from_millis(2));
    }
    tracer.signal(Signal::SIGTERM);
    assert_eq!(tracer.wait(BOUND).code(), Some(128 + libc::SIGTERM));
}

/// Returns a pipe that is full.
pub(super) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("our pipe");
    assert_eq!(flags, 0);
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("our pipe");
    (reader, writer)
}

/// tracer's `-vv` output fills a pipe, so its main thread blocks forever.
fn blocked() {
    let place = open_directory();
    let (reader, writer) = full_pipe();
    let mut command = command(["-vv"]);
    command.args(["run", "-o"]).arg(place.path().join("events")).args(["--", "sleep", "60"]);
    let mut tracer = Guarded::spawn(command.process_group(0).stderr(writer).stdout(Stdio::null()));
    let end = Instant::now() + BOUND;
    while held_child(tracer.pid()).is_none() {
        assert!(Instant::now() < end && tracer.runs(), "the command is held");
        std::thread::yield_now();
    }
    send(tracer.pid(), libc::SIGTERM);
    assert_eq!(tracer.wait(BOUND).code(), Some(1), "the signal ends the command, and tracer soon after");
    drop(reader);
}

/// Returns a child that has exec'd, and waits to become the command.
fn held_child(tracer: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    let cmdline = fs::read(format!("/proc/{child}/cmdline")).ok()?;
    cmdline.windows(6).any(|word| word == b"__hold").then_some(child)
}

fn ctrl_c_while_held() {
    for after_ms in [0, 10, 40, 80, 160] {
        let place = open_directory();
        let complaint = place.path().join("stderr");
        let arguments: [OsString; 6] =
            ["run".into(), "-o".into(), place.path().join("events").into(), "--".into(), "sleep".into(), "60".into()];
        let stderr = fs::File::create(&complaint).expect("a new file");
        let mut tracer = Guarded::spawn(command(&arguments).process_group(0).stderr(stderr).stdout(Stdio::null()));
        let end = Instant::now() + BOUND;
        while held_child(tracer.pid()).is_none() {
            assert!(Instant::now() < end && tracer.runs(), "the command is held first");
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(after_ms));
        killpg(Pid::from_raw(tracer.pid() as i32), Signal::SIGINT).expect("our own group");
        let code = tracer.wait(BOUND).code();
        let complaint = fs::read_to_string(&complaint).expect("it was made");
        assert_eq!((code, complaint.as_str()), (Some(130), ""), "{after_ms} ms after it was held");
    }
}

fn parent_ignores_sigchld() {
    let mut traced = command(["run", "-o", "/dev/null", "--", "sh", "-c", "exit 7"]);
    // SAFETY: it sets a disposition, which is safe between fork and exec.
    unsafe {
        traced.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    let finished = run_bounded(&mut traced, BOUND);
    assert_eq!((finished.code(), finished.stderr.as_str()), (7, ""));
}

/// Signals that are ignored when tracer starts are ignored in the command, and no others.
fn ignored_as_by_hand() {
    const PRINT_IGNORED: [&str; 3] = ["grep", "^SigIgn", "/proc/self/status"];
    let sets: [&[i32]; 4] = [
        &[],
        &[libc::SIGPIPE],
        &[libc::SIGCHLD, libc::SIGUSR1],
        &[libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE],
    ];
    for ignored in sets {
        let print_ignored = |mut command: Command| {
            // SAFETY: it sets dispositions, which is safe between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    for &signal in ignored {
                        libc::signal(signal, libc::SIG_IGN);
                    }
                    Ok(())
                });
            }
            let finished = run_bounded(&mut command, BOUND);
            assert_eq!(finished.code(), 0, "{}", finished.stderr);
            finished.stdout()
        };
        let mut by_hand = Command::new(PRINT_IGNORED[0]);
        by_hand.args(&PRINT_IGNORED[1..]);
        let traced = command(["run", "-o", "/dev/null", "--"].into_iter().chain(PRINT_IGNORED));
        assert_eq!(print_ignored(traced), print_ignored(by_hand), "{ignored:?}");
    }
}
