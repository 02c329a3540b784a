//! Ways to end.

use std::thread;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork, wait_and_say};
use crate::support::{Truth, proc};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("exit-codes", codes),
    ("exit-leader-first", leader_first),
    ("exit-group-from-thread", group_from_thread),
    ("exit-threads-alone", threads_alone),
    ("exit-killed", killed),
    ("exit-killed-threaded", killed_threaded),
    ("exit-every-signal", every_signal),
    ("exit-fault", fault),
];

/// Children that end with each of the codes.
fn codes(truth: Truth, _: &[String]) {
    for code in 0..=255 {
        let child = fork(|| code);
        wait_and_say(truth, "ended", child);
    }
}

/// The leader calls exit(2) alone; the last thread ends the process, by exit(2) alone or by exit_group.
fn leader_first(truth: Truth, arguments: &[String]) {
    let by_group = arguments[0] == "group";
    let child = fork(|| {
        let leader = std::process::id();
        thread::spawn(move || {
            kit::until("the leader is a zombie", || {
                proc::stat(format!("{leader}/task/{leader}")).is_some_and(|stat| stat.is_zombie())
            });
            truth.say("leader gone", json!({ "boot_ns": proc::boot_ns() }));
            if by_group { kit::exit_group(7) } else { kit::exit_thread(9) }
        });
        kit::exit_thread(5)
    });
    wait_and_say(truth, "ended", child);
}

/// A thread that is not the leader calls exit_group while others sleep.
fn group_from_thread(truth: Truth, _: &[String]) {
    let child = fork(|| {
        for _ in 0..3 {
            thread::spawn(|| thread::sleep(kit::PATIENCE));
        }
        thread::spawn(|| kit::exit_group(33));
        thread::sleep(kit::PATIENCE);
        0
    });
    wait_and_say(truth, "ended", child);
}

/// Threads come and go by exit(2) alone; the process lives on and ends with 0.
fn threads_alone(truth: Truth, _: &[String]) {
    let child = fork(|| {
        let me = std::process::id();
        for code in 1..=3 {
            let gate = Gate::new();
            thread::scope(|scope| {
                scope.spawn(|| {
                    truth.say("thread", json!({ "tid": kit::gettid(), "code": code }));
                    gate.open();
                });
            });
            gate.pass();
        }
        // These end without unwinding, so they can only be watched, not joined.
        for code in 4..=6 {
            thread::spawn(move || {
                truth.say("thread", json!({ "tid": kit::gettid(), "code": code }));
                kit::exit_thread(code)
            });
        }
        kit::until("all threads are gone", || proc::stat(me).is_some_and(|stat| stat.threads == 1));
        0
    });
    wait_and_say(truth, "ended", child);
}

/// A child is killed by another child, of a name and a user of its own.
fn killed(truth: Truth, arguments: &[String]) {
    let signal: i32 = arguments[0].parse().expect("a signal number");
    let ready = Gate::new();
    // SAFETY: an integer; the process has one thread.
    let become_other = || assert_eq!(unsafe { libc::setuid(1234) }, 0, "setuid");
    let victim = fork(|| {
        become_other();
        ready.open();
        thread::sleep(kit::PATIENCE);
        0
    });
    ready.pass();
    let sender = fork(|| {
        kit::set_name(b"assassin");
        become_other();
        kit::kill(victim, signal);
        0
    });
    wait_and_say(truth, "ended", victim);
    wait_and_say(truth, "sender", sender);
}

/// A process of several threads is killed.
fn killed_threaded(truth: Truth, _: &[String]) {
    let ready = Gate::new();
    let victim = fork(|| {
        for _ in 0..4 {
            thread::spawn(|| thread::sleep(kit::PATIENCE));
        }
        ready.open();
        thread::sleep(kit::PATIENCE);
        0
    });
    ready.pass();
    kit::kill(victim, libc::SIGKILL);
    wait_and_say(truth, "ended", victim);
}

/// A child for every signal that ends a process by default.
fn every_signal(truth: Truth, _: &[String]) {
    let ignored = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    for signal in (1..=31).chain([40, 64]).filter(|signal| !ignored.contains(signal) && !stops.contains(signal)) {
        let ready = Gate::new();
        let victim = fork(|| {
            // SAFETY: two integers. Rust ignores SIGPIPE from the start, which children inherit.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            ready.open();
            thread::sleep(kit::PATIENCE);
            0
        });
        ready.pass();
        kit::kill(victim, signal);
        wait_and_say(truth, "ended", victim);
    }
}

/// A child that is ended by what it does itself, with or without a core file.
fn fault(truth: Truth, arguments: &[String]) {
    let [how, core, directory] = arguments else { panic!("HOW CORE DIRECTORY") };
    let child = fork(|| {
        std::env::set_current_dir(directory).expect("a directory for the core");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one rlimit, then reads it.
        unsafe {
            libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit);
            limit.rlim_cur = if core == "core" { limit.rlim_max } else { 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        match how.as_str() {
            // SAFETY: it is meant to fault; Rust's handler tells it from a stack overflow and lets it happen again.
            "segv" => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
            "abort" => std::process::abort(),
            other => panic!("no such fault: {other}"),
        }
        0
    });
    wait_and_say(truth, "ended", child);
}
