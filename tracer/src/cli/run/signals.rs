//! Signals of `tracer run`: each that comes to tracer is passed on to the command, and tracer stops and continues with it.
//!
//! A separate thread does it, and waits for the command's end. So the command gets its signals even while the main thread is blocked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, process, thread};

use anyhow::Context as _;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use tokio::sync::watch;

use super::waker::Waker;
use crate::cli::stop::{Ending, LOOK, MainThread};
use crate::sys::sigwait::{self, Child, Received, Set, Status, is_ignored};

/// What the kernel sends to tracer alone because of what tracer did, or to the command as well: a terminal signals its whole
/// foreground group.
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

/// What stops a process.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// What ends tracer once the command has ended.
const ENDS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// False until the command was let go.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// What the thread has seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How the command ended.
    pub(super) ended: Option<Status>,
    /// Signals that ask tracer to end: SIGHUP and SIGTERM, and the others once the command has ended.
    pub(super) requests: u32,
    /// Those of them that came once the command had ended.
    pub(super) late: u32,
}

/// The signals that are passed on, blocked in every thread.
pub(in crate::cli) struct Signals {
    set: Set,
    main: MainThread,
}

impl Signals {
    /// Catches all signals from now on. No other thread may run yet. The command ignores what tracer was started to ignore, and
    /// nothing that is ignored is caught.
    pub(in crate::cli) fn catch() -> anyhow::Result<Self> {
        let mut set = Vec::new();
        for number in Set::all().numbers() {
            // Rust's start-up code ignores SIGPIPE by itself.
            if number == libc::SIGPIPE || number == libc::SIGCHLD || !is_ignored(number)? {
                set.push(number);
            }
        }
        let set = Set::of(set);
        set.block();
        Ok(Self { set, main: MainThread::this()? })
    }

    /// Passes signals on to a child until it ends, and takes notice of its end.
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

/// The command is let go: from now on it gets what a terminal sends by itself.
pub(super) fn release() {
    RELEASED.store(true, Ordering::Relaxed);
}

/// The thread's own state.
struct Relay {
    pid: u32,
    signals: Signals,
    seen: watch::Sender<Seen>,
    ending: Option<Ending>,
    /// The process that continued tracer last, because the command was continued.
    woke: Option<u32>,
}

impl Relay {
    fn serve(mut self) {
        // It may have ended before its end was waited for.
        self.look();
        loop {
            let came = sigwait::wait(&self.signals.set, self.ending.as_ref().map(|_| LOOK));
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
            self.look();
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
            // What the command itself sends is not meant for it.
            Some(sender) => {
                sender != self.pid as i32 && sender != process::id() as i32 && self.woke != Some(sender as u32)
            }
            // While it is held, it may be too young to have got what the terminal sent.
            None if !RELEASED.load(Ordering::Relaxed) => ![libc::SIGCHLD, libc::SIGPIPE].contains(&came.number),
            None => !OF_KERNEL.contains(&came.number),
        }
    }

    /// Looks whether the command has stopped or ended.
    fn look(&mut self) {
        while !self.is_over() {
            let ended = match sigwait::poll_child(self.pid) {
                Some(Child::Ended(status)) => status,
                Some(Child::Stopped(number)) => {
                    self.stop(number);
                    continue;
                }
                None => return,
            };
            let told = self.seen.borrow().requests > 0;
            self.seen.send_modify(|seen| seen.ended = Some(ended));
            if told {
                self.ending = Some(Ending::begin(libc::SIGTERM, self.signals.main));
            }
        }
    }

    /// Stops as the command did: a shell that started tracer sees that. Goes on when either is continued.
    fn stop(&mut self, number: i32) {
        let waker = Waker::start(self.pid);
        self.woke = waker.as_ref().map(Waker::pid);
        sigwait::stop_by(number);
        // What continued tracer, SIGCONT, waits to be passed on.
        drop(waker);
    }
}

/// What tracer's own start, or tracer itself, has changed of what it was started with.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Signals that were ignored, and that the command is to ignore.
    pub(super) ignored: Vec<i32>,
}

impl Inherited {
    /// Looks at what was inherited, and makes sure that tracer can wait for its children.
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

/// Whether SIGPIPE was ignored before Rust's start-up code had it ignored (library/std/src/sys/pal/unix/mod.rs, `init`).
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_pipe() {
    PIPE_IGNORED.store(is_ignored(libc::SIGPIPE).unwrap_or(false), Ordering::Relaxed);
}

// SAFETY: the C library calls what stands in this section before `main`; the function needs nothing that is made later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_PIPE: extern "C" fn() = look_at_pipe;
