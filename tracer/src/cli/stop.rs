//! Ends tracer on a signal, even if the main thread is blocked.
//!
//! A separate thread waits for SIGHUP, SIGINT and SIGTERM, and for SIGXCPU, the limit on CPU time. All other threads block them.
//! So they arrive even while the main thread waits in the kernel for a process or file system that does not answer. The thread
//! asks the main thread to end in order, and watches it. Without progress, or at a second signal, it ends the process itself.

use std::os::fd::AsFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io, process, thread};

use anyhow::Context as _;
use nix::libc;
use nix::time::ClockId;
use tokio::sync::watch;

use super::screen;
use crate::sink::LONGEST;
use crate::sys::signals;
use crate::sys::sigwait::{self, Set};

/// The longest time without progress after a request to end.
const BLOCKED: Duration = Duration::from_millis(800);

/// The longest time after a second signal.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Time between two checks of the main thread.
pub(super) const CHECK: Duration = Duration::from_millis(50);

/// CPU time of the main thread that counts as progress. A thread that is only woken uses less.
const PROGRESS: Duration = Duration::from_millis(1);

/// How often there was progress without CPU time: see [`note_progress`].
static PROGRESS_NOTES: AtomicU64 = AtomicU64::new(0);

/// The number of requests. One thread counts them.
static REQUESTS: OnceLock<watch::Sender<u32>> = OnceLock::new();

/// Receives requests to end. Each receiver gets all of them.
pub(super) struct Stop {
    requests: watch::Receiver<u32>,
    seen: u32,
}

impl Stop {
    /// Catches the signals from now on. No other thread may run yet. With a screen, SIGTSTP and SIGCONT are caught too.
    pub(super) fn catch(with_screen: bool) -> anyhow::Result<Self> {
        let requests = match REQUESTS.get() {
            Some(requests) => requests.subscribe(),
            None => Self::start(with_screen)?,
        };
        Ok(Self { requests, seen: 0 })
    }

    fn start(with_screen: bool) -> anyhow::Result<watch::Receiver<u32>> {
        let mut numbers = vec![libc::SIGINT, libc::SIGTERM, libc::SIGXCPU];
        // nohup(1) starts tracer with SIGHUP ignored.
        numbers.extend((!sigwait::is_ignored(libc::SIGHUP)?).then_some(libc::SIGHUP));
        if with_screen {
            numbers.extend([libc::SIGTSTP, libc::SIGCONT]);
        }
        let set = Set::of(numbers);
        set.block();
        let main = MainThread::this()?;
        let requests = REQUESTS.get_or_init(|| watch::Sender::new(0));
        let receiver = requests.subscribe();
        thread::Builder::new().name("tracer-signals".into()).spawn(move || serve(&set, main, requests)).context(
            "cannot start a thread for signals: raise the limits on processes and memory (`ulimit -u`, `-v`)",
        )?;
        Ok(receiver)
    }

    /// Completes at the next request.
    pub(super) async fn next(&mut self) {
        let seen = self.seen;
        // It fails only without a sender, and the sender is static.
        let _ = self.requests.wait_for(|&count| count > seen).await;
        self.seen += 1;
    }

    /// Completes at the first request.
    pub(super) async fn requested(mut self) {
        self.next().await;
    }
}

/// Handles signals until the process ends.
fn serve(set: &Set, main: MainThread, requests: &watch::Sender<u32>) {
    let mut ending: Option<Ending> = None;
    loop {
        let came = sigwait::wait(set, ending.as_ref().map(|_| CHECK));
        match came.map(|came| came.number) {
            Some(libc::SIGTSTP) => screen::suspend(),
            Some(libc::SIGCONT) => screen::continued(),
            Some(number) => {
                if number == libc::SIGXCPU {
                    tracing::warn!(
                        "the limit on CPU time is reached, so tracing ends: raise it (`ulimit -t unlimited`)"
                    );
                }
                match &mut ending {
                    None => ending = Some(Ending::begin(number, main)),
                    Some(ending) => ending.hurry(number),
                }
                requests.send_modify(|count| *count += 1);
            }
            None => {}
        }
        if let Some(ending) = &mut ending {
            ending.check();
        }
    }
}

/// Notes progress of an orderly end during which the main thread only waits.
pub(super) fn note_progress() {
    PROGRESS_NOTES.fetch_add(1, Ordering::Relaxed);
}

/// The CPU clock of the main thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct MainThread(ClockId);

impl MainThread {
    /// Returns the calling thread.
    pub(super) fn this() -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: it takes the handle of this thread and writes an integer.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        Ok(Self(ClockId::from_raw(clock)))
    }

    fn used(self) -> Duration {
        self.0.now().map(Duration::from).unwrap_or_default()
    }
}

/// An orderly end in progress.
#[derive(Debug)]
pub(super) struct Ending {
    number: i32,
    main: MainThread,
    /// When the process ends in any case.
    latest: Instant,
    /// The time of the last progress.
    moved: Instant,
    /// CPU time of the main thread at that time.
    used: Duration,
    /// Progress notes at that time.
    notes: u64,
    /// Whether a second signal came.
    again: bool,
}

impl Ending {
    /// Begins an end that a signal requested.
    pub(super) fn begin(number: i32, main: MainThread) -> Self {
        let now = Instant::now();
        let notes = PROGRESS_NOTES.load(Ordering::Relaxed);
        Self { number, main, latest: now + LONGEST, moved: now, used: main.used(), notes, again: false }
    }

    /// Shortens the end after a second signal.
    pub(super) fn hurry(&mut self, number: i32) {
        (self.number, self.again) = (number, true);
        self.latest = self.latest.min(Instant::now() + AT_ONCE);
    }

    /// Ends the process if the orderly end takes too long.
    pub(super) fn check(&mut self) {
        let (now, used, notes) = (Instant::now(), self.main.used(), PROGRESS_NOTES.load(Ordering::Relaxed));
        if used >= self.used + PROGRESS || notes != self.notes {
            (self.moved, self.used, self.notes) = (now, used, notes);
        }
        if now >= self.latest || (now >= self.moved + BLOCKED && !is_detaching(wait_channel().as_deref())) {
            self.give_up();
        }
    }

    fn give_up(&self) -> ! {
        let text = self.text();
        let (done, said) = mpsc::channel();
        // On another thread, because the write may block, too.
        let last_words = move || {
            screen::restore_now();
            // Not through the lock of `io::stderr`, which a blocked thread may hold.
            let _ = nix::unistd::write(io::stderr().as_fd(), text.as_bytes());
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(last_words).is_ok() {
            let _ = said.recv_timeout(AT_ONCE);
        }
        // Without destructors, which may block, too.
        // SAFETY: it takes an integer and does not return.
        unsafe { libc::_exit(1) }
    }

    fn text(&self) -> String {
        let name = signals::name(self.number as u32);
        let why = if self.again {
            "because of a second signal".to_owned()
        } else {
            match wait_channel() {
                Some(place) => format!("because the main thread is blocked (in the kernel: {place})"),
                None => "because the main thread is blocked".to_owned(),
            }
        };
        format!(
            "tracer: cannot end in order after {name}, {why}: the output that was not written yet is missing, with `bye`\n"
        )
    }
}

/// Returns the kernel function that the main thread waits in, if the kernel shows it.
fn wait_channel() -> Option<String> {
    let place = fs::read_to_string(format!("/proc/self/task/{}/wchan", process::id())).ok()?;
    (!matches!(&*place, "" | "0")).then_some(place)
}

/// Returns true for a wait for a grace period of RCU. Detaching programs waits for some. No other process can make such a wait
/// last, but a busy or emulated machine needs seconds for it.
fn is_detaching(wait_channel: Option<&str>) -> bool {
    wait_channel.is_some_and(|place| place.contains("rcu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_grace_period_may_take_longer() {
        assert!(is_detaching(Some("__wait_rcu_gp")) && is_detaching(Some("synchronize_srcu")));
        assert!(!is_detaching(Some("request_wait_answer")) && !is_detaching(None));
    }

    #[test]
    fn work_is_progress_and_waiting_is_not() {
        let mut ending = Ending::begin(libc::SIGTERM, MainThread::this().unwrap());
        let (latest, used) = (ending.latest, ending.used);
        thread::sleep(Duration::from_millis(5));
        let begun = Instant::now();
        while ending.main.used() < used + PROGRESS {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        let before = ending.moved;
        ending.check();
        assert!(ending.moved > before, "it worked");
        note_progress();
        let before = ending.moved;
        ending.check();
        assert!(ending.moved > before, "something moved");
        ending.hurry(libc::SIGINT);
        assert!(ending.latest < latest && ending.text().contains("SIGINT"));
    }
}
