//! `tracer stream`: writes every event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::duration;
use super::{Capture, CaptureArgs, ExitCode, FilterArgs, FromArgs, Globals, UsageError};
use crate::analysis::storm;
use crate::event::Filtering;
use crate::event::field;
use crate::filter::Matcher;
use crate::filter::pushdown::{Needs, Pushdown};
use crate::pipeline::backpressure::OnSlow;
use crate::sink::{Format, Target};

/// Stream every fork, exec and exit as JSON lines
///
/// Writes one event a line. First comes `hello`, which says what is traced and how. A `process` line for each running process
/// follows. Then come `fork`, `exec`, `exit` and `reparent` events as they happen. `bye` ends the stream with the counts:
/// seen = emitted + filtered + folded + dropped + lost. A `lost` line stands where events were lost, and counts them by kind.
///
/// The stream ends with SIGINT (Ctrl-C), SIGTERM or SIGHUP, with --count or --duration, or when the reader closes the output.
/// With --pid, it also ends when those processes and all their descendants have exited.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = after_long_help())]
pub struct StreamArgs {
    /// Set the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    /// Do not list the running processes first
    #[arg(long)]
    no_snapshot: bool,

    /// Add the ancestors of the process to each event, nearest first
    #[arg(short, long, conflicts_with = "from")]
    ancestors: bool,

    /// End after N events, not counting hello, lost, storm and bye
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after TIME, e.g. 10s or 1h30m
    #[arg(short, long, value_name = "TIME", value_parser = duration, conflicts_with = "from")]
    duration: Option<Duration>,

    /// Fold storms of more than RATE events a second into `storm` lines
    ///
    /// In a storm, one process and its descendants cause more than RATE events a second. While it lasts, there is one `storm`
    /// line a second. It names the process that causes the storm, and counts forks, execs and exits, commands, exit statuses
    /// and CPU time. Forks and execs of its descendants get no lines during the storm. A process whose fork was shown also
    /// has its exit shown. Nothing is sampled: shown plus folded events are all that happened. `bye` counts the folded ones.
    #[arg(long, value_name = "RATE", conflicts_with_all = ["storm_alert", "reap"], value_parser = clap::value_parser!(u64).range(1..))]
    collapse: Option<u64>,

    /// Add `storm` lines during storms of more than RATE events a second
    ///
    /// As with --collapse, but every event keeps its line.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..))]
    storm_alert: Option<u64>,

    /// Continue after the processes of --pid and all their descendants have exited
    #[arg(long, requires = "pid")]
    keep_going: bool,

    /// Set what happens when the reader of the output is slow
    ///
    /// Output that is not read yet waits in memory, up to a sixteenth of --max-memory. When that is full, `block` waits. Then
    /// the ring buffer fills, and may lose events. `drop` continues and leaves events out. A `dropped` line counts them in
    /// their place, and the tree stays correct. `collapse` replaces events by `storm` lines where one process causes ten or
    /// more a second. It drops only events outside such storms. This concerns standard output and a pipe given with -o.
    #[arg(long, value_name = "HOW", default_value = "block", value_enum)]
    on_slow: OnSlow,

    #[command(flatten)]
    from: FromArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// Set where events are filtered
    ///
    /// With `auto`, the kernel filters as far as it can. Events filtered out in the kernel cost almost nothing. `bye` does
    /// not count them. The kernel can filter by --pid (except 1), --container, --unit, --cgroup and --uid. It does not with
    /// --ancestors, --collapse, --storm-alert or --reap, which concern other processes too. `hello` says which filter works
    /// where.
    ///
    /// A process may start to match later, when its user or control group changes. It is reported from its next event on, with
    /// `auto` and with `user`. With `auto`, its history may be missing: exec.previous_exe, creator_id, origin and the number of its
    /// execs. If only its exit matches, exe and argv may be missing too.
    #[arg(
        long,
        help_heading = "Filters",
        value_name = "WHERE",
        default_value = "auto",
        value_enum,
        conflicts_with = "from"
    )]
    filter_in: FilterIn,

    #[command(flatten)]
    capture: CaptureArgs,
}

/// Where events are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FilterIn {
    /// In the kernel, if possible
    Auto,
    /// In user space
    User,
}

const EXAMPLES: &str = "\
Examples:
  tracer stream --format text
  tracer stream --no-snapshot --event exec | jq -r '.process.argv | join(\" \")'
  tracer stream --uid www-data --event exec,exit -o www.jsonl";

fn after_long_help() -> String {
    format!(
        "\
Examples:
  tracer stream --format text
      Show all events of this machine as text.
  tracer stream --no-snapshot --event exec | jq -r '.process.argv | join(\" \")'
      Print every command line from now on.
  tracer stream --uid www-data --event exec,exit -o www.jsonl
      Record what the web server runs.
  tracer stream --pid 4711 --ancestors --duration 1m
      Trace a process and its descendants for a minute, and show the ancestors of each.
  tracer stream --collapse 500 --format text
      Show all events as text, but only one line a second of a storm.
  tracer stream --event exit | jq -c 'select(.exit.signal) | [.process.pid, .process.comm, .exit.signal, .exit.cause]'
      Show which processes are killed, and by which process.
  tracer stream --from events.jsonl.zst --event exec --uid www-data
      Show what a user ran, from a recording.

Fields of an event (an absent field is unknown or does not apply; `tracer schema` prints the JSON Schema):
{}
Exit status:
  0  ended by SIGHUP, SIGINT, SIGTERM, --count, --duration or the end of the recording, because the reader closed the
     output, or because all processes of --pid exited
  1  tracing is not possible (see `tracer doctor`), the recording cannot be read, or the output could not be written
  2  wrong usage",
        field::help()
    )
}

/// What `tracer stream` does, according to its options.
#[derive(Debug)]
pub struct StreamPlan {
    /// The output format.
    pub format: Format,
    /// Where events are written.
    pub target: Target,
    /// The global options, for colours.
    pub globals: Globals,
    /// Which events are shown. It must learn the snapshot ([`Matcher::learn`]) before its events.
    pub filter: Matcher,
    /// The recording to read instead of tracing.
    pub from: Option<PathBuf>,
    /// The part of the filter that the kernel does.
    pub pushdown: Pushdown,
    /// What `hello` says about it.
    pub filtering: Option<Filtering>,
    /// The processes of `--pid`, which must exist.
    pub pids: Vec<u32>,
    /// The control groups of `--cgroup`, which must be in the followed hierarchy.
    pub cgroups: Vec<String>,
    /// Whether the stream continues after all processes of `--pid` and their descendants have exited.
    pub keep_going: bool,
    /// What is recorded.
    pub capture: Capture,
    /// Whether running processes are listed first.
    pub snapshot: bool,
    /// Whether each event has its process's ancestors.
    pub ancestors: bool,
    /// The number of events after which the stream ends.
    pub count: Option<u64>,
    /// The time after which the stream ends.
    pub duration: Option<Duration>,
    /// What is a storm, and how it is handled.
    pub storm: Option<storm::Options>,
    /// What happens when the reader is slow.
    pub on_slow: OnSlow,
}

impl StreamArgs {
    fn storm(&self) -> Option<storm::Options> {
        let fold = self.collapse.map(|rate| storm::Options { mode: storm::Mode::Fold, rate });
        fold.or_else(|| self.storm_alert.map(|rate| storm::Options { mode: storm::Mode::Alert, rate }))
    }

    /// Checks the options and returns their meaning.
    pub fn plan(self, globals: &Globals) -> Result<StreamPlan, UsageError> {
        let capture = self.capture.capture(&self.filter, "stream")?;
        if self.on_slow == OnSlow::Collapse && (self.storm_alert.is_some() || capture.zombie_after.is_some()) {
            let message = "--on-slow collapse folds events: it cannot be used with --storm-alert or --reap";
            return Err(UsageError::new("stream", message.to_owned()));
        }
        if self.from.file().is_some() {
            self.capture.refuse_with_from("stream")?;
        }
        let storm = self.storm();
        let needs = Needs {
            ancestors: self.ancestors,
            storms: storm.is_some() || self.on_slow == OnSlow::Collapse,
            reaps: capture.zombie_after.is_some(),
            in_user_space: self.filter_in == FilterIn::User || self.from.file().is_some(),
        };
        let (pushdown, filtering) = self.filter.pushdown(needs, "stream")?;
        Ok(StreamPlan {
            format: self.format,
            target: globals.target().unwrap_or_default().for_recording(),
            globals: globals.clone(),
            filter: self.filter.matcher(&capture, "stream")?,
            from: self.from.file().map(Path::to_owned),
            pushdown,
            filtering,
            pids: self.filter.pids(),
            cgroups: self.filter.cgroups(),
            keep_going: self.keep_going,
            capture,
            snapshot: !self.no_snapshot,
            ancestors: self.ancestors,
            count: self.count,
            duration: self.duration,
            storm,
            on_slow: self.on_slow,
        })
    }
}

/// Streams events until the plan or a signal ends it.
pub fn execute(plan: StreamPlan) -> anyhow::Result<ExitCode> {
    super::session::stream(plan)
}
