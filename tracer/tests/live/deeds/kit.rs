//! Tools for deeds: forking, waiting, handshakes.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::{Value, json};

use crate::support::{Ident, Truth};

/// Time limit for everything that a deed waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(crate::support::BOUND.as_secs() / 2);

/// Forks. The child runs `body` and exits with its result.
pub(super) fn fork(body: impl FnOnce() -> i32) -> u32 {
    // SAFETY: deeds fork while they have one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => end_with(body),
        pid => pid as u32,
    }
}

/// Runs a child's body and exits with its result. A panic must not continue into the parent's code.
pub(super) fn end_with(body: impl FnOnce() -> i32) -> ! {
    let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
    exit_group(code)
}

/// Ends the process immediately.
pub(super) fn exit_group(code: i32) -> ! {
    // SAFETY: _exit takes an int and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends only the calling thread, even the leader. (`pthread_exit` would unwind, and end the process with the last
/// one.)
pub(super) fn exit_thread(code: i32) -> ! {
    // SAFETY: exit(2) takes an int and does not return; the thread's resources are leaked.
    unsafe {
        libc::syscall(libc::SYS_exit, code);
        std::hint::unreachable_unchecked()
    }
}

pub(super) fn gettid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() as u32 }
}

pub(super) fn getppid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getppid() as u32 }
}

pub(super) fn kill(pid: u32, signal: i32) {
    // SAFETY: two integers.
    let done = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(done, 0, "kill {pid}: {}", io::Error::last_os_error());
}

/// Sets the name of the calling thread, at most 15 bytes.
pub(super) fn set_name(name: &[u8]) {
    let mut buffer = [0u8; 16];
    buffer[..name.len()].copy_from_slice(name);
    // SAFETY: PR_SET_NAME reads up to 16 bytes, NUL-terminated.
    unsafe { libc::prctl(libc::PR_SET_NAME, buffer.as_ptr()) };
}

/// How a child exited, as `wait4` reports it.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) usage: libc::rusage,
}

/// Waits until a child has exited, and leaves it a zombie, so that its `/proc` entry can still be read.
pub(super) fn await_end(pid: u32) {
    // SAFETY: waitid writes one siginfo_t.
    let done = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::__WALL)
    };
    assert_eq!(done, 0, "waitid {pid}: {}", io::Error::last_os_error());
}

/// Returns true if a child can be reaped. `/proc` does not show that: while a thread execs, the leader that it
/// replaces is a zombie.
pub(super) fn has_ended(pid: u32) -> bool {
    // SAFETY: waitid writes one siginfo_t, whose pid is 0 if no child has exited.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        libc::waitid(libc::P_PID, pid, &raw mut info, flags) == 0 && info.si_pid() as u32 == pid
    }
}

/// Returns true if there is no such process any more, not even a zombie.
pub(super) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Reaps a child.
pub(super) fn wait(pid: u32) -> Ended {
    let mut status = 0;
    // SAFETY: wait4 writes one int and one rusage.
    let (done, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid as i32, &raw mut status, libc::__WALL, &raw mut usage), usage)
    };
    assert_eq!(done, pid as i32, "wait4 {pid}: {}", io::Error::last_os_error());
    Ended { status, usage }
}

/// Reaps a child and records all facts about its exit.
pub(super) fn reap_and_record(truth: Truth, what: &str, pid: u32) -> i32 {
    await_end(pid);
    let ident = Ident::of(pid);
    // A zombie's I/O counters are final. They contain its exited threads and the children that it reaped.
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let ended = wait(pid);
    truth.say(what, ending(ident, &ended, &io));
    ended.status
}

/// Returns the facts about an exit.
fn ending(ident: Ident, ended: &Ended, io: &str) -> Value {
    let bytes = |key: &str| -> Option<u64> { io.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()) };
    let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    json!({
        "pid": ident.pid,
        "start": ident.start,
        "status": ended.status,
        "user_ns": nanoseconds(ended.usage.ru_utime),
        "system_ns": nanoseconds(ended.usage.ru_stime),
        "max_rss_bytes": ended.usage.ru_maxrss as u64 * 1024,
        "minor_faults": ended.usage.ru_minflt,
        "major_faults": ended.usage.ru_majflt,
        "voluntary_switches": ended.usage.ru_nvcsw,
        "involuntary_switches": ended.usage.ru_nivcsw,
        "read_bytes": bytes("read_bytes:"),
        "write_bytes": bytes("write_bytes:"),
    })
}

/// A gate between processes. A waiter continues once every other holder has opened it or exited.
pub(super) struct Gate {
    read: OwnedFd,
    write: OwnedFd,
}

impl Gate {
    pub(super) fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: pipe writes two descriptors, which become ours.
        let (read, write) = unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0, "pipe: {}", io::Error::last_os_error());
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        Self { read, write }
    }

    /// Returns both ends, for a program that is exec'd with them open.
    pub(super) fn fds(&self) -> (i32, i32) {
        (self.read.as_raw_fd(), self.write.as_raw_fd())
    }

    /// Lets one waiter pass.
    pub(super) fn open(&self) {
        // SAFETY: one byte from this stack.
        let written = unsafe { libc::write(self.write.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
        assert_eq!(written, 1, "gate: {}", io::Error::last_os_error());
    }

    /// Waits until it is opened, with a time limit.
    pub(super) fn pass(&self) {
        assert!(self.pass_or_end(PATIENCE), "a gate stayed shut");
    }

    /// Returns true once it is opened, false after the time limit.
    pub(super) fn pass_or_end(&self, patience: Duration) -> bool {
        let mut poll = libc::pollfd { fd: self.read.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut byte = 0u8;
        // SAFETY: one pollfd and one byte, both on this stack.
        unsafe {
            libc::poll(&raw mut poll, 1, patience.as_millis() as i32) == 1
                && libc::read(self.read.as_raw_fd(), (&raw mut byte).cast(), 1) == 1
        }
    }
}

/// Yields until a condition holds for which there is no handshake, because only the kernel changes it.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it did not come true: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Uses the CPU for a given time of this thread's CPU clock.
pub(super) fn burn(time: Duration) {
    let clock = || {
        let now =
            nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock of this thread");
        Duration::from(now)
    };
    let end = clock() + time;
    while clock() < end {
        for n in 0..10_000u64 {
            std::hint::black_box(n.wrapping_mul(n));
        }
    }
}

/// Forks by clone3: the child runs `body`. `pids` are its requested pids, innermost namespace first.
///
/// `flags` must not share memory or make a thread.
pub(super) fn clone3(flags: u64, pids: &[i32], body: impl FnOnce() -> i32) -> u32 {
    try_clone3(flags, pids, body).unwrap_or_else(|error| panic!("clone3 {flags:#x} {pids:?}: {error}"))
}

/// Likewise, but returns an error if a pid is taken.
pub(super) fn try_clone3(flags: u64, pids: &[i32], body: impl FnOnce() -> i32) -> io::Result<u32> {
    // SAFETY: all zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    // With CLONE_PARENT the signal is the creator's, and must not be set.
    arguments.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    arguments.set_tid = if pids.is_empty() { 0 } else { pids.as_ptr() as u64 };
    arguments.set_tid_size = pids.len() as u64;
    // SAFETY: the arguments outlive the call; without CLONE_VM the child has its own copy of all memory, as after
    // fork.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => end_with(body),
        pid => Ok(pid as u32),
    }
}

/// Reaps a child in a pid namespace, where its pid differs from the one in `/proc`; 0 for any child. Returns its
/// identity in `/proc`, and the status.
pub(super) fn wait_inside(pid: u32) -> (Ident, i32) {
    let (kind, which) = if pid == 0 { (libc::P_ALL, 0) } else { (libc::P_PID, pid) };
    // SAFETY: waitid writes one siginfo_t, whose pid is valid after success.
    let child = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let done = libc::waitid(kind, which, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::__WALL);
        assert_eq!(done, 0, "waitid: {}", io::Error::last_os_error());
        info.si_pid() as u32
    };
    let outer = outer_ident(child);
    (outer, wait(child).status)
}

/// Returns the child of this process with this pid in its namespace, as `/proc` names it.
fn outer_ident(inner: u32) -> Ident {
    let me = crate::support::proc::stat("self").expect("/proc/self/stat").pid;
    crate::support::proc::all()
        .values()
        .filter(|stat| stat.ppid == me)
        .map(|stat| Ident { pid: stat.pid, start: stat.start })
        .find(|ident| pid_here(ident.pid) == Some(inner))
        .unwrap_or_else(|| panic!("no child of {me} has pid {inner} here"))
}

/// Returns the pid of a process of `/proc` in the pid namespace of this one.
fn pid_here(pid: u32) -> Option<u32> {
    let level = crate::support::proc::ns_pids(Ident::me().pid).len().max(1) - 1;
    crate::support::proc::ns_pids(pid).get(level).copied()
}

/// Reaps any child, in the pid namespace of `/proc`. Its identity is read while it is a zombie.
pub(super) fn wait_any() -> (Ident, i32) {
    // SAFETY: waitid writes one siginfo_t, whose pid is valid after success.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let done = libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::__WALL);
        assert_eq!(done, 0, "waitid: {}", io::Error::last_os_error());
        info.si_pid() as u32
    };
    let ident = Ident::of(pid);
    (ident, wait(pid).status)
}

/// Returns true while this process has a child, even a zombie.
pub(super) fn any_child() -> bool {
    // SAFETY: waitid writes one siginfo_t.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL) == 0
    }
}
