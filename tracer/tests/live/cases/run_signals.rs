//! Signals and `tracer run`: what the command inherits, what is passed on to it, and what ends it before it began.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::run::{await_signal, check_caught};
use crate::support::{BOUND, Case, Guarded, case, command, open_directory, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run_signals::sent_to_tracer_alone_are_passed_on", passed_on),
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

/// A child that is no copy of tracer any more, but waits to become the command.
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
        killpg(Pid::from_raw(tracer.pid() as i32), Signal::SIGINT).expect("a group of ours");
        let code = tracer.wait(BOUND).code();
        let complaint = fs::read_to_string(&complaint).expect("it was made");
        assert_eq!((code, complaint.as_str()), (Some(130), ""), "{after_ms} ms after it was held");
    }
}

fn parent_ignores_sigchld() {
    let mut traced = command(["run", "-o", "/dev/null", "--", "sh", "-c", "exit 7"]);
    // SAFETY: it sets a disposition, and is safe between fork and exec.
    unsafe {
        traced.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    let finished = run_bounded(&mut traced, BOUND);
    assert_eq!((finished.code(), finished.stderr.as_str()), (7, ""));
}

/// What is ignored when tracer is started is ignored in the command, and nothing else.
fn ignored_as_by_hand() {
    const LOOK: [&str; 3] = ["grep", "^SigIgn", "/proc/self/status"];
    let sets: [&[i32]; 4] = [
        &[],
        &[libc::SIGPIPE],
        &[libc::SIGCHLD, libc::SIGUSR1],
        &[libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE],
    ];
    for ignored in sets {
        let look = |mut command: Command| {
            // SAFETY: it sets dispositions, and is safe between fork and exec.
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
        let mut by_hand = Command::new(LOOK[0]);
        by_hand.args(&LOOK[1..]);
        let traced = command(["run", "-o", "/dev/null", "--"].into_iter().chain(LOOK));
        assert_eq!(look(traced), look(by_hand), "{ignored:?}");
    }
}
