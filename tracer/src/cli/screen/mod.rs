//! Runs a live view: on a screen that takes keys, or as text.
//!
//! `top`, `containers` and `tree --watch` share the loop in [`draw`]. It handles keys and signals of the terminal, other sizes of
//! it, and new frames.

mod terminal;
mod thread;

use std::io::{self, BufWriter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread as std_thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{Event as Input, KeyEvent, KeyEventKind};
use crossterm::execute;
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect, Size};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use terminal::{TerminalEvent, TerminalGuard};
pub(super) use terminal::{continued, is_dumb, is_possible, restore_now, suspend};

use crate::clock;
use crate::event::time::Timestamp;
use crate::filter::Matcher;
use crate::pipeline::consumer::Consumer;
use crate::sink::{Output, Target};
use crate::source::EventSource;
use crate::view::screen::Request;

/// The longest time between two looks at the keyboard and at the signals.
const POLL: Duration = Duration::from_millis(100);

/// Time between two frames of data that no longer changes.
const STILL: Duration = Duration::from_secs(3600);

/// A view on the screen.
pub(super) trait LiveView: Send + 'static {
    /// Takes a first frame, before the first interval ends.
    fn begin(&mut self);

    /// Ends an interval. Returns whether the screen shows a new frame.
    fn advance(&mut self) -> bool;

    /// Fits the state to the current frame and to the size of the screen.
    fn layout(&mut self, size: Size);

    /// Draws the current frame.
    fn draw(&self, screen: &mut Frame<'_>, colour: bool);

    /// Handles a key.
    fn key(&mut self, key: &KeyEvent) -> Option<Request>;
}

/// A view that can be written as text, too.
pub(super) trait BatchView: LiveView {
    /// Writes the current frame. Only the first one has no empty line before it.
    fn write(&self, output: &mut Output, colour: bool, first: bool) -> io::Result<()>;
}

/// How often and how many frames are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time between two frames.
    pub(super) delay: Duration,
    /// The number of frames.
    pub(super) frames: u64,
}

impl Pace {
    /// Shows frames until a key or a signal ends the screen.
    pub(super) const fn every(delay: Duration) -> Self {
        Self { delay, frames: u64::MAX }
    }
}

/// Where frames go.
pub(super) struct Canvas {
    pub(super) output: Output,
    pub(super) colour: bool,
}

/// Shows the events of a source on the screen until `stop` completes or a key ends it.
pub(super) async fn show(
    source: impl EventSource,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    view: impl LiveView,
    pace: Pace,
    canvas: Canvas,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    thread::follow(source, filter, consumer, stop, move |stop| draw(view, pace, canvas, stop)).await
}

/// Writes the events of a source as text until `stop` completes.
pub(super) async fn write(
    source: impl EventSource,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    view: impl BatchView,
    pace: Pace,
    canvas: Canvas,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    thread::follow(source, filter, consumer, stop, move |stop| write_frames(view, pace, canvas, stop)).await
}

/// Shows data that no longer changes on the screen until `stop` completes or a key ends it.
pub(super) async fn browse(view: impl LiveView, canvas: Canvas, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    thread::browse(stop, move |stop| draw(view, Pace::every(STILL), canvas, stop)).await
}

/// Writes frames as text until there are enough, or `stop` is set.
fn write_frames(mut view: impl BatchView, pace: Pace, canvas: Canvas, stop: &AtomicBool) -> anyhow::Result<()> {
    let Canvas { mut output, colour } = canvas;
    let mut due = Instant::now();
    for i in 0..pace.frames {
        due += pace.delay;
        if !sleep_until(due, stop) {
            break;
        }
        view.advance();
        view.write(&mut output, colour, i == 0)?;
    }
    Ok(())
}

/// Sleeps until a time. Returns false if `stop` is set before.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std_thread::sleep(left.min(POLL));
    }
    false
}

/// Draws frames until there are enough, a key ends the screen, or `stop` is set.
fn draw(mut view: impl LiveView, pace: Pace, canvas: Canvas, stop: &AtomicBool) -> anyhow::Result<()> {
    let Canvas { output, colour } = canvas;
    let mut guard = TerminalGuard::enter(output).context("cannot take over the terminal: is standard output one?")?;
    let mut size = guard.size();
    // Without a buffer, each cell would be a separate write.
    let backend = CrosstermBackend::new(BufWriter::new(Output::open(Target::Stdout)?));
    let options = TerminalOptions { viewport: Viewport::Fixed(Rect::from((Position::ORIGIN, size))) };
    let mut terminal = Terminal::with_options(backend, options)?;
    view.begin();
    let (mut frames, mut draw_next, mut clear_next) = (0, true, false);
    let mut due = Instant::now() + pace.delay;
    while !stop.load(Ordering::Relaxed) && frames < pace.frames {
        if Instant::now() >= due {
            due = Instant::now() + pace.delay;
            if view.advance() {
                frames += 1;
                draw_next = true;
            }
        }
        if clear_next || size != guard.size() {
            size = guard.size();
            // Not `clear`, which asks the terminal for its cursor position and waits for the answer.
            terminal.resize(Rect::from((Position::ORIGIN, size)))?;
            draw_next = true;
        }
        if draw_next {
            view.layout(size);
            execute!(terminal.backend_mut(), BeginSynchronizedUpdate)?;
            terminal.draw(|screen| view.draw(screen, colour))?;
            execute!(terminal.backend_mut(), EndSynchronizedUpdate)?;
        }
        (draw_next, clear_next) = (false, false);
        let request = match guard.next(due.saturating_duration_since(Instant::now()).min(POLL))? {
            TerminalEvent::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => view.key(&key),
            TerminalEvent::Input(_) | TerminalEvent::None => None,
            TerminalEvent::TakenOver => Some(Request::Clear),
            TerminalEvent::Closed => Some(Request::End),
        };
        match request {
            Some(Request::End) => return Ok(()),
            Some(Request::Refresh) => due = Instant::now(),
            Some(Request::Redraw) => draw_next = true,
            Some(Request::Clear) => clear_next = true,
            None => {}
        }
    }
    Ok(())
}

/// Returns the time that a view shows.
pub(super) fn now() -> Timestamp {
    Timestamp(clock::utc_minus_boot_ns().saturating_add_unsigned(clock::boot_ns()))
}
