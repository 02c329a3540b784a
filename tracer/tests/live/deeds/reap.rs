//! Parents that reap their children, or do not.

use std::path::Path;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate};
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("reap-neglect", neglect),
    ("reap-adopted", adopted),
    ("reap-ignored", ignored),
    ("reap-gone", gone),
    ("reap-reported", reap_and_await_report),
];

/// Number of such families, and how many of them run at the same time.
const ROUNDS: usize = 60;
const AT_ONCE: usize = 16;

/// Leaves three zombies until a file exists; then reaps them.
fn neglect(truth: Truth, arguments: &[String]) {
    let release = Path::new(&arguments[0]);
    let children: Vec<u32> = (0..3).map(|code| kit::fork(|| code)).collect();
    for &child in &children {
        kit::await_end(child);
        truth.say("left", json!(Ident::of(child)));
    }
    truth.say("ready", json!({}));
    kit::until("the file to reap them exists", || release.exists());
    for child in children {
        kit::wait(child);
    }
}

/// Reaps a grandchild whose parent has exited, as its subreaper.
fn adopted(truth: Truth, _: &[String]) {
    // SAFETY: a flag.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let gate = Gate::new();
    let child = kit::fork(|| {
        kit::fork(|| {
            gate.pass();
            0
        });
        0
    });
    kit::wait(child);
    gate.open();
    let (grandchild, status) = kit::wait_any();
    assert_eq!(status, 0);
    truth.say("adopted", json!(grandchild));
}

/// Ignores SIGCHLD: the kernel reaps its children.
fn ignored(truth: Truth, _: &[String]) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let child = || {
        kit::fork(|| {
            truth.say("child", json!(Ident::me()));
            0
        })
    };
    let children: [u32; 3] = std::array::from_fn(|_| child());
    // Until they are gone, the kernel would reparent them to init when this process exits.
    kit::until("the children are gone", || children.iter().all(|&pid| kit::is_gone(pid)));
}

/// Children that nobody reaps, of parents that exit at once too, while others fork all the time. So the memory of a
/// parent is soon that of a fork in progress.
fn gone(truth: Truth, _: &[String]) {
    let forkers: [u32; 2] = std::array::from_fn(|_| {
        kit::fork(|| {
            // Killed with its parent. SAFETY: integers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                kit::wait(kit::fork(|| 0));
            }
        })
    });
    for _ in 0..ROUNDS {
        let parents: [u32; AT_ONCE] = std::array::from_fn(|_| {
            kit::fork(|| {
                // SAFETY: no handler is installed.
                unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
                let me = Ident::me();
                let child = kit::fork(|| {
                    truth.say("child", json!({ "child": Ident::me(), "parent": me }));
                    0
                });
                kit::until("the child is gone", || kit::is_gone(child));
                0
            })
        });
        for parent in parents {
            kit::wait(parent);
        }
    }
    for forker in forkers {
        kit::kill(forker, libc::SIGKILL);
        kit::wait(forker);
    }
}

/// Reaps a child, and then waits until tracer has reported that.
fn reap_and_await_report(truth: Truth, arguments: &[String]) {
    let child = kit::fork(|| 0);
    kit::await_end(child);
    truth.say("child", json!(Ident::of(child)));
    kit::wait(child);
    kit::until("tracer reports it", || {
        std::fs::read_to_string(&arguments[0]).is_ok_and(|events| events.contains("\"event\":\"reap\""))
    });
}
