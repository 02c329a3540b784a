//! Storms that keep every CPU busy, with a log of all their processes.

use std::ffi::CString;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, CpuSet, clone, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

use super::Deed;
use super::kit::{self, fork};
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[("saturate", saturate)];

/// KIND SECONDS: one worker on each CPU forks as fast as it can. Each logs its children in the order of their forks.
fn saturate(truth: Truth, arguments: &[String]) {
    let [kind, seconds] = arguments else { panic!("KIND SECONDS") };
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a number"));
    let cpus = std::thread::available_parallelism().expect("there is at least one").get();
    let workers: Vec<u32> = (0..cpus).map(|cpu| fork(|| work(truth, kind, cpu, end))).collect();
    for worker in workers {
        assert_eq!(kit::wait(worker).status, 0, "a worker failed");
    }
}

fn work(truth: Truth, kind: &str, cpu: usize, end: Instant) -> i32 {
    let mut own = CpuSet::new();
    own.set(cpu).expect("a CPU of this machine");
    // If pinning is not allowed, they share the available CPUs.
    let _ = sched_setaffinity(Pid::from_raw(0), &own);
    let mut made: Vec<u32> = Vec::new();
    let mut make: Box<dyn FnMut(u32) -> u32> = match kind {
        "exec" => Box::new(run),
        "vfork" => Box::new(vforked()),
        "threads" => Box::new(thread),
        other => panic!("no such storm: {other}"),
    };
    while Instant::now() < end {
        let n = made.len() as u32;
        made.push(make(n));
    }
    let me = Ident::me();
    truth.say("made", json!({ "pid": me.pid, "start": me.start, "tids": made }));
    0
}

/// A process that execs a program, whose last argument is its number.
fn run(n: u32) -> u32 {
    let program = c"/bin/true";
    let argument = CString::new(n.to_string()).expect("digits");
    let argv = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    // SAFETY: a child of a process with one thread; its pointers are valid until the exec.
    let child = fork(|| unsafe { libc::execv(program.as_ptr(), argv.as_ptr()) });
    assert_eq!(kit::wait(child).status, 0, "/bin/true did not run");
    child
}

/// A process in its parent's memory, which exits with a code that gives its number.
fn vforked() -> impl FnMut(u32) -> u32 {
    let mut stack = vec![0; 64 * 1024];
    move |n| {
        let flags = CloneFlags::CLONE_VFORK | CloneFlags::CLONE_VM;
        let code = (n % 256) as isize;
        // SAFETY: the child touches only its own stack, and its parent is suspended until it has exited.
        let child = unsafe { clone(Box::new(|| code), &mut stack, flags, Some(Signal::SIGCHLD as i32)) };
        let child = child.expect("vfork").as_raw() as u32;
        assert_eq!(libc::WEXITSTATUS(kit::wait(child).status) as isize, code);
        child
    }
}

/// A thread that exits immediately.
fn thread(_: u32) -> u32 {
    let thread = std::thread::Builder::new().stack_size(32 * 1024).spawn(kit::gettid).expect("a thread");
    thread.join().expect("it does not panic")
}
