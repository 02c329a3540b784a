//! Pid namespaces and chosen pids.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, clone3, fork, reap_and_record};
use super::tree::{await_adoption, record_fork, set_subreaper};
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("ns-orphan", orphan),
    ("ns-nested", nested),
    ("ns-init-dies", init_dies),
    ("ns-joined", joined),
    ("ns-outer-parent", outer_parent),
    ("ns-pid-max", pid_max),
    ("pid-chosen", chosen),
    ("pid-reuse", reuse),
    ("pid-cycle", cycle),
];

const NEW_PID_NS: u64 = libc::CLONE_NEWPID as u64;

/// In a namespace: an orphan goes to its init, or to a subreaper inside, never to the subreaper outside.
fn orphan(truth: Truth, arguments: &[String]) {
    let subreaper_inside = arguments[0] == "subreaper";
    set_subreaper(true);
    let init = clone3(NEW_PID_NS, &[], || {
        let init = record_fork(truth);
        truth.say("init", json!(init));
        let lineage = |reaper: Ident| {
            let (recorded, adopted) = (Gate::new(), Gate::new());
            let middle = fork(|| {
                let from = record_fork(truth);
                fork(|| {
                    record_fork(truth);
                    recorded.open();
                    assert_eq!(await_adoption(truth, from), reaper);
                    adopted.open();
                    0
                });
                recorded.pass();
                0
            });
            reap_and_record_inside(truth, middle);
            adopted.pass();
            // The only other child is the orphan.
            reap_and_record_inside(truth, 0);
        };
        if subreaper_inside {
            let subreaper = fork(|| {
                let subreaper = record_fork(truth);
                set_subreaper(true);
                lineage(subreaper);
                0
            });
            reap_and_record_inside(truth, subreaper);
        } else {
            lineage(init);
        }
        0
    });
    reap_and_record(truth, "ended", init);
}

/// Reaps in a pid namespace, where the pids of wait are not those of `/proc`; 0 for any child.
fn reap_and_record_inside(truth: Truth, pid: u32) {
    let (outer, status) = kit::wait_inside(pid);
    truth.say("ended", json!({ "pid": outer.pid, "start": outer.start, "status": status }));
}

/// Two namespaces deep.
fn nested(truth: Truth, _: &[String]) {
    let outer = clone3(NEW_PID_NS, &[], || {
        record_fork(truth);
        let inner = clone3(NEW_PID_NS, &[], || {
            record_fork(truth);
            let leaf = fork(|| {
                record_fork(truth);
                3
            });
            reap_and_record_inside(truth, leaf);
            0
        });
        reap_and_record_inside(truth, inner);
        0
    });
    reap_and_record(truth, "ended", outer);
}

/// A namespace's init exits: the kernel kills all others in it, and they stay its children until they exit.
fn init_dies(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let recorded = Gate::new();
    let init = clone3(NEW_PID_NS, &[], || {
        record_fork(truth);
        for _ in 0..3 {
            fork(|| {
                truth.say("doomed", json!(record_fork(truth)));
                fork(|| {
                    truth.say("doomed", json!(record_fork(truth)));
                    recorded.open();
                    thread::sleep(kit::PATIENCE);
                    0
                });
                thread::sleep(kit::PATIENCE);
                0
            });
        }
        (0..3).for_each(|_| recorded.pass());
        42
    });
    reap_and_record(truth, "ended", init);
}

/// A process from outside joins a namespace: its orphans go to the namespace's init.
fn joined(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let (stay, up) = (Gate::new(), Gate::new());
    let init = clone3(NEW_PID_NS, &[], || {
        truth.say("init", json!(record_fork(truth)));
        up.open();
        stay.pass();
        // The adopted orphan.
        reap_and_record_inside(truth, 0);
        0
    });
    up.pass();
    let joiner = fork(|| {
        record_fork(truth);
        let namespace = fs::File::open(format!("/proc/{init}/ns/pid")).expect("it runs");
        setns(&namespace, CloneFlags::CLONE_NEWPID).expect("root may");
        let recorded = Gate::new();
        // This one is inside; its parent is not.
        let inside = fork(|| {
            let from = record_fork(truth);
            fork(|| {
                record_fork(truth);
                recorded.open();
                await_adoption(truth, from);
                stay.open();
                0
            });
            recorded.pass();
            0
        });
        // wait() reports a child with its pid here, which is what fork returned.
        reap_and_record(truth, "ended", inside);
        0
    });
    reap_and_record(truth, "ended", joiner);
    reap_and_record(truth, "ended", init);
}

/// A namespace's init loses its parent, which is outside: the subreaper outside adopts it.
fn outer_parent(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let recorded = Gate::new();
    let parent = fork(|| {
        let from = record_fork(truth);
        clone3(NEW_PID_NS, &[], || {
            truth.say("init", json!(record_fork(truth)));
            recorded.open();
            await_adoption(truth, from);
            0
        });
        recorded.pass();
        0
    });
    reap_and_record(truth, "ended", parent);
    reap_and_record_inside(truth, 0);
}

/// A namespace with few pids, used up many times over.
fn pid_max(truth: Truth, _: &[String]) {
    let host = || fs::read_to_string("/proc/sys/kernel/pid_max").expect("it exists");
    let before = host();
    let init = clone3(NEW_PID_NS, &[], || {
        // 300 are reserved for the boot; less cannot be set (kernel/pid.c, pid_max_min).
        fs::write("/proc/sys/kernel/pid_max", "310").expect("root may");
        // Up to the wrap. From there on pids are taken from 300 to 309 repeatedly.
        for _ in 0..305 {
            kit::wait(fork(|| 0));
        }
        for code in 0..60 {
            let child = fork(|| {
                record_fork(truth);
                code
            });
            reap_and_record_inside(truth, child);
        }
        0
    });
    reap_and_record(truth, "ended", init);
    if host() != before {
        fs::write("/proc/sys/kernel/pid_max", &before).expect("root may");
        panic!("the pid_max of the whole machine was changed; it is restored");
    }
}

/// Returns the first of `count` unused pids in a row. The kernel assigns pids in order, and has just assigned ours.
/// So those somewhat below come last.
fn free_pids(count: i32) -> i32 {
    /// Other processes that choose pids choose from another block.
    const BLOCK: i32 = 64;
    const BLOCKS: i32 = 61;
    let me = std::process::id() as i32;
    let from = me - BLOCK - BLOCK * (me % BLOCKS);
    let limit: i32 =
        fs::read_to_string("/proc/sys/kernel/pid_max").expect("it exists").trim().parse().expect("a number");
    // Few have been assigned yet: the highest come last. 300 are reserved (kernel/pid.c).
    let from = if from > 600 { from } else { limit - BLOCK - BLOCK * (me % BLOCKS) };
    // A number may also be that of a process group whose leader is gone.
    let free = |pid: i32| kit::is_gone(pid as u32) && kill(Pid::from_raw(-pid), None) == Err(Errno::ESRCH);
    (300..from).rev().find(|&first| (first..first + count).all(free)).expect("free pids")
}

/// Pids chosen by clone3: here, and at each level of a namespace.
fn chosen(truth: Truth, _: &[String]) {
    let pid = free_pids(2);
    let child = clone3(0, &[pid], || {
        record_fork(truth);
        0
    });
    assert_eq!(child as i32, pid);
    reap_and_record(truth, "ended", child);
    let inner_pid = 77;
    let outer_pid = pid + 1;
    let init = clone3(NEW_PID_NS, &[], || {
        record_fork(truth);
        let child = clone3(0, &[inner_pid, outer_pid], || {
            record_fork(truth);
            0
        });
        assert_eq!(child as i32, inner_pid);
        reap_and_record_inside(truth, child);
        0
    });
    reap_and_record(truth, "ended", init);
}

/// One pid, used repeatedly. A pause of more than a clock tick makes the ids differ; without one they are the same.
fn reuse(truth: Truth, arguments: &[String]) {
    let [rounds, pause] = arguments else { panic!("ROUNDS PAUSE") };
    let pid = free_pids(1);
    for round in 0..rounds.parse().expect("a count") {
        let child = clone3(0, &[pid], || {
            record_fork(truth);
            round % 200
        });
        reap_and_record(truth, "ended", child);
        thread::sleep(Duration::from_millis(pause.parse().expect("milliseconds")));
    }
}

/// Eight pids are used repeatedly by processes that run at the same time, have children and leave orphans. A pid is
/// never used twice within one clock tick, so no two ids are the same.
fn cycle(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let first = free_pids(8);
    let mut living: Vec<Option<u32>> = vec![None; 8];
    for round in 0..200usize {
        // Eight rounds use each slot once.
        let slot = (round * 5 + round / 8) % 8;
        if round % 8 == 0 {
            thread::sleep(Duration::from_nanos(tracer::event::id::TICK_NS));
        }
        if let Some(pid) = living[slot].take() {
            reap_and_record(truth, "ended", pid);
        }
        let lonely = Gate::new();
        let body = || {
            let from = record_fork(truth);
            if round % 3 == 0 {
                let recorded = Gate::new();
                fork(|| {
                    let me = record_fork(truth);
                    recorded.open();
                    await_adoption(truth, from);
                    truth.say("orphan", json!(me));
                    lonely.open();
                    0
                });
                recorded.pass();
            }
            (round % 100) as i32
        };
        let pid = clone3(0, &[first + slot as i32], body);
        if round % 3 == 0 {
            lonely.pass();
        }
        living[slot] = Some(pid);
    }
    for pid in living.into_iter().flatten() {
        reap_and_record(truth, "ended", pid);
    }
    // The orphans are ours now.
    while kit::any_child() {
        reap_and_record_inside(truth, 0);
    }
}
