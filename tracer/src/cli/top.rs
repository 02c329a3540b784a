//! `tracer top`: who spawns how much, live.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use crossterm::event::KeyEvent;
use ratatui::Frame;

use super::live_view::{self, Canvas, Pace, Show};
use super::screen::{self, now};
use super::session::{builder, must_count, must_exist, runtime, say_unseen};
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
use crate::view::top::batch::{self, Look};
use crate::view::top::draw::draw;
use crate::view::top::model::Picture;
use crate::view::top::rows::{self, Row};
use crate::view::top::state::{Group, Shown, Sort, Wish};
use crate::view::top::{State, Top};

/// Show who spawns processes, live
///
/// What top does not show: processes that live too short to be found in /proc. Each counts in full, for who created it
/// and for all above that: forks, execs, exits and failures a second, and the CPU time of those that lived 10 s at most. The
/// process most of it comes from is named. Keys are as in htop: ? or F1 tells them. With -b, or when standard output is no
/// terminal (or TERM is `dumb`), the views are written one below the other.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER_LONG_HELP)]
pub struct TopArgs {
    /// Write the pictures as text, one below the other, and take no keys
    #[arg(short, long)]
    batch: bool,

    /// Time between two pictures: seconds, or e.g. 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2", value_parser = live_view::delay, conflicts_with = "from")]
    delay: Duration,

    /// End after so many pictures
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "from")]
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
      Who spawns most, every two seconds.
  tracer top --group ancestor
      The same as a tree, in which all that descends from a process counts for it.
  tracer top -b -n 1 -d 5 --sort cpu
      Five seconds, as text: whose short-lived children use the CPU?
  tracer top -u www-data --group command
      What the web server's user starts.
  tracer top --from build.jsonl
      Who spawned how much in a recording, from its begin to its end; with -b as text.

Exit status:
  0  ended by q, SIGHUP, SIGINT, SIGTERM or -n, or because the reader went away
  1  tracing is not possible: see `tracer doctor`
  2  wrong usage";

/// What `tracer top` is to do.
#[derive(Debug)]
pub struct Plan {
    pace: Pace,
    state: State,
    width: Option<usize>,
    filter: Matcher,
    pids: Vec<u32>,
    cgroups: Vec<String>,
    capture: Capture,
    globals: Globals,
    from: Option<PathBuf>,
}

impl TopArgs {
    /// What the options mean.
    pub fn plan(self, globals: &Globals) -> Result<Plan, UsageError> {
        let batch = self.batch || globals.target().is_some() || !screen::is_possible();
        let capture = self.capture.capture(&self.filter, "top")?;
        if self.from.file().is_some() {
            self.capture.refuse_with_from("top")?;
        }
        if capture.exec_failures != ExecFailures::No || capture.zombie_after.is_some() {
            let message = "top shows neither failed execs nor who waits for the dead: `tracer stream` tells them";
            return Err(UsageError::new("top", message));
        }
        Ok(Plan {
            pace: Pace { batch, delay: self.delay, iterations: self.iterations.unwrap_or(u64::MAX) },
            state: State { group: self.group, sort: self.sort, ..State::default() },
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

/// What both threads look at.
type Shared = Arc<Mutex<Top>>;

/// Shows picture after picture.
pub fn execute(plan: Plan) -> anyhow::Result<ExitCode> {
    if let Some(file) = plan.from.clone() {
        return replay(plan, &file);
    }
    plan.pids.iter().try_for_each(|&pid| must_exist(pid))?;
    must_count(&plan.cgroups)?;
    say_unseen(&[What::Processes]);
    let output = plan.globals.open()?;
    let colour = plan.globals.colours(&output);
    runtime()?.block_on(async {
        let told = Stop::catch(!plan.pace.batch)?.requested();
        let tracer = builder(&plan.capture).refresh_every(plan.pace.delay).start()?;
        let top: Shared = Arc::new(Mutex::new(Top::new(clock::boot_ns())));
        let mut view = TopView(Arc::clone(&top));
        let Plan { pace, state, width, filter, .. } = plan;
        let show = ShowTop::new(Shows::Live(top), state, width);
        Box::pin(live_view::live(tracer, filter, &mut view, show, pace, Canvas { output, colour }, told)).await?;
        Ok(ExitCode::Done)
    })
}

/// Shows a whole recording as one picture.
fn replay(plan: Plan, file: &Path) -> anyhow::Result<ExitCode> {
    let source = from::open(file, &plan.globals)?;
    let mut output = plan.globals.open()?;
    let colour = plan.globals.colours(&output);
    let top: Shared = Arc::new(Mutex::new(Top::new(0)));
    let mut view = Ending { view: TopView(Arc::clone(&top)), time: Timestamp::default() };
    let bye = from::play(source, plan.filter, &mut view)?;
    let picture = top.lock().unwrap_or_else(PoisonError::into_inner).tick(bye.duration_ns, view.time);
    let show = ShowTop::new(Shows::Whole(Box::new(picture)), plan.state, plan.width);
    if plan.pace.batch {
        show.write(&show.next(), &mut output, colour, false)?;
        return Ok(ExitCode::Done);
    }
    runtime()?.block_on(async {
        let told = Stop::catch(true)?.requested();
        live_view::browse(show, Canvas { output, colour }, told).await?;
        Ok(ExitCode::Done)
    })
}

/// Takes events into the sums.
struct TopView(Shared);

impl TopView {
    fn apply(&self, event: &Event, wanted: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event, wanted);
    }
}

impl Consumer for TopView {
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

/// Notes when the last event was.
struct Ending {
    view: TopView,
    time: Timestamp,
}

impl Consumer for Ending {
    fn learn(&mut self, running: &[Event]) {
        self.view.learn(running);
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.time = event.time;
        self.view.take(event)
    }

    fn skip(&mut self, event: &Event) {
        self.view.skip(event);
    }
}

/// What is shown.
enum Shows {
    /// The sums of a trace that goes on.
    Live(Shared),
    /// Those of a whole recording.
    Whole(Box<Picture>),
}

/// Shows the sums.
struct ShowTop {
    shows: Shows,
    state: State,
    width: Option<usize>,
    look: Look,
    /// What was drawn last: the rows, how many fit, and the users that there are.
    rows: Vec<Row>,
    page: usize,
    users: Vec<String>,
}

impl ShowTop {
    fn new(shows: Shows, state: State, width: Option<usize>) -> Self {
        Self { shows, state, width, look: Look::of_system(), rows: Vec::new(), page: 0, users: Vec::new() }
    }
}

impl Show for ShowTop {
    type Picture = Picture;

    fn first(&self) -> Picture {
        match &self.shows {
            Shows::Live(_) => Picture { time: now(), ..Picture::default() },
            Shows::Whole(picture) => (**picture).clone(),
        }
    }

    fn next(&self) -> Picture {
        match &self.shows {
            Shows::Live(top) => top.lock().unwrap_or_else(PoisonError::into_inner).tick(clock::boot_ns(), now()),
            Shows::Whole(picture) => (**picture).clone(),
        }
    }

    fn write(&self, picture: &Picture, output: &mut Output, colour: bool, again: bool) -> io::Result<()> {
        let mut lines = batch::lines(picture, &self.state, &self.look, self.width);
        if again {
            lines.insert(0, line::Line::new());
        }
        line::print(&lines, output, colour)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, picture: &Picture, colour: bool) {
        (self.rows, self.page) = draw(frame, picture, &mut self.state, &self.look, colour);
        self.users = rows::users(picture, &self.look.users);
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Wish> {
        self.state.key(key, Shown { rows: &self.rows, page: self.page, users: &self.users })
    }

    fn is_paused(&self) -> bool {
        self.state.paused
    }
}
