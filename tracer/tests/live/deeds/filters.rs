//! Starting and ceasing to match a filter: by descent, by user, by cgroup.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork};
use super::tree::set_subreaper;
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[("orphaned", orphaned), ("turns", turns), ("moves", moves)];

/// Waits for a line on standard input.
fn await_go() {
    std::io::stdin().read_line(&mut String::new()).expect("a pipe");
}

/// Names the process to trace. After each signal to continue, that process loses its parent, and then the process
/// that adopted it.
fn orphaned(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let (begin, taken) = (Gate::new(), Gate::new());
    let middle = fork(|| {
        let root = fork(|| {
            let parents = |before: u32| {
                kit::until("it has another parent", || kit::getppid() != before);
                kit::getppid()
            };
            truth.say("root", json!(Ident::me()));
            let first = kit::getppid();
            // Two tracers start in the meantime.
            while !begin.pass_or_end(kit::PATIENCE) {}
            let second = parents(first);
            kit::wait(fork(|| 3));
            taken.open();
            parents(second);
            let ran = Command::new("/bin/true").status().expect("there is /bin/true");
            truth.say("over", json!({ "first": first, "second": second, "last": kit::getppid() }));
            i32::from(!ran.success())
        });
        let _ = root;
        while !begin.pass_or_end(kit::PATIENCE) {}
        0
    });
    await_go();
    begin.open();
    begin.open();
    kit::wait(middle);
    taken.pass();
    // It exits with this process as its parent.
}

/// Children that become another user. One has a child, and execs when it may continue. One only exits. One is killed.
fn turns(truth: Truth, arguments: &[String]) {
    let uid: u32 = arguments[0].parse().expect("a uid");
    let become_user = || {
        // SAFETY: three integers; a process with one thread.
        let done = unsafe { libc::setresuid(uid, uid, uid) };
        assert_eq!(done, 0, "setresuid: {}", std::io::Error::last_os_error());
    };
    let parent = fork(|| {
        become_user();
        let child = fork(|| 5);
        truth.say("child", json!(Ident::of(child)));
        kit::wait(child);
        // It does not change until its `/proc` entry was read.
        await_go();
        panic!("exec: {}", Command::new("/bin/true").arg("as another user").exec())
    });
    kit::wait(parent);
    let quiet = fork(|| {
        become_user();
        truth.say("quiet", json!(Ident::me()));
        6
    });
    kit::wait(quiet);
    let recorded = Gate::new();
    let killed = fork(|| {
        become_user();
        truth.say("killed", json!(Ident::me()));
        recorded.open();
        kit::until("it is killed", || false);
        0
    });
    recorded.pass();
    kit::kill(killed, libc::SIGTERM);
    kit::wait(killed);
}

/// INTO OUT: when it may continue, enters a cgroup and does something there, and then in another.
fn moves(truth: Truth, arguments: &[String]) {
    let [into, out] = arguments else { panic!("INTO OUT") };
    let enter = |cgroup: &str| {
        let procs = Path::new(cgroup).join("cgroup.procs");
        std::fs::write(&procs, "0").unwrap_or_else(|error| panic!("{}: {error}", procs.display()));
    };
    await_go();
    let mover = fork(|| {
        truth.say("mover", json!(Ident::me()));
        enter(into);
        let inside = fork(|| {
            truth.say("inside", json!(Ident::me()));
            panic!("exec: {}", Command::new("/bin/true").arg("inside").exec())
        });
        kit::wait(inside);
        // It does not change until its `/proc` entry was read.
        await_go();
        enter(out);
        let outside = fork(|| {
            truth.say("outside", json!(Ident::me()));
            panic!("exec: {}", Command::new("/bin/true").arg("outside").exec())
        });
        kit::wait(outside);
        enter(into);
        7
    });
    kit::wait(mover);
}
