//! A process that continues tracer when the command is continued.
//!
//! While tracer is stopped, all its threads are. A shell continues both, but `kill -CONT` of the command continues only that. The
//! kernel notifies only the parent, which is tracer, and that is stopped.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process;

use nix::libc;

/// Time between two checks of the command.
static CHECK: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The process. It is killed when this value is dropped, and when tracer exits.
pub(super) struct Waker(libc::pid_t);

impl Waker {
    /// Begins to watch a stopped command. Returns `None` on failure. Then only SIGCONT to tracer continues tracer.
    pub(super) fn start(command: u32) -> Option<Self> {
        let stat = |pid: u32| File::open(format!("/proc/{pid}/stat"));
        let this = process::id();
        let (theirs, ours) = (stat(command).ok()?, stat(this).ok()?);
        // SAFETY: the child only makes system calls, which is safe after a fork of a process with threads.
        match unsafe { libc::fork() } {
            ..0 => {
                tracing::warn!("cannot watch for SIGCONT to the command: {}", io::Error::last_os_error());
                None
            }
            0 => watch(theirs.as_raw_fd(), ours.as_raw_fd(), this as libc::pid_t),
            pid => Some(Self(pid)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.0 as u32
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // SAFETY: the arguments are integers and a null pointer. Nothing else waits for this child.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Continues tracer once it is stopped and the command is not. Allocates nothing.
fn watch(theirs: i32, ours: i32, tracer: libc::pid_t) -> ! {
    // A separate session, so that no terminal stops this process.
    // SAFETY: all arguments are integers, except for the time, which is static.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::setsid();
        if libc::getppid() != tracer {
            libc::_exit(1);
        }
        while !is_stopped(ours) || is_stopped(theirs) {
            libc::nanosleep(&raw const CHECK, std::ptr::null_mut());
        }
        libc::kill(tracer, libc::SIGCONT);
        // tracer kills this process and waits for it.
        loop {
            libc::pause();
        }
    }
}

/// Returns whether a process is stopped, according to `/proc/PID/stat`. An exited process is not.
fn is_stopped(stat: i32) -> bool {
    let mut text = [0u8; 128];
    // SAFETY: it writes at most as many bytes as the buffer has.
    let bytes = unsafe { libc::pread(stat, text.as_mut_ptr().cast(), text.len(), 0) };
    let text = text.get(..usize::try_from(bytes).unwrap_or(0)).unwrap_or_default();
    // The name, in parentheses, may contain anything; the state follows it.
    let state = text.iter().rposition(|&byte| byte == b')').and_then(|end| text.get(end + 2));
    state.is_some_and(|state| matches!(state, b'T' | b't'))
}
