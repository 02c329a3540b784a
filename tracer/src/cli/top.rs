//! `tracer top`: shows which processes spawn others, live.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Size;

use super::args;
use super::screen::{self, BatchView, Canvas, LiveView, Pace, now};
use super::session::{builder, must_be_followed, must_exist, report_unseen, runtime};
use super::stop::Stop;
use super::{Capture, CaptureArgs, ExitCode, FilterArgs, FromArgs, Globals, UsageError, from};
use crate::clock;
use crate::event::Event;
use crate::event::time::Timestamp;
use crate::filter::Matcher;
use crate::kernel::visibility::What;
use crate::pipeline::consumer::Consumer;
use crate::sink::Output;
use crate::source::live::ExecFailures;
use crate::view::line;
use crate::view::screen::Request;
use crate::view::style::TextStyle;
use crate::view::top::batch;
use crate::view::top::draw::draw;
use crate::view::top::model::TopFrame;
use crate::view::top::state::{Group, Sort};
use crate::view::top::{Top, TopState};

/// Show which processes spawn others, live
///
/// Shows the processes that live too short for top. Each one counts in full for its parent and for all other ancestors. The
/// columns are forks, execs, exits and failures per second, and the CPU time of processes that lived at most 10 s. top also names
/// the process that causes most of the activity. The keys are those of htop: ? or F1 lists them. With -b, top writes frames
/// as text. It does the same if standard output is not a terminal or TERM is `dumb`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER_LONG_HELP)]
pub struct TopArgs {
    /// Write frames as text, one after the other, and read no keys
    #[arg(short, long)]
    batch: bool,

    /// Set the time between two frames, in seconds or e.g. 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2", value_parser = args::delay, conflicts_with = "from")]
    delay: Duration,

    /// End after N frames
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "from")]
    iterations: Option<u64>,

    /// Set what a row stands for
    #[arg(short, long, value_name = "WHAT", default_value = "process")]
    group: Group,

    /// Set the column to sort by
    #[arg(short, long, value_name = "COLUMN", default_value = "forks")]
    sort: Sort,

    /// Truncate the lines of -b to COLUMNS
    #[arg(short, long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(1..))]
    width: Option<u16>,

    #[command(flatten)]
    from: FromArgs,

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
      Show which processes spawn most, every two seconds.
  tracer top --group ancestor
      Show the same as a tree. A process gets the activity of all its descendants.
  tracer top -b -n 1 -d 5 --sort cpu
      Count for five seconds, then print which short-lived children use the CPU.
  tracer top -u www-data --group command
      Show what the user of the web server starts.
  tracer top --from build.jsonl
      Show which processes spawned most in a whole recording. With -b, print it as text.

Exit status:
  0  ended by q, SIGHUP, SIGINT, SIGTERM or -n, or because the reader of standard output closed it
  1  tracing is not possible: see `tracer doctor`
  2  wrong usage";

/// What `tracer top` does, according to its options.
#[derive(Debug)]
pub struct TopPlan {
    batch: bool,
    pace: Pace,
    state: TopState,
    width: Option<usize>,
    filter: Matcher,
    pids: Vec<u32>,
    cgroups: Vec<String>,
    capture: Capture,
    globals: Globals,
    from: Option<PathBuf>,
}

impl TopArgs {
    /// Checks the options and returns their meaning.
    pub fn plan(self, globals: &Globals) -> Result<TopPlan, UsageError> {
        let batch = self.batch || globals.target().is_some() || !screen::is_possible();
        let capture = self.capture.capture(&self.filter, "top")?;
        if self.from.file().is_some() {
            self.capture.refuse_with_from("top")?;
        }
        if capture.exec_failures != ExecFailures::No || capture.zombie_after.is_some() {
            let message = "top shows neither failed execs nor zombies: use `tracer stream`";
            return Err(UsageError::new("top", message));
        }
        Ok(TopPlan {
            batch,
            pace: Pace { delay: self.delay, frames: self.iterations.unwrap_or(u64::MAX) },
            state: TopState { group: self.group, sort: self.sort, ..TopState::default() },
            width: self.width.map(usize::from),
            filter: self.filter.matcher(&capture, "top")?,
            pids: self.filter.pids(),
            cgroups: self.filter.cgroups(),
            capture,
            from: self.from.file().map(Path::to_owned),
            globals: globals.clone(),
        })
    }
}

/// The sums that the main thread updates and the screen's thread reads.
type SharedTop = Arc<Mutex<Top>>;

/// Shows frames until a key, a signal or `-n` ends it.
pub fn execute(plan: TopPlan) -> anyhow::Result<ExitCode> {
    if let Some(file) = plan.from.clone() {
        return replay(plan, &file);
    }
    plan.pids.iter().try_for_each(|&pid| must_exist(pid))?;
    must_be_followed(&plan.cgroups)?;
    report_unseen(&[What::Processes]);
    let output = plan.globals.open()?;
    let canvas = Canvas { colour: plan.globals.colours(&output), output };
    runtime()?.block_on(async {
        let stop = Stop::catch(!plan.batch)?.requested();
        let tracer = builder(&plan.capture).refresh_every(plan.pace.delay).start()?;
        let top: SharedTop = Arc::new(Mutex::new(Top::new(clock::boot_ns())));
        let mut consumer = TopConsumer(Arc::clone(&top));
        let TopPlan { batch, pace, state, width, filter, .. } = plan;
        let screen = TopScreen::new(Frames::Live(top), state, width);
        if batch {
            Box::pin(screen::write(tracer, filter, &mut consumer, screen, pace, canvas, stop)).await?;
        } else {
            Box::pin(screen::show(tracer, filter, &mut consumer, screen, pace, canvas, stop)).await?;
        }
        Ok(ExitCode::Done)
    })
}

/// Shows a whole recording as one frame.
fn replay(plan: TopPlan, file: &Path) -> anyhow::Result<ExitCode> {
    let source = from::open(file, &plan.globals)?;
    let mut output = plan.globals.open()?;
    let colour = plan.globals.colours(&output);
    let top: SharedTop = Arc::new(Mutex::new(Top::new(0)));
    let mut consumer = ReplayConsumer { top: TopConsumer(Arc::clone(&top)), time: Timestamp::default() };
    let bye = from::play(source, plan.filter, &mut consumer)?;
    let frame = top.lock().unwrap_or_else(PoisonError::into_inner).tick(bye.duration_ns, consumer.time);
    let mut screen = TopScreen::new(Frames::Whole, plan.state, plan.width);
    screen.frame = frame;
    if plan.batch {
        screen.write(&mut output, colour, true)?;
        return Ok(ExitCode::Done);
    }
    runtime()?.block_on(async {
        let stop = Stop::catch(true)?.requested();
        screen::browse(screen, Canvas { output, colour }, stop).await?;
        Ok(ExitCode::Done)
    })
}

/// Adds events to the sums.
struct TopConsumer(SharedTop);

impl TopConsumer {
    fn apply(&self, event: &Event, matches: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event, matches);
    }
}

impl Consumer for TopConsumer {
    fn learn(&mut self, running: &[Event]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).learn(running);
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.apply(event, true);
        Ok(())
    }

    fn skip(&mut self, event: &Event) {
        self.apply(event, false);
    }
}

/// Adds the events of a recording to the sums, and keeps the time of the last one.
struct ReplayConsumer {
    top: TopConsumer,
    time: Timestamp,
}

impl Consumer for ReplayConsumer {
    fn learn(&mut self, running: &[Event]) {
        self.top.learn(running);
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.time = event.time;
        self.top.take(event)
    }

    fn skip(&mut self, event: &Event) {
        self.top.skip(event);
    }
}

/// Where frames come from.
enum Frames {
    /// From a live trace: one for each interval.
    Live(SharedTop),
    /// From a whole recording: only one.
    Whole,
}

/// The table on the screen, or as text.
struct TopScreen {
    frames: Frames,
    frame: TopFrame,
    state: TopState,
    width: Option<usize>,
    style: TextStyle,
}

impl TopScreen {
    fn new(frames: Frames, state: TopState, width: Option<usize>) -> Self {
        Self { frames, frame: TopFrame::default(), state, width, style: TextStyle::of_system() }
    }
}

impl LiveView for TopScreen {
    fn begin(&mut self) {
        if let Frames::Live(_) = &self.frames {
            self.frame.time = now();
        }
    }

    fn advance(&mut self) -> bool {
        let Frames::Live(top) = &self.frames else { return true };
        let frame = top.lock().unwrap_or_else(PoisonError::into_inner).tick(clock::boot_ns(), now());
        if !self.state.paused {
            self.frame = frame;
        }
        !self.state.paused
    }

    fn layout(&mut self, size: Size) {
        self.state.layout(&self.frame, &self.style, size);
    }

    fn draw(&self, screen: &mut Frame<'_>, colour: bool) {
        draw(screen, &self.frame, &self.state, &self.style, colour);
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        self.state.key(key)
    }
}

impl BatchView for TopScreen {
    fn write(&self, output: &mut Output, colour: bool, first: bool) -> io::Result<()> {
        let mut lines = batch::lines(&self.frame, &self.state, &self.style, self.width);
        if !first {
            lines.insert(0, line::Line::new());
        }
        line::print(&lines, output, colour)
    }
}
