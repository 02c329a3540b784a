//! Takes the terminal over for a screen, and restores it however the screen ends.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossterm::event::{self, Event as Input, KeyCode, KeyModifiers};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::layout::Size;

use crate::sink::Output;
use crate::sys::sigwait;

/// The assumed size of a terminal that does not know its size.
const USUAL_SIZE: Size = Size::new(80, 24);

/// Values of TERM for terminals that cannot move their cursor.
const DUMB: [&str; 3] = ["dumb", "emacs", "unknown"];

/// True while the terminal shows a screen of tracer.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// True from SIGTSTP until this process stops.
static SUSPEND: AtomicBool = AtomicBool::new(false);

/// True from SIGCONT until the terminal is taken over again.
static CONTINUED: AtomicBool = AtomicBool::new(false);

/// Returns whether standard output is a terminal that can show a screen.
pub(in crate::cli) fn is_possible() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// Returns whether the terminal cannot move its cursor, according to TERM.
pub(in crate::cli) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| DUMB.iter().any(|dumb| term == *dumb))
}

/// Asks the screen's thread to restore the terminal and to stop this process.
pub(in crate::cli) fn suspend() {
    SUSPEND.store(true, Ordering::Relaxed);
}

/// Asks the screen's thread to take the terminal over again. A shell may have changed it while this process was stopped.
pub(in crate::cli) fn continued() {
    CONTINUED.store(true, Ordering::Relaxed);
}

/// What happened on the terminal.
pub(super) enum TerminalEvent {
    /// Nothing.
    None,
    /// A key was pressed, or the size changed.
    Input(Input),
    /// The terminal was taken over again. The whole screen must be drawn.
    TakenOver,
    /// The terminal was closed.
    Closed,
}

/// Owns the terminal. Restores it when dropped.
pub(super) struct TerminalGuard {
    output: Output,
}

impl TerminalGuard {
    /// Takes the terminal over.
    pub(super) fn enter(output: Output) -> io::Result<Self> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore(&mut io::stdout());
            usual(info);
        }));
        let mut guard = Self { output };
        // If this fails, dropping the guard restores the terminal.
        guard.take()?;
        Ok(guard)
    }

    fn take(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::Relaxed);
        terminal::enable_raw_mode()?;
        execute!(self.output, EnterAlternateScreen, cursor::Hide)
    }

    /// Returns the size of the terminal.
    pub(super) fn size(&self) -> Size {
        let size = terminal_size::terminal_size_of(&self.output);
        size.map_or(USUAL_SIZE, |(columns, rows)| Size::new(columns.0, rows.0))
    }

    /// Waits for input, for a given time at most. Stops this process on Ctrl-Z or SIGTSTP.
    pub(super) fn next(&mut self, patience: Duration) -> io::Result<TerminalEvent> {
        if self.is_closed() {
            return Ok(TerminalEvent::Closed);
        }
        if SUSPEND.swap(false, Ordering::Relaxed) {
            restore(&mut self.output);
            sigwait::stop_by(libc::SIGTSTP);
            return self.take_again();
        }
        if CONTINUED.load(Ordering::Relaxed) {
            // Forgets the saved settings: the end must restore the present ones.
            let _ = terminal::disable_raw_mode();
            return self.take_again();
        }
        let input = match event::poll(patience) {
            Ok(true) => event::read().ok(),
            Ok(false) => None,
            Err(_) => {
                // There is no keyboard. Signals still end the screen.
                thread::sleep(patience);
                None
            }
        };
        match input {
            Some(Input::Key(key)) if key.code == KeyCode::Char('z') && key.modifiers == KeyModifiers::CONTROL => {
                // To the whole process group, as the terminal does. This process gets the signal too, and stops then.
                // SAFETY: integers.
                unsafe { libc::kill(0, libc::SIGTSTP) };
                Ok(TerminalEvent::None)
            }
            Some(input) => Ok(TerminalEvent::Input(input)),
            None => Ok(TerminalEvent::None),
        }
    }

    fn take_again(&mut self) -> io::Result<TerminalEvent> {
        CONTINUED.store(false, Ordering::Relaxed);
        self.take()?;
        Ok(TerminalEvent::TakenOver)
    }

    /// Returns whether the other end of the terminal is closed. Then each read of the keyboard returns at once.
    fn is_closed(&self) -> bool {
        let hung_up = |descriptor| {
            let mut polled = [PollFd::new(descriptor, PollFlags::empty())];
            let closed = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            poll(&mut polled, PollTimeout::ZERO).is_ok()
                && polled[0].revents().is_some_and(|revents| revents.intersects(closed))
        };
        let keyboard = io::stdin();
        hung_up(self.output.as_fd()) || (keyboard.is_terminal() && hung_up(keyboard.as_fd()))
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore(&mut self.output);
    }
}

/// Restores the terminal. Ignores errors, because there is no remedy.
fn restore(output: &mut impl io::Write) {
    if TAKEN.swap(false, Ordering::Relaxed) {
        let _ = execute!(output, cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// The bytes that [`restore`] writes.
const RESTORE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Restores the terminal while another thread may hold every lock. The settings come first, because the write may block.
pub(in crate::cli) fn restore_now() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        let _ = terminal::disable_raw_mode();
        let _ = nix::unistd::write(io::stdout().as_fd(), RESTORE);
    }
}
