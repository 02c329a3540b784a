//! The terminal while tracer draws on it, and the thread that does.
//!
//! A separate thread draws, writes and listens to the keyboard: a terminal or reader that is slow (or stopped with Ctrl-S)
//! never holds up the reading of events.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{self, Event as Input, KeyCode, KeyModifiers};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

use crate::clock;
use crate::event::time::Timestamp;
use crate::filter::Matcher;
use crate::pipeline::consumer::Consumer;
use crate::pipeline::{self, Wanted};
use crate::sink::Output;
use crate::source::EventSource;
use crate::sys::sigwait;

/// What a terminal that does not know its size is taken for.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Values of TERM for terminals that cannot move their cursor.
const DUMB: [&str; 3] = ["dumb", "emacs", "unknown"];

/// True while the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// True when SIGTSTP came, until it is obeyed.
static SUSPEND: AtomicBool = AtomicBool::new(false);

/// True when SIGCONT came, until the terminal is taken over once more.
static CONTINUED: AtomicBool = AtomicBool::new(false);

/// True if standard output is a terminal that can show a screen.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// True if the terminal cannot move its cursor, as TERM says.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| DUMB.iter().any(|dumb| term == *dumb))
}

/// Has the terminal given back and this process stopped, as soon as the thread that draws sees it.
pub(super) fn suspend() {
    SUSPEND.store(true, Ordering::Relaxed);
}

/// Has the terminal taken over once more: a shell may have changed it while this process was stopped.
pub(super) fn continued() {
    CONTINUED.store(true, Ordering::Relaxed);
}

/// Takes events in while another thread draws, until either is told to end.
pub(super) async fn follow(
    source: impl EventSource,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    told: impl Future<Output = ()>,
    draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let Artist { stop, ended, thread } = Artist::start(draw)?;
    let shutdown = async {
        tokio::select! {
            () = told => {}
            _ = ended => {}
        }
    };
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    let result = pipeline::run(source, filter, consumer, &wanted, shutdown, |_| true).await;
    stop.store(true, Ordering::Relaxed);
    // The terminal is as it was before an error is written to it.
    let drawn = joined(thread);
    result?;
    drawn
}

/// Lets another thread draw what no longer changes, until it ends or is told to.
pub(super) async fn browse(
    told: impl Future<Output = ()>,
    draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let Artist { stop, ended, thread } = Artist::start(draw)?;
    tokio::select! {
        () = told => {}
        _ = ended => {}
    }
    stop.store(true, Ordering::Relaxed);
    joined(thread)
}

/// The thread that draws.
struct Artist {
    /// Asks it to end.
    stop: Arc<AtomicBool>,
    /// Completes when it has ended.
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Artist {
    fn start(draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("tracer-screen".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = draw(&stop);
                // The other side may have ended already.
                let _ = end.send(());
                result
            }
        });
        let thread =
            thread.context("cannot start a thread: raise the limits on processes and memory (`ulimit -u`, `-v`)")?;
        Ok(Self { stop, ended, thread })
    }
}

/// Waits for the thread that draws.
fn joined(artist: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    artist.join().map_err(|_| anyhow::anyhow!("drawing the view failed: this is a bug, please report it"))?
}

/// What happened on the terminal.
pub(super) enum Came {
    /// Nothing.
    Nothing,
    /// A key, or another size.
    Input(Input),
    /// The terminal was away: all is to be drawn again.
    Back,
    /// The terminal is gone for good.
    Gone,
}

/// The time that a view shows.
pub(super) fn now() -> Timestamp {
    Timestamp(clock::utc_minus_boot_ns().saturating_add_unsigned(clock::boot_ns()))
}

/// The terminal while it is ours; given back however this ends.
pub(super) struct Screen {
    output: Output,
}

impl Screen {
    pub(super) fn enter(output: Output) -> io::Result<Self> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back(&mut io::stdout());
            usual(info);
        }));
        let mut screen = Self { output };
        // Dropped if it fails, it gives back what was taken.
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::Relaxed);
        terminal::enable_raw_mode()?;
        execute!(self.output, EnterAlternateScreen, cursor::Hide)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = terminal_size::terminal_size_of(&self.output);
        size.map_or(USUAL_SIZE, |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)))
    }

    /// Writes bytes at once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// Waits for input, for a given time at most. Stops this process when Ctrl-Z or a signal says so.
    pub(super) fn next(&mut self, patience: Duration) -> io::Result<Came> {
        if self.is_gone() {
            return Ok(Came::Gone);
        }
        if SUSPEND.swap(false, Ordering::Relaxed) {
            give_back(&mut self.output);
            sigwait::stop_by(libc::SIGTSTP);
            return self.back();
        }
        if CONTINUED.load(Ordering::Relaxed) {
            // The settings that are to be restored in the end are those of now, before they are changed again.
            let _ = terminal::disable_raw_mode();
            return self.back();
        }
        let input = match event::poll(patience) {
            Ok(true) => event::read().ok(),
            Ok(false) => None,
            Err(_) => {
                // There is no keyboard; signals still end it.
                thread::sleep(patience);
                None
            }
        };
        match input {
            Some(Input::Key(key)) if key.code == KeyCode::Char('z') && key.modifiers == KeyModifiers::CONTROL => {
                // As the terminal does it: to the whole group. This process gets it too, and obeys when it comes.
                // SAFETY: integers.
                unsafe { libc::kill(0, libc::SIGTSTP) };
                Ok(Came::Nothing)
            }
            Some(input) => Ok(Came::Input(input)),
            None => Ok(Came::Nothing),
        }
    }

    fn back(&mut self) -> io::Result<Came> {
        CONTINUED.store(false, Ordering::Relaxed);
        self.take()?;
        Ok(Came::Back)
    }

    /// True once nobody is at the other end any more. Reading the keyboard would then return at once, for ever.
    fn is_gone(&self) -> bool {
        let hung_up = |descriptor| {
            let mut look = [PollFd::new(descriptor, PollFlags::empty())];
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            poll(&mut look, PollTimeout::ZERO).is_ok()
                && look[0].revents().is_some_and(|revents| revents.intersects(gone))
        };
        let keyboard = io::stdin();
        hung_up(self.output.as_fd()) || (keyboard.is_terminal() && hung_up(keyboard.as_fd()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(&mut self.output);
    }
}

/// Nothing is left to be done about a terminal that cannot be given back.
fn give_back(output: &mut impl io::Write) {
    if TAKEN.swap(false, Ordering::Relaxed) {
        let _ = execute!(output, cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// What [`give_back`] writes.
const GIVE_BACK: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Gives the terminal back while another thread may hold every lock. The settings first: to write may take for ever.
pub(super) fn give_back_now() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        let _ = terminal::disable_raw_mode();
        let _ = nix::unistd::write(io::stdout().as_fd(), GIVE_BACK);
    }
}
