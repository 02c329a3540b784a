//! Commands that show picture after picture, live: on a screen that listens to keys, or as text.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{Event as Input, KeyEvent, KeyEventKind};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use super::screen::{self, Came, Screen};
use crate::filter::Matcher;
use crate::pipeline::consumer::Consumer;
use crate::sink::{Output, Target};
use crate::source::EventSource;
use crate::view::keys::Wish;

/// The longest that a key waits for its effect.
const PATIENCE: Duration = Duration::from_millis(100);

/// Time between two pictures of what does not change.
const STILL: Duration = Duration::from_secs(3600);

/// What is shown.
pub(super) trait Show: Send + 'static {
    /// What is drawn.
    type Picture;

    /// What there is to see before the first interval is over.
    fn first(&self) -> Self::Picture;

    /// Ends an interval.
    fn next(&self) -> Self::Picture;

    /// Writes a picture as text; `again` if it is not the first one.
    fn write(&self, picture: &Self::Picture, output: &mut Output, colour: bool, again: bool) -> io::Result<()>;

    /// Draws a picture.
    fn draw(&mut self, frame: &mut Frame<'_>, picture: &Self::Picture, colour: bool);

    /// Takes in a key.
    fn key(&mut self, key: &KeyEvent) -> Option<Wish>;

    /// True while the picture is to stand still.
    fn is_paused(&self) -> bool;
}

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// As text, one below the other.
    pub(super) batch: bool,
    /// Time between two pictures.
    pub(super) delay: Duration,
    /// How many there are to be.
    pub(super) iterations: u64,
}

/// Where pictures go.
pub(super) struct Canvas {
    pub(super) output: Output,
    pub(super) colour: bool,
}

/// Shows picture after picture of what the sink makes of a trace, until it is told to end, here or by a key.
pub(super) async fn live(
    source: impl EventSource,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    show: impl Show,
    pace: Pace,
    canvas: Canvas,
    told: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let artist = move |stop: &AtomicBool| {
        if pace.batch { write(&show, pace, canvas, stop) } else { draw(show, pace, canvas, stop) }
    };
    screen::follow(source, filter, consumer, told, artist).await
}

/// Shows a picture that no longer changes, until it is told to end, here or by a key.
pub(super) async fn browse(show: impl Show, canvas: Canvas, told: impl Future<Output = ()>) -> anyhow::Result<()> {
    let still = Pace { batch: false, delay: STILL, iterations: u64::MAX };
    screen::browse(told, move |stop: &AtomicBool| draw(show, still, canvas, stop)).await
}

/// Waits until a picture is due. False if the end comes before.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(PATIENCE));
    }
    false
}

/// Writes picture after picture as text.
fn write(show: &impl Show, pace: Pace, canvas: Canvas, stop: &AtomicBool) -> anyhow::Result<()> {
    let Canvas { mut output, colour } = canvas;
    let mut due = Instant::now();
    for i in 0..pace.iterations {
        due += pace.delay;
        if !sleep_until(due, stop) {
            break;
        }
        show.write(&show.next(), &mut output, colour, i > 0)?;
    }
    Ok(())
}

/// Draws picture after picture until a key, or the other thread, ends it.
fn draw(mut show: impl Show, pace: Pace, canvas: Canvas, stop: &AtomicBool) -> anyhow::Result<()> {
    let Canvas { output, colour } = canvas;
    let mut screen = Screen::enter(output).context("cannot take over the terminal: is standard output one?")?;
    let area = |screen: &Screen| {
        let (columns, rows) = screen.size();
        Rect::new(0, 0, u16::try_from(columns).unwrap_or(u16::MAX), u16::try_from(rows).unwrap_or(u16::MAX))
    };
    let mut size = area(&screen);
    let backend = CrosstermBackend::new(Output::open(Target::Stdout)?);
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(size) })?;
    let mut picture = show.first();
    let (mut pictures, mut fresh) = (0, true);
    let mut due = Instant::now() + pace.delay;
    while !stop.load(Ordering::Relaxed) && pictures < pace.iterations {
        if Instant::now() >= due {
            due = Instant::now() + pace.delay;
            let next = show.next();
            if !show.is_paused() {
                picture = next;
                pictures += 1;
                fresh = true;
            }
        }
        if size != area(&screen) {
            size = area(&screen);
            terminal.resize(size)?;
            fresh = true;
        }
        if fresh {
            terminal.draw(|frame| show.draw(frame, &picture, colour))?;
        }
        fresh = false;
        let patience = due.saturating_duration_since(Instant::now()).min(PATIENCE);
        let key = match screen.next(patience)? {
            Came::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => key,
            Came::Input(_) | Came::Nothing => continue,
            Came::Back => {
                terminal.resize(size)?;
                fresh = true;
                continue;
            }
            Came::Gone => return Ok(()),
        };
        match show.key(&key) {
            Some(Wish::End) => return Ok(()),
            Some(Wish::Refresh) => due = Instant::now(),
            Some(Wish::Redraw) => fresh = true,
            Some(Wish::Clear) => {
                // Not `clear`, which asks the terminal where its cursor is, and waits for the answer.
                terminal.resize(size)?;
                fresh = true;
            }
            None => {}
        }
    }
    Ok(())
}

/// A time between two pictures, as it is typed.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, e.g. 2 or 0.5, or e.g. 500ms".to_owned();
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.or_else(|| humantime::parse_duration(text).ok()) {
        Some(delay) if delay >= Duration::from_millis(10) => Ok(delay),
        Some(_) => Err("10ms is the shortest".into()),
        None => Err(wrong()),
    }
}
