//! Waits for signals and for children, with the details from the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Duration;

use nix::libc;

/// A set of signals, including real-time signals.
#[derive(Clone, Copy)]
pub struct Set(libc::sigset_t);

impl Set {
    /// Returns a set of these signals.
    pub fn of(numbers: impl IntoIterator<Item = i32>) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset writes the whole set, and sigaddset rejects invalid numbers.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            Self(set.assume_init())
        }
    }

    /// Returns all signals that a process may catch. The C library reserves those from 32 up to `SIGRTMIN`.
    pub fn all() -> Self {
        let caught = |number: &i32| ![libc::SIGKILL, libc::SIGSTOP].contains(number);
        Self::of((1..32).filter(caught).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()))
    }

    /// Returns their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        // SAFETY: sigismember reads the set and rejects invalid numbers.
        (1..=libc::SIGRTMAX()).filter(|&number| unsafe { libc::sigismember(&raw const self.0, number) } == 1)
    }

    /// Blocks these in the calling thread and in threads that it starts later. Returns the previous mask.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn block(&self) -> Self {
        self.change(libc::SIG_BLOCK)
    }

    /// Unblocks these in the calling thread. Returns the previous mask.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn unblock(&self) -> Self {
        self.change(libc::SIG_UNBLOCK)
    }

    /// Blocks exactly these in the calling thread. Returns the previous mask. Safe between fork and exec.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn set(&self) -> Self {
        self.change(libc::SIG_SETMASK)
    }

    fn change(&self, how: i32) -> Self {
        let mut before = Self::of([]);
        // SAFETY: it reads one set and writes the other. It fails only for an unknown `how`.
        unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// The signal mask that this process was started with.
static INHERITED: OnceLock<Set> = OnceLock::new();

/// Blocks SIGXFSZ, so that a write beyond the file size limit returns an error. Call this before the first thread starts.
pub fn block_file_size() {
    let before = Set::of([libc::SIGXFSZ]).block();
    INHERITED.get_or_init(|| before);
}

/// Returns the signal mask that this process was started with.
pub fn inherited() -> Set {
    *INHERITED.get_or_init(|| Set::of([]).block())
}

/// A received signal.
#[derive(Clone, Copy)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// The process that sent it. `None` if the kernel did.
    pub sender: Option<i32>,
    /// Its value, if it was queued (sigqueue(3)).
    value: Option<libc::sigval>,
}

impl Received {
    fn new(info: &libc::siginfo_t) -> Self {
        let sent = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&info.si_code);
        // SAFETY: all bytes are initialised, and both are plain values. The kernel sets them for these codes (sigaction(2)).
        let (pid, value) = unsafe { (info.si_pid(), info.si_value()) };
        Self {
            number: info.si_signo,
            sender: sent.then_some(pid),
            value: (info.si_code == libc::SI_QUEUE).then_some(value),
        }
    }

    /// Sends the same signal to a process, which may have exited.
    pub fn forward(&self, pid: u32) {
        // SAFETY: the calls take integers, and the value is passed unchanged.
        unsafe {
            match self.value {
                Some(value) => libc::sigqueue(pid as i32, self.number, value),
                None => libc::kill(pid as i32, self.number),
            }
        };
    }
}

/// Waits for one of these signals, at most for a given time. They must be blocked in every thread.
pub fn wait(set: &Set, timeout: Option<Duration>) -> Option<Received> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let number = match timeout {
        // SAFETY: it reads the set and writes one `siginfo_t`, and the buffer has that size.
        None => unsafe { libc::sigwaitinfo(&raw const set.0, info.as_mut_ptr()) },
        Some(timeout) => {
            let timeout =
                libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos().into() };
            // SAFETY: as above. It also reads the timeout.
            unsafe { libc::sigtimedwait(&raw const set.0, info.as_mut_ptr(), &raw const timeout) }
        }
    };
    if number < 0 {
        return None;
    }
    // SAFETY: all bytes were zeroed, and the kernel has filled in the rest.
    Some(Received::new(&unsafe { info.assume_init() }))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// Its status is lost: it was not a child, or something else reaped it.
    Unknown,
}

/// A change of a child's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// It ended, and is reaped now.
    Ended(Status),
    /// A signal stopped it.
    Stopped(i32),
}

/// Returns the change of a child's state since the last call, without waiting.
///
/// Its signal may be a real-time signal, which `nix` does not know.
pub fn poll_child(pid: u32) -> Option<Child> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: it writes one `siginfo_t`, and the buffer has that size.
    if unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) } != 0 {
        return Some(Child::Ended(Status::Unknown));
    }
    // SAFETY: all bytes were zeroed, and the kernel has filled in the rest.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) sets these for SIGCHLD, and also if nothing happened.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    match info.si_code {
        _ if pid == 0 => None,
        libc::CLD_EXITED => Some(Child::Ended(Status::Exited(status))),
        libc::CLD_KILLED | libc::CLD_DUMPED => Some(Child::Ended(Status::Killed(status))),
        libc::CLD_STOPPED => Some(Child::Stopped(status)),
        _ => None,
    }
}

/// Returns true if this process ignores a signal.
pub fn is_ignored(number: i32) -> io::Result<bool> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action it only writes the current one, and the buffer has that size.
    if unsafe { libc::sigaction(number, std::ptr::null(), old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is written.
    Ok(unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// Stops this process by a signal with default action, until it is continued.
///
/// A terminal signal does not stop a process that no shell could continue. The signal goes to the calling thread, because
/// another thread may wait for it. This thread must not run on before the process is stopped.
pub fn stop_by(number: i32) {
    let this = Set::of([number]);
    // SAFETY: the call takes an integer and the handle of this thread.
    unsafe { libc::pthread_kill(libc::pthread_self(), number) };
    // If the signal was blocked, the process stops here. Otherwise it stopped before.
    let before = this.unblock();
    before.set();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_sender_and_value() {
        // It goes to this thread, so that no other test receives it.
        let set = Set::of([libc::SIGUSR2, libc::SIGRTMIN() + 3]);
        let before = set.block();
        assert!(wait(&set, Some(Duration::ZERO)).is_none());
        // SAFETY: the call takes an integer and the handle of this thread.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGRTMIN() + 3) };
        let received = wait(&set, None).unwrap();
        assert_eq!((received.number, received.sender), (libc::SIGRTMIN() + 3, Some(std::process::id() as i32)));
        assert!(received.value.is_none());
        before.set();
    }
}
