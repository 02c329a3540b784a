//! Signals that a thread waits for, with what the kernel says about them.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Duration;

use nix::libc;

/// A set of signals, real-time ones too.
#[derive(Clone, Copy)]
pub struct Set(libc::sigset_t);

impl Set {
    /// These.
    pub fn of(numbers: impl IntoIterator<Item = i32>) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset writes the whole set, and sigaddset refuses numbers that are no signals.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            Self(set.assume_init())
        }
    }

    /// All that a process may catch. The C library keeps those below `SIGRTMIN` to itself.
    pub fn all() -> Self {
        let caught = |number: &i32| ![libc::SIGKILL, libc::SIGSTOP].contains(number);
        Self::of((1..32).filter(caught).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()))
    }

    /// Their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        // SAFETY: it reads the set, and refuses numbers that are no signals.
        (1..=libc::SIGRTMAX()).filter(|&number| unsafe { libc::sigismember(&raw const self.0, number) } == 1)
    }

    /// Blocks these in the calling thread and those that it starts from now on. Returns what was blocked before.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn block(&self) -> Self {
        self.change(libc::SIG_BLOCK)
    }

    /// Unblocks these in the calling thread.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn unblock(&self) -> Self {
        self.change(libc::SIG_UNBLOCK)
    }

    /// Blocks these and no others in the calling thread. Safe between fork and exec.
    #[expect(clippy::return_self_not_must_use, reason = "not every caller restores the mask")]
    pub fn set(&self) -> Self {
        self.change(libc::SIG_SETMASK)
    }

    fn change(&self, how: i32) -> Self {
        let mut before = Self::of([]);
        // SAFETY: it reads one set and writes the other. It can only fail for an unknown `how`.
        unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// What was blocked when this process was started.
static INHERITED: OnceLock<Set> = OnceLock::new();

/// Blocks SIGXFSZ, so that a file that reaches the limit on its size is an error of the write. To be called before the first thread.
pub fn block_file_size() {
    let before = Set::of([libc::SIGXFSZ]).block();
    INHERITED.get_or_init(|| before);
}

/// What was blocked when this process was started.
pub fn inherited() -> Set {
    *INHERITED.get_or_init(|| Set::of([]).block())
}

/// A signal that came.
#[derive(Clone, Copy)]
pub struct Came {
    /// Its number.
    pub number: i32,
    /// The process that sent it; `None` if the kernel did.
    pub sender: Option<i32>,
    /// What was sent with it, if it was queued (sigqueue(3)).
    value: Option<libc::sigval>,
}

impl Came {
    fn new(info: &libc::siginfo_t) -> Self {
        let sent = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&info.si_code);
        // SAFETY: the kernel fills in both for these codes (sigaction(2)).
        let (pid, value) = unsafe { (info.si_pid(), info.si_value()) };
        Self {
            number: info.si_signo,
            sender: sent.then_some(pid),
            value: (info.si_code == libc::SI_QUEUE).then_some(value),
        }
    }

    /// Sends the same to a process. It may have ended.
    pub fn pass_on(&self, pid: u32) {
        // SAFETY: integers; the value is handed on as it came.
        unsafe {
            match self.value {
                Some(value) => libc::sigqueue(pid as i32, self.number, value),
                None => libc::kill(pid as i32, self.number),
            }
        };
    }
}

/// Waits for one of these signals, for a given time at most. They have to be blocked in every thread.
pub fn wait(set: &Set, patience: Option<Duration>) -> Option<Came> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let number = match patience {
        // SAFETY: it reads the set and writes one `siginfo_t`, for which there is room.
        None => unsafe { libc::sigwaitinfo(&raw const set.0, info.as_mut_ptr()) },
        Some(patience) => {
            let most =
                libc::timespec { tv_sec: patience.as_secs() as libc::time_t, tv_nsec: patience.subsec_nanos().into() };
            // SAFETY: as above; it also reads the time.
            unsafe { libc::sigtimedwait(&raw const set.0, info.as_mut_ptr(), &raw const most) }
        }
    };
    if number < 0 {
        return None;
    }
    // SAFETY: all bytes were zero, and the kernel has filled in what it says.
    Some(Came::new(&unsafe { info.assume_init() }))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Its status is lost: it was no child, or something else waited for it.
    Unknown,
}

/// What a child did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// It ended, and is waited for now.
    Ended(Status),
    /// A signal stopped it.
    Stopped(i32),
}

/// What a child did since this was last asked, without waiting. Signals may be real-time ones, which `nix` does not know.
pub fn look_at_child(pid: u32) -> Option<Child> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: it writes one `siginfo_t`, for which there is room.
    if unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) } != 0 {
        return Some(Child::Ended(Status::Unknown));
    }
    // SAFETY: all bytes were zero, and the kernel has filled in what it says.
    let info = unsafe { info.assume_init() };
    // SAFETY: for SIGCHLD, and where nothing happened, these are set (waitid(2)).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    match info.si_code {
        _ if pid == 0 => None,
        libc::CLD_EXITED => Some(Child::Ended(Status::Exited(status))),
        libc::CLD_KILLED | libc::CLD_DUMPED => Some(Child::Ended(Status::Killed(status))),
        libc::CLD_STOPPED => Some(Child::Stopped(status)),
        _ => None,
    }
}

/// True if a process ignores a signal.
pub fn is_ignored(number: i32) -> io::Result<bool> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action it only writes the present one, for which there is room.
    if unsafe { libc::sigaction(number, std::ptr::null(), old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is written.
    Ok(unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// Stops this process by a signal whose action is the default, until it is continued. A signal of a terminal does not stop a process
/// that no shell could continue. It is sent to the calling thread: another may wait for it, and this one must not go on before
/// the process is stopped.
pub fn stop_by(number: i32) {
    let this = Set::of([number]);
    // SAFETY: integers, and the handle of this thread.
    unsafe { libc::pthread_kill(libc::pthread_self(), number) };
    // Here the process stops, if the signal was blocked. Otherwise it stopped before.
    let before = this.unblock();
    before.set();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_comes_with_its_sender_and_value() {
        // Sent to this thread, so that no other test has it.
        let set = Set::of([libc::SIGUSR2, libc::SIGRTMIN() + 3]);
        let before = set.block();
        assert!(wait(&set, Some(Duration::ZERO)).is_none());
        // SAFETY: integers, and the handle of this thread.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGRTMIN() + 3) };
        let came = wait(&set, None).unwrap();
        assert_eq!((came.number, came.sender), (libc::SIGRTMIN() + 3, Some(std::process::id() as i32)));
        assert!(came.value.is_none());
        before.set();
    }
}
