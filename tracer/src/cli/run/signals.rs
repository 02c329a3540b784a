//! Signals that come to tracer and are meant for the command of `tracer run`.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};

/// What is passed on. Those of a terminal's size and job control reach the command without tracer.
const PASSED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// What a terminal sends to its whole foreground group, and so to the command too.
const OF_TERMINAL: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

/// Signals, as bits, that a process has sent since they were last looked at.
static SENT: AtomicU64 = AtomicU64::new(0);

const fn bit(signal: Signal) -> u64 {
    1 << signal as u64
}

/// The signals that are caught to be passed on.
pub(in crate::cli) struct Signals(Vec<(Signal, Caught)>);

impl Signals {
    /// Catches them from now on, but for those that tracer was started to ignore: the command is to ignore them as well.
    pub(in crate::cli) fn catch() -> io::Result<Self> {
        let mut caught = Vec::new();
        for which in PASSED {
            if is_ignored(which)? {
                continue;
            }
            if OF_TERMINAL.contains(&which) {
                note_sender(which)?;
            }
            caught.push((which, signal(SignalKind::from_raw(which as i32))?));
        }
        Ok(Self(caught))
    }

    /// The next one, and whether the command has it already.
    pub(in crate::cli) async fn next(&mut self) -> (Signal, bool) {
        let which = poll_fn(|cx| {
            let came = self.0.iter_mut().find_map(|(which, caught)| caught.poll_recv(cx).is_ready().then_some(*which));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let sent = SENT.fetch_and(!bit(which), Ordering::Relaxed) & bit(which) != 0;
        (which, OF_TERMINAL.contains(&which) && !sent)
    }
}

/// Notes of a signal whether a process sent it, or the kernel for a terminal. Comes before tokio hears of it: actions are
/// taken in the order in which they were registered.
fn note_sender(which: Signal) -> io::Result<()> {
    let note = move |info: &libc::siginfo_t| {
        // Those of processes are 0 or less (include/uapi/asm-generic/siginfo.h, `SI_FROMUSER`).
        if info.si_code <= 0 {
            SENT.fetch_or(bit(which), Ordering::Relaxed);
        }
    };
    // SAFETY: the action only sets a bit of an atomic, which a signal handler may do.
    unsafe { signal_hook_registry::register_sigaction(which as i32, note) }.map(drop)
}

/// Whether a signal is ignored by this process.
pub(in crate::cli) fn is_ignored(which: Signal) -> io::Result<bool> {
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action it only writes the present one, to where there is room for it.
    Errno::result(unsafe { libc::sigaction(which as i32, std::ptr::null(), old.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, so it is written.
    Ok(unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// What tracer's own start, or tracer itself, has changed of what it was started with.
#[derive(Debug)]
pub(in crate::cli) struct Inherited {
    /// Signals that were ignored, and that the command is to ignore.
    pub(in crate::cli) ignored: Vec<i32>,
}

impl Inherited {
    /// Looks what was inherited, and has children of tracer waited for whatever that was.
    pub(in crate::cli) fn take() -> io::Result<Self> {
        let mut ignored = Vec::new();
        if is_ignored(Signal::SIGCHLD)? {
            ignored.push(Signal::SIGCHLD as i32);
            // SAFETY: no handler is installed.
            unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        }
        if PIPE_IGNORED.load(Ordering::Relaxed) {
            ignored.push(Signal::SIGPIPE as i32);
        }
        Ok(Self { ignored })
    }
}

/// Whether SIGPIPE was ignored before Rust's start-up code had it ignored (library/std/src/sys/pal/unix/mod.rs, `init`).
static PIPE_IGNORED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

extern "C" fn look_at_pipe() {
    PIPE_IGNORED.store(is_ignored(Signal::SIGPIPE).unwrap_or(false), Ordering::Relaxed);
}

// SAFETY: the C library calls what stands in this section before `main`; the function needs nothing that is made later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_PIPE: extern "C" fn() = look_at_pipe;
