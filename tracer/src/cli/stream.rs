//! `tracer stream`: every event, one by one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Capture, CaptureArgs, ExitCode, FilterArgs, FromArgs, Globals, UsageError};
use crate::analysis::storm;
use crate::event::Filtering;
use crate::event::field;
use crate::filter::Matcher;
use crate::filter::pushdown::{Needs, Pushdown};
use crate::pipeline::backpressure::OnSlow;
use crate::sink::{Format, Target};

/// Show what happens: every fork, exec and exit, as JSON lines
///
/// Writes an event a line, as it happens: first `hello` (what is traced, and how), then a `process` line for each
/// process that runs already, then every `fork`, `exec`, `exit` and `reparent`; last `bye`, with the counts: seen =
/// emitted + filtered + folded + dropped + lost. Where events were lost, a `lost` line stands in their place and says how many of which
/// kind. It ends with SIGINT (Ctrl-C), SIGTERM or SIGHUP, with --count or --duration, when nobody reads on, or when the processes
/// of --pid and all their descendants have ended.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = after_long_help())]
pub struct StreamArgs {
    /// How events are written
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    /// Do not list the processes that run already
    #[arg(long)]
    no_snapshot: bool,

    /// Add to each event the ancestors of its process, nearest first
    #[arg(short, long, conflicts_with = "from")]
    ancestors: bool,

    /// End after so many events (`hello`, `lost`, `storm` and `bye` are not counted)
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so long, e.g. 10s or 1h30m
    #[arg(short, long, value_name = "TIME", value_parser = duration, conflicts_with = "from")]
    duration: Option<Duration>,

    /// Fold what one process and its descendants spawn beyond RATE events a second into `storm` lines
    ///
    /// While it lasts there is one line a second: who is to blame, how many forks, execs and exits, which commands how
    /// often, exit statuses, CPU time. What is born below the culprit in that time, and each exec there, gets no line of
    /// its own; whose birth was shown has its end shown too. Nothing is sampled: what was shown and what was folded is
    /// all there was, and `bye` says how many were folded.
    #[arg(long, value_name = "RATE", conflicts_with_all = ["storm_alert", "reap"], value_parser = clap::value_parser!(u64).range(1..))]
    collapse: Option<u64>,

    /// Add `storm` lines where one process and its descendants spawn more than RATE events a second
    ///
    /// As with --collapse, but every event keeps its line.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..))]
    storm_alert: Option<u64>,

    /// Go on when the processes of --pid and all their descendants have ended
    #[arg(long, requires = "pid")]
    keep_going: bool,

    /// What to do when the reader of standard output (or of a pipe given with -o) is slow
    ///
    /// What is written and not read yet waits in memory (a sixteenth of --max-memory). When that is full, `block` waits: the
    /// ring buffer fills, and what finds no room there is lost. `drop` goes on and leaves events out; a `dropped` line stands
    /// in their place and counts them, and the tree stays right. `collapse` sums up what is spawned meanwhile in `storm` lines, from
    /// ten events a second of one culprit on, and leaves out only what is in none.
    #[arg(long, value_name = "HOW", default_value = "block", value_enum)]
    on_slow: OnSlow,

    #[command(flatten)]
    from: FromArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// Where events are left out that are not asked for
    ///
    /// By `auto` the kernel side leaves them out as far as it can: then they cost next to nothing, and `bye` does not count them.
    /// It knows --pid (but not 1), and --container, --unit, --cgroup and --uid; not with --ancestors, --collapse, --storm-alert
    /// or --reap, which tell of others too. `hello` says what is done where. A process that comes to be asked for during its life
    /// (it gets another user or is put into another control group) is told of from then on, as in `user`; but what it was
    /// before may be missing there: exec.previous_exe, creator_id, origin, how often it has exec'd, and of one that only ends exe
    /// and argv.
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

/// Where events are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FilterIn {
    /// In the kernel, if that can be
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
      What happens on this machine, for people.
  tracer stream --no-snapshot --event exec | jq -r '.process.argv | join(\" \")'
      Every command line from now on.
  tracer stream --uid www-data --event exec,exit -o www.jsonl
      What the web server runs, into a file.
  tracer stream --pid 4711 --ancestors --duration 1m
      A minute of one process and all below it, with where each came from.
  tracer stream --collapse 500 --format text
      The same as the first, but a storm is one line a second instead of thousands.
  tracer stream --event exit | jq -c 'select(.exit.signal) | [.process.pid, .process.comm, .exit.signal, .exit.cause]'
      What gets killed, and by whom.
  tracer stream --from events.jsonl.zst --event exec --uid www-data
      What that user ran, from a recording.

Fields of an event (a field that is absent is unknown or does not apply; `tracer schema` prints the JSON Schema):
{}
Exit status:
  0  ended by SIGHUP, SIGINT, SIGTERM, --count, --duration or the end of the recording, because the reader went away,
     or because all processes of --pid ended
  1  tracing is not possible (see `tracer doctor`), the recording cannot be read, or the output could not be written
  2  wrong usage",
        field::help()
    )
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it has to be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}: write e.g. 500ms, 10s, 5m or 1h30m")),
    }
}

/// What `tracer stream` is to do.
#[derive(Debug)]
pub struct Plan {
    /// How events are written.
    pub format: Format,
    /// Where to.
    pub target: Target,
    /// Whether to colour them, if they are for people.
    pub globals: Globals,
    /// Which are shown. Shown the snapshot ([`Matcher::learn`]) before its events.
    pub filter: Matcher,
    /// The recording to read instead of tracing.
    pub from: Option<PathBuf>,
    /// How much of that the kernel side does, and how that is told.
    pub pushdown: Pushdown,
    /// See [`Plan::pushdown`].
    pub filtering: Option<Filtering>,
    /// Processes that are named: they have to exist.
    pub pids: Vec<u32>,
    /// Control groups that are named: they have to be in the hierarchy that is followed.
    pub cgroups: Vec<String>,
    /// Whether it goes on when no process is left that is followed by descent.
    pub keep_going: bool,
    /// What is captured.
    pub capture: Capture,
    /// Whether processes that run already are listed.
    pub snapshot: bool,
    /// Whether each event names its process's ancestors.
    pub ancestors: bool,
    /// After how many events it ends.
    pub count: Option<u64>,
    /// After how long it ends.
    pub duration: Option<Duration>,
    /// What makes a storm.
    pub storm: Option<storm::Options>,
    /// What is done when the reader is slow.
    pub on_slow: OnSlow,
}

impl StreamArgs {
    fn storm(&self) -> Option<storm::Options> {
        let fold = self.collapse.map(|rate| storm::Options { mode: storm::Mode::Fold, rate });
        fold.or_else(|| self.storm_alert.map(|rate| storm::Options { mode: storm::Mode::Alert, rate }))
    }

    /// What the options mean.
    pub fn plan(self, globals: &Globals) -> Result<Plan, UsageError> {
        let capture = self.capture.capture(&self.filter, "stream")?;
        if self.on_slow == OnSlow::Collapse && (self.storm_alert.is_some() || capture.zombie_after.is_some()) {
            let message = "--on-slow collapse folds events: it goes neither with --storm-alert nor with --reap";
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
        Ok(Plan {
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

// ---------------------------------------------------------------------------------------------------------

/// Streams until it is told to end.
pub fn execute(plan: Plan) -> anyhow::Result<ExitCode> {
    super::session::stream(plan)
}
