//! `tracer top`: who spawns how much, live.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use crossterm::event::{self, Event as Input, KeyEventKind};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use tokio::sync::oneshot;

use super::screen::{Screen, now};
use super::trace::{builder, must_exist, runtime, told_to_end};
use super::{Capture, CaptureArgs, ExitCode, FilterArgs, Globals, UsageError};
use crate::clock;
use crate::event::Event;
use crate::filter::{Filter, Spec};
use crate::pipeline::{self, Wanted};
use crate::sink::{Output, Sink, Target};
use crate::view::line;
use crate::view::top::batch::{self, Look};
use crate::view::top::draw::draw;
use crate::view::top::model::Picture;
use crate::view::top::rows::Key;
use crate::view::top::state::{Group, Sort, Wish};
use crate::view::top::{State, Top};

/// The longest that a key waits for its effect.
const PATIENCE: Duration = Duration::from_millis(100);

/// Show who spawns processes, live
///
/// What top does not show: processes that live too short to be found in /proc. Each counts in full, for who created it
/// and for all above that: forks, execs, exits and failures a second, and the CPU time of those that lived 10 s at most. The
/// process most of it comes from is named. Keys are as in htop: ? or F1 tells them. With -b, or when standard output is no
/// terminal, the pictures are written one below the other.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER_LONG_HELP)]
pub struct TopArgs {
    /// Write the pictures as text, one below the other, and take no keys
    #[arg(short, long)]
    batch: bool,

    /// Time between two pictures: seconds, or e.g. 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2", value_parser = delay)]
    delay: Duration,

    /// End after so many pictures
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,

    /// What a row stands for
    #[arg(short, long, value_name = "WHAT", default_value = "process")]
    group: Group,

    /// What the rows are sorted by
    #[arg(short, long, value_name = "COLUMN", default_value = "forks")]
    sort: Sort,

    /// Cut the lines of -b to so many columns
    #[arg(short, long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(1..))]
    width: Option<u16>,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    capture: CaptureArgs,
}

const EXAMPLES: &str = "\
Examples:
  tracer top
  tracer top --group ancestor
  tracer top -b -n 1 -d 5 --sort cpu";

const AFTER_LONG_HELP: &str = "\
Examples:
  tracer top
      Who spawns most, every two seconds.
  tracer top --group ancestor
      The same as a tree, in which all that descends from a process counts for it.
  tracer top -b -n 1 -d 5 --sort cpu
      Five seconds, as text: whose short-lived children use the CPU?
  tracer top -u www-data --group command
      What the web server's user starts.

Exit status:
  0  ended by q, SIGINT, SIGTERM or -n, or because the reader went away
  1  tracing is not possible: see `tracer doctor`
  2  wrong usage";

fn delay(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, e.g. 2 or 0.5, or e.g. 500ms".to_owned();
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.or_else(|| humantime::parse_duration(text).ok()) {
        Some(delay) if delay >= Duration::from_millis(10) => Ok(delay),
        Some(_) => Err("10ms is the shortest".into()),
        None => Err(wrong()),
    }
}

/// What `tracer top` is to do.
#[derive(Debug)]
pub struct Plan {
    batch: bool,
    delay: Duration,
    iterations: u64,
    state: State,
    width: Option<usize>,
    filter: Filter,
    pids: Vec<u32>,
    capture: Capture,
    globals: Globals,
}

impl TopArgs {
    /// What the options mean.
    pub fn plan(self, globals: &Globals) -> Result<Plan, UsageError> {
        let batch = self.batch || globals.target().is_some() || !io::stdout().is_terminal();
        let capture = self.capture.capture(&self.filter, "top")?;
        Ok(Plan {
            batch,
            delay: self.delay,
            iterations: self.iterations.unwrap_or(u64::MAX),
            state: State { group: self.group, sort: self.sort, ..State::default() },
            width: self.width.map(usize::from),
            filter: self.filter.filter(&capture, "top")?,
            pids: self.filter.spec().pids,
            capture,
            globals: globals.clone(),
        })
    }
}

/// What both threads look at.
type Shared = Arc<Mutex<Top>>;

/// Shows picture after picture.
pub fn execute(plan: Plan) -> anyhow::Result<ExitCode> {
    plan.pids.iter().try_for_each(|&pid| must_exist(pid))?;
    let output = plan.globals.open()?;
    let colour = plan.globals.colours(&output);
    runtime()?.block_on(async {
        let told = told_to_end()?;
        let mut tracer = builder(&plan.capture).start()?;
        let snapshot = tracer.take_snapshot();
        let mut filter = plan.filter.clone();
        filter.learn(&snapshot);
        let mut top = Top::new(clock::boot_ns());
        top.learn(&snapshot);
        for event in &snapshot {
            top.apply(event, filter.admits(event));
        }
        let top: Shared = Arc::new(Mutex::new(top));
        let mut sink = TopSink { filter, top: Arc::clone(&top) };
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        // A thread of its own draws and writes: a terminal or reader that is slow never holds up the reading of events.
        let artist = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = if plan.batch {
                    write(&plan, &top, output, colour, &stop)
                } else {
                    show(plan, &top, output, colour, &stop)
                };
                // Nobody hears it who has ended already.
                let _ = end.send(());
                result
            }
        });
        let shutdown = async {
            tokio::select! {
                () = told => {}
                _ = ended => {}
            }
        };
        // All events go to the picture: who descends from whom is learnt from those that count for nothing too.
        let everything = Filter::new(&Spec::default())?;
        let result = pipeline::run(tracer, everything, &mut sink, &Wanted::default(), shutdown, |_| true).await;
        stop.store(true, Ordering::Relaxed);
        // The terminal is as it was before anything is said about what went wrong.
        let shown = artist
            .join()
            .map_err(|_| anyhow::anyhow!("drawing the picture failed: this is a bug, please report it"))?;
        result?;
        shown?;
        Ok(ExitCode::Done)
    })
}

/// Takes events into the sums.
struct TopSink {
    filter: Filter,
    top: Shared,
}

impl Sink for TopSink {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        let wanted = self.filter.admits(event);
        self.top.lock().unwrap_or_else(PoisonError::into_inner).apply(event, wanted);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tick(top: &Shared) -> Picture {
    top.lock().unwrap_or_else(PoisonError::into_inner).tick(clock::boot_ns(), now())
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
fn write(plan: &Plan, top: &Shared, mut output: Output, colour: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    let look = Look::of_system();
    let mut due = Instant::now();
    for i in 0..plan.iterations {
        due += plan.delay;
        if !sleep_until(due, stop) {
            break;
        }
        let picture = tick(top);
        let mut lines = batch::lines(&picture, &plan.state, &look, plan.width);
        if i > 0 {
            lines.insert(0, line::Line::new());
        }
        line::print(&lines, &mut output, colour)?;
    }
    Ok(())
}

/// Draws picture after picture until a key, or the other thread, ends it.
fn show(plan: Plan, top: &Shared, output: Output, colour: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    let Plan { delay, iterations, mut state, .. } = plan;
    let look = Look::of_system();
    let screen = Screen::enter(output).context("cannot take over the terminal: is standard output one?")?;
    let area = |screen: &Screen| {
        let (columns, rows) = screen.size();
        Rect::new(0, 0, u16::try_from(columns).unwrap_or(u16::MAX), u16::try_from(rows).unwrap_or(u16::MAX))
    };
    let mut size = area(&screen);
    let backend = CrosstermBackend::new(Output::open(Target::Stdout)?);
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(size) })?;
    let mut picture = Picture { time: now(), ..Picture::default() };
    let mut keys: Vec<Key> = Vec::new();
    let (mut page, mut pictures, mut fresh) = (0, 0, true);
    let mut due = Instant::now() + delay;
    while !stop.load(Ordering::Relaxed) && pictures < iterations {
        if Instant::now() >= due {
            due = Instant::now() + delay;
            let next = tick(top);
            if !state.paused {
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
            let mut rows = Vec::new();
            terminal.draw(|frame| (rows, page) = draw(frame, &picture, &mut state, &look, colour))?;
            keys = rows.iter().map(|row| row.key).collect();
        }
        fresh = false;
        let Some(Input::Key(key)) = next_input(due) else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match state.key(&key, &keys, page) {
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

/// Waits for input until the next picture is due, or for a moment.
fn next_input(due: Instant) -> Option<Input> {
    let patience = due.saturating_duration_since(Instant::now()).min(PATIENCE);
    match event::poll(patience) {
        Ok(true) => event::read().ok(),
        Ok(false) => None,
        Err(_) => {
            // There is no keyboard; signals still end it.
            thread::sleep(patience);
            None
        }
    }
}
