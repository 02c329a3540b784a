//! Passes signals from `tracer run` on to its command. tracer also stops and continues with the command.
//!
//! A separate thread does this, and waits for the command's exit. So the command gets signals even while the main thread is blocked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, process, thread};

use anyhow::Context as _;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use tokio::sync::watch;

use super::waker::Waker;
use crate::cli::stop::{CHECK, Ending, MainThread};
use crate::sys::sigwait::{self, Child, Received, Set, Status, is_ignored};

/// Signals of the kernel that are not passed on. Either tracer caused them, or the command gets them too, because a terminal
/// signals its whole foreground group.
const OF_KERNEL: [i32; 10] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGXCPU,
    libc::SIGCHLD,
];

/// Signals that stop a process.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Signals that end tracer after the command has exited.
const ENDS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// False until the release of the command.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// What the thread has seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How the command exited.
    pub(super) ended: Option<Status>,
    /// Signals that ask tracer to end: SIGHUP and SIGTERM, and after the command's exit SIGINT and SIGQUIT too.
    pub(super) requests: u32,
    /// Those of them that came after the command's exit.
    pub(super) late: u32,
}

/// The signals that are passed on, blocked in every thread.
pub(in crate::cli) struct Signals {
    set: Set,
    main: MainThread,
}

impl Signals {
    /// Catches all signals from now on, except those that tracer inherited as ignored. No other thread may run yet.
    pub(in crate::cli) fn catch() -> anyhow::Result<Self> {
        let mut set = Vec::new();
        for number in Set::all().numbers() {
            // Rust's start-up code ignores SIGPIPE.
            if number == libc::SIGPIPE || number == libc::SIGCHLD || !is_ignored(number)? {
                set.push(number);
            }
        }
        let set = Set::of(set);
        set.block();
        Ok(Self { set, main: MainThread::this()? })
    }

    /// Passes signals on to a child until it exits, and reports its exit.
    pub(super) fn serve(self, pid: u32) -> anyhow::Result<watch::Receiver<Seen>> {
        let seen = watch::Sender::new(Seen::default());
        let receiver = seen.subscribe();
        let relay = Relay { pid, signals: self, seen, ending: None, woke: None };
        thread::Builder::new().name("tracer-signals".into()).spawn(move || relay.serve()).context(
            "cannot start a thread for signals: raise the limits on processes and memory (`ulimit -u`, `-v`)",
        )?;
        Ok(receiver)
    }
}

/// Notes the release of the command. From now on, the signals of the terminal reach it directly.
pub(super) fn release() {
    RELEASED.store(true, Ordering::Relaxed);
}

/// The state of the thread.
struct Relay {
    pid: u32,
    signals: Signals,
    seen: watch::Sender<Seen>,
    ending: Option<Ending>,
    /// The pid of the last waker.
    woke: Option<u32>,
}

impl Relay {
    fn serve(mut self) {
        // It may have exited before this thread started.
        self.check_child();
        loop {
            let came = sigwait::wait(&self.signals.set, self.ending.as_ref().map(|_| CHECK));
            if let Some(came) = came {
                self.take(came);
            }
            if let Some(ending) = &mut self.ending {
                ending.check();
            }
        }
    }

    fn take(&mut self, came: Received) {
        if came.number == libc::SIGCHLD {
            self.check_child();
        }
        let over = self.is_over();
        if !over && self.is_for_command(&came) {
            came.forward(self.pid);
        }
        if over && STOPS.contains(&came.number) {
            sigwait::stop_by(came.number);
        }
        let both = matches!(came.number, libc::SIGHUP | libc::SIGTERM);
        if both || (over && ENDS.contains(&came.number)) {
            self.seen.send_modify(|seen| {
                seen.requests += 1;
                seen.late += u32::from(over);
            });
        }
        if over && ENDS.contains(&came.number) {
            match &mut self.ending {
                None => self.ending = Some(Ending::begin(came.number, self.signals.main)),
                Some(ending) => ending.hurry(came.number),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.seen.borrow().ended.is_some()
    }

    fn is_for_command(&self, came: &Received) -> bool {
        match came.sender {
            // Signals from the command, tracer itself and the waker are not for the command.
            Some(sender) => {
                sender != self.pid as i32 && sender != process::id() as i32 && self.woke != Some(sender as u32)
            }
            // The held process may have started too late to get a signal of the terminal.
            None if !RELEASED.load(Ordering::Relaxed) => ![libc::SIGCHLD, libc::SIGPIPE].contains(&came.number),
            None => !OF_KERNEL.contains(&came.number),
        }
    }

    /// Checks whether the command has stopped or exited.
    fn check_child(&mut self) {
        while !self.is_over() {
            let ended = match sigwait::poll_child(self.pid) {
                Some(Child::Ended(status)) => status,
                Some(Child::Stopped(number)) => {
                    self.stop(number);
                    continue;
                }
                None => return,
            };
            let requested = self.seen.borrow().requests > 0;
            self.seen.send_modify(|seen| seen.ended = Some(ended));
            if requested {
                self.ending = Some(Ending::begin(libc::SIGTERM, self.signals.main));
            }
        }
    }

    /// Stops as the command did, so that the shell that started tracer sees it. Continues when either is continued.
    fn stop(&mut self, number: i32) {
        let waker = Waker::start(self.pid);
        self.woke = waker.as_ref().map(Waker::pid);
        sigwait::stop_by(number);
        // The SIGCONT that continued tracer is pending, and is passed on next.
        drop(waker);
    }
}

/// Signal dispositions that tracer or Rust's start-up code changed.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Signals that the command must ignore, because tracer inherited them as ignored.
    pub(super) ignored: Vec<i32>,
}

impl Inherited {
    /// Reads the inherited dispositions. Resets SIGCHLD, so that tracer can wait for its children.
    pub(super) fn take() -> io::Result<Self> {
        let mut ignored = Vec::new();
        if is_ignored(libc::SIGCHLD)? {
            ignored.push(libc::SIGCHLD);
            // SAFETY: no handler is installed.
            unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        }
        if PIPE_IGNORED.load(Ordering::Relaxed) {
            ignored.push(libc::SIGPIPE);
        }
        Ok(Self { ignored })
    }
}

/// Whether SIGPIPE was ignored before Rust's start-up code ignored it (library/std/src/sys/pal/unix/mod.rs, `init`).
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn check_pipe() {
    PIPE_IGNORED.store(is_ignored(libc::SIGPIPE).unwrap_or(false), Ordering::Relaxed);
}

// SAFETY: the C library calls the functions in this section before `main`. This function needs nothing that is initialised later.
#[used]
#[unsafe(link_section = ".init_array")]
static CHECK_PIPE: extern "C" fn() = check_pipe;
