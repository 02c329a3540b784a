//! Commands for `tracer run` that report the signals and state that reach them.

use std::io::Write as _;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit;
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] =
    &[("await-signal", await_signal), ("say-signals", say_signals), ("tell-start", record_start), ("family", family)];

static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// Prints that it is ready, and exits with 40 plus the number of the first signal that it receives.
fn await_signal(truth: Truth, _: &[String]) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
    println!("ready");
    std::io::stdout().flush().expect("standard output is open");
    kit::until("a signal comes", || CAUGHT.load(Ordering::Relaxed) != 0);
    let signal = CAUGHT.load(Ordering::Relaxed);
    truth.say("caught", json!({ "signal": signal }));
    std::process::exit(40 + signal)
}

extern "C" fn say(signal: libc::c_int) {
    let digits = [b'0' + (signal / 10) as u8, b'0' + (signal % 10) as u8, b'\n'];
    // SAFETY: it reads three bytes of this stack.
    unsafe { libc::write(1, digits.as_ptr().cast(), digits.len()) };
}

/// Prints that it is ready, then each signal that it receives, as two digits, until SIGTERM ends it.
fn say_signals(truth: Truth, _: &[String]) {
    for signal in (1..=libc::SIGRTMAX()).filter(|&signal| signal != libc::SIGTERM) {
        // SAFETY: the handler only writes. Signals that cannot be caught are refused.
        unsafe { libc::signal(signal, say as *const () as libc::sighandler_t) };
    }
    truth.say("ready", json!({ "pid": Ident::me().pid }));
    println!("ready");
    std::io::stdout().flush().expect("standard output is open");
    loop {
        std::thread::sleep(kit::PATIENCE);
    }
}

/// Records its state at the start: signals ignored or blocked, descriptors, group, session.
fn record_start(truth: Truth, _: &[String]) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    let mut fds: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("/proc is mounted")
        .flatten()
        .filter_map(|entry| {
            Some(format!("{} {}", entry.file_name().to_str()?, entry.path().read_link().ok()?.display()))
        })
        .filter(|fd| !fd.contains("truth") && !fd.contains("/proc/"))
        .collect();
    fds.sort();
    // SAFETY: no arguments, or 0 for this process.
    let (pgid, sid) = unsafe { (libc::getpgrp(), libc::getsid(0)) };
    truth.say(
        "start",
        json!({
            "blocked": of("SigBlk:"), "ignored": of("SigIgn:"), "no_new_privs": of("NoNewPrivs:"), "traced_by": of("TracerPid:"),
            "fds": fds, "pgid": pgid, "sid": sid, "cwd": std::env::current_dir().ok(),
            "nice": status_nice(), "environment": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
        }),
    );
}

fn status_nice() -> i32 {
    // SAFETY: integers; 0 is this process.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// A small family with known names, until its standard input is closed.
fn family(truth: Truth, _: &[String]) {
    kit::set_name(b"granny");
    let ready = kit::Gate::new();
    let say = |name: &str| truth.say("member", json!({ "name": name, "pid": Ident::me().pid }));
    say("granny");
    let sleep = |ready: &kit::Gate| {
        ready.open();
        std::thread::sleep(5 * kit::PATIENCE);
        0
    };
    let aunt = kit::fork(|| {
        kit::set_name(b"aunt");
        say("aunt");
        sleep(&ready)
    });
    ready.pass();
    let mother = kit::fork(|| {
        kit::set_name(b"mother");
        say("mother");
        let born = kit::Gate::new();
        for name in ["child\x1b[31m", "child b"] {
            kit::fork(|| {
                kit::set_name(name.as_bytes());
                say(name);
                // Killed with its parent. SAFETY: integers only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                sleep(&born)
            });
            born.pass();
        }
        sleep(&ready)
    });
    ready.pass();
    println!("ready");
    std::io::stdout().flush().expect("standard output is open");
    std::io::stdin().read_line(&mut String::new()).expect("standard input is open");
    for pid in [aunt, mother] {
        kit::kill(pid, libc::SIGKILL);
        kit::wait(pid);
    }
}
