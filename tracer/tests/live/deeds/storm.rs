//! Workloads that run until they are stopped, and workloads that pause.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork};
use super::tree::{await_adoption, record_fork, set_subreaper};
use crate::support::{Ident, Rng, Truth, proc};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("storm", storm),
    ("quiet-storm", quiet_storm),
    ("crowd", crowd),
    ("resting", resting),
    ("core-helper", core_helper),
    ("nothing", nothing),
    ("pinned-storms", pinned),
];

/// Limit on the processes of one worker, in case nothing stops it.
const MOST: u32 = 200_000;

/// Two workers make short-lived processes until the flag file is removed.
fn storm(truth: Truth, arguments: &[String]) {
    let flag = PathBuf::from(&arguments[0]);
    for _ in 0..2 {
        fork(|| {
            set_subreaper(true);
            let end = Instant::now() + 4 * kit::PATIENCE;
            let blows = |_: &u32| flag.exists() && Instant::now() < end;
            (0..MOST).take_while(blows).for_each(|round| short_life(truth, round));
            0
        });
    }
    wait_for_all(truth);
}

fn short_life(truth: Truth, round: u32) {
    fork(|| {
        let from = record_fork(truth);
        if round.is_multiple_of(4) {
            let recorded = Gate::new();
            fork(|| {
                record_fork(truth);
                recorded.open();
                await_adoption(truth, from);
                (round % 256) as i32
            });
            recorded.pass();
        }
        (round % 256) as i32
    });
    wait_for_all(truth);
}

/// Reaps all children, adopted ones too. Records when each was seen to have exited.
fn wait_for_all(truth: Truth) {
    while kit::any_child() {
        let (ended, status) = kit::wait_any();
        truth.say(
            "ended",
            json!({ "pid": ended.pid, "start": ended.start, "status": status, "boot_ns": proc::boot_ns() }),
        );
    }
}

/// As many processes as the machine can make, without a log, until the flag file is removed.
fn quiet_storm(truth: Truth, arguments: &[String]) {
    let flag = PathBuf::from(&arguments[0]);
    truth.say("storm", json!(Ident::me()));
    for _ in 0..2 {
        fork(|| {
            let end = Instant::now() + 12 * kit::PATIENCE;
            while flag.exists() && Instant::now() < end {
                kit::wait(fork(|| 0));
            }
            0
        });
    }
    while kit::any_child() {
        kit::wait_any();
    }
}

/// COUNT children, one after the other. Every third runs a program, the others exit with their own codes.
fn crowd(truth: Truth, arguments: &[String]) {
    let many: u32 = arguments[0].parse().expect("a count");
    let mut codes = BTreeMap::<i32, u32>::new();
    let mut execs = 0u32;
    for n in 0..many {
        let runs = n.is_multiple_of(3);
        execs += u32::from(runs);
        let child = fork(|| {
            assert!(!runs, "exec: {}", Command::new("/bin/true").exec());
            (n % 7) as i32
        });
        *codes.entry(libc::WEXITSTATUS(kit::wait(child).status)).or_default() += 1;
    }
    truth.say("crowd", json!({ "execs": execs, "codes": codes }));
}

/// Grows a random tree in steps. After each step it waits for a file that the test makes.
fn resting(truth: Truth, arguments: &[String]) {
    let [directory, steps, seed] = arguments else { panic!("DIRECTORY STEPS SEED") };
    let directory = Path::new(directory);
    let mut rng = Rng::new(seed.parse().expect("a seed"));
    set_subreaper(true);
    let mut living: Vec<u32> = Vec::new();
    for step in 0..steps.parse::<u32>().expect("a count") {
        for _ in 0..12 {
            living.extend(grow(&mut rng, step));
        }
        // Some exit, and they are the parents of others.
        for _ in 0..rng.below(8) {
            let index = rng.below(living.len() as u64) as usize;
            kit::kill(living.swap_remove(index), libc::SIGKILL);
        }
        reap_zombies();
        truth.say("at rest", json!({ "step": step }));
        let go = directory.join(format!("go-{step}"));
        kit::until("the test lets it continue", || go.exists());
    }
    for pid in living {
        kit::kill(pid, libc::SIGKILL);
    }
    while kit::any_child() {
        kit::wait_any();
    }
}

/// Adds a sleeper, a chain of sleepers, or one whose parent has exited. Returns the pids once all of them run.
fn grow(rng: &mut Rng, step: u32) -> Vec<u32> {
    let depth = 1 + rng.below(4) as u32;
    let orphaned = rng.chance(30);
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let top = fork(|| {
        sleepers(depth, step, &write);
        0
    });
    drop(write);
    let mut pids = Vec::new();
    for _ in 0..depth {
        let mut bytes = [0u8; 4];
        std::io::Read::read_exact(&mut read, &mut bytes).expect("each writes its pid");
        pids.push(u32::from_ne_bytes(bytes));
    }
    if orphaned && depth > 1 {
        kit::kill(top, libc::SIGKILL);
        kit::wait(top);
        pids.retain(|pid| *pid != top);
        kit::until("the orphan has another parent", || {
            pids.iter().all(|pid| proc::stat(*pid).is_some_and(|stat| stat.ppid != top))
        });
    }
    pids
}

/// This process and `depth` − 1 below it sleep until they are killed.
fn sleepers(depth: u32, step: u32, mut write: &std::io::PipeWriter) {
    // Killed once its parent has exited.
    kit::set_name(format!("rest-{step}-{depth}").as_bytes());
    if depth > 1 {
        fork(|| {
            sleepers(depth - 1, step, write);
            0
        });
    }
    std::io::Write::write_all(&mut write, &std::process::id().to_ne_bytes()).expect("a pipe");
    thread::sleep(5 * kit::PATIENCE);
}

/// Reaps the zombies. The children of a killed process have another parent by then.
fn reap_zombies() {
    let me = std::process::id();
    kit::until("no zombie is left", || {
        for stat in proc::all().values().filter(|stat| stat.ppid == me && stat.is_zombie()) {
            kit::wait(stat.pid);
        }
        // A killed process takes time to exit, so there may be one more.
        !proc::all().values().any(|stat| stat.ppid == me && stat.is_zombie())
    });
}

/// The program that the kernel starts when a process dumps core: records its identity, and consumes the core.
fn core_helper(truth: Truth, _: &[String]) {
    record_fork(truth);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("the kernel writes the core");
    truth.say("helper", json!(Ident::me()));
}

/// Starts and exits: a mark in the stream.
fn nothing(_: Truth, _: &[String]) {}

/// Two workers make a number of short-lived processes, each on a separate CPU if there are two.
fn pinned(truth: Truth, arguments: &[String]) {
    let count: u32 = arguments[0].parse().expect("a number");
    let may = |set: &libc::cpu_set_t, cpu: &usize| {
        // SAFETY: it reads a bit of the set, which is as large as its type.
        unsafe { libc::CPU_ISSET(*cpu, set) }
    };
    // SAFETY: all zero is an empty set, and both calls are given its size.
    let cpus: Vec<usize> = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0, "sched_getaffinity");
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| may(&set, cpu)).collect()
    };
    for worker in 0..2 {
        let cpu = cpus[worker % cpus.len()];
        fork(|| {
            // SAFETY: as above.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0, "sched_setaffinity");
            }
            for _ in 0..count {
                kit::wait(fork(|| 0));
            }
            0
        });
    }
    wait_for_all(truth);
}
