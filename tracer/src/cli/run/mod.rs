//! `tracer run`: runs a command and traces all its descendants.

pub(super) mod containers;
pub(super) mod hold;
pub(super) mod launch;
pub(super) mod signals;
mod waker;

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::{Capture, CaptureArgs, ExitCode, FilterArgs, Globals, UsageError};
use crate::analysis::audit::role;
use crate::filter::{Filter, Matcher};
use crate::record::text::Arguments;
use crate::sink::{Format, Target};

/// Run a command, and show all processes that it started
///
/// tracer starts CMD after tracing has begun, so no event is missed. It runs as if you had started it in a shell, with its own input,
/// output, terminal, signals and exit status. When it exits, tracer shows the tree of all its descendants on standard error:
/// duration, CPU time, peak memory and exit status of each, and the totals. With -o FILE, tracer writes every event to FILE
/// as a JSON line instead. Only CMD and its descendants are traced, so the rest of the machine is not slowed down.
///
/// If CMD starts containers, tracer also shows the steps of each container start. It knows docker, podman, nerdctl, ctr, crictl,
/// runc, crun and others.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct RunArgs {
    /// Set the output format of -o
    #[arg(short, long, value_name = "FORMAT", requires = "output")]
    format: Option<Format>,

    /// Wait for all descendants, not only for CMD
    ///
    /// This includes daemons that CMD leaves behind. Without --wait, they are shown as still running.
    #[arg(short, long)]
    wait: bool,

    /// Show the steps of container starts that CMD causes
    ///
    /// `auto` shows them if CMD is a program that starts containers. Without WHEN, the value is `always`, e.g. for a script
    /// that calls docker. If a daemon starts a container, the processes of the container do not descend from CMD. So tracer
    /// traces the whole machine with `always`, or if CMD is docker, nerdctl, ctr, crictl or podman --remote. Then FILE of -o
    /// contains events of descendants of CMD and of container daemons. `tracer containers --help` explains the columns.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "auto",
        default_missing_value = "always", value_enum)]
    containers: When,

    /// The command to run, with its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        value_hint = clap::ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    capture: CaptureArgs,
}

/// When container starts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// If CMD is a program that starts containers
    Auto,
    /// With every CMD
    Always,
    /// Never
    Never,
}

/// How containers are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// Not at all.
    No,
    /// Only containers whose processes descend from the command.
    Below,
    /// Also containers that daemons start.
    Anywhere,
}

const EXAMPLES: &str = "\
Examples:
  tracer run -- make -j4
  tracer run -o build.jsonl -- make -j4
  tracer run --wait -- /etc/init.d/ssh restart";

const LONG_EXAMPLES: &str = "\
Examples:
  tracer run -- make -j4
      Build, then show which programs ran, and what took the time.
  tracer run -o build.jsonl -- make -j4
      Record every event of a build.
  tracer run -o - --event exec -- ./configure > out.txt
      Write events to standard output, among the output of the command.
  tracer run -- docker run --rm alpine true
      Show the steps of a container start.
  tracer run --wait -- /etc/init.d/ssh restart
      Also wait for the daemon that the command leaves behind.

Signals:
  tracer passes on to CMD every signal that a process sends to tracer, including real-time signals. Signals of the
  terminal (Ctrl-C, Ctrl-\\, Ctrl-Z, a new size) reach CMD directly. When CMD stops, tracer stops too, and each
  continues with the other. After CMD has exited, SIGHUP, SIGINT, SIGQUIT or SIGTERM ends --wait, and the wait for a
  slow reader of -o.

Exit status:
  that of CMD, even if the reader of -o has gone; 128+n if signal n killed CMD
  126  CMD could not be executed
  127  CMD was not found
  1    tracing is not possible (see `tracer doctor`), or the output could not be written
  2    wrong usage";

/// What `tracer run` does, according to its options.
#[derive(Debug)]
pub struct RunPlan {
    /// The command with its arguments. Never empty.
    pub command: Vec<OsString>,
    /// How and where events are written. `None` for a summary on standard error.
    pub output: Option<(Format, Target)>,
    /// The global options, for colours.
    pub globals: Globals,
    /// Which events are shown.
    pub matcher: Matcher,
    /// The filter before it was compiled.
    pub filter: Filter,
    /// What is recorded.
    pub capture: Capture,
    /// Whether to wait for all descendants.
    pub wait: bool,
    /// How containers are followed.
    pub containers: Containers,
}

impl RunArgs {
    /// Checks the options and returns their meaning.
    pub fn plan(self, globals: &Globals) -> Result<RunPlan, UsageError> {
        let format = self.format.unwrap_or_default();
        if !self.filter.is_empty() && globals.target().is_none() {
            let message = "filters select the events for -o FILE, not the processes of the summary: give -o FILE";
            return Err(UsageError::new("run", message));
        }
        let capture = self.capture.capture(&self.filter, "run")?;
        if capture.zombie_after.is_some() && globals.target().is_none() {
            let message = "--reap adds events for -o FILE, not to the summary: give -o FILE";
            return Err(UsageError::new("run", message));
        }
        let argv: Arguments = self.command.iter().map(|word| word.to_string_lossy()).collect();
        let containers = match self.containers {
            When::Always => Containers::Anywhere,
            When::Auto if role::needs_daemon(&argv) => Containers::Anywhere,
            When::Auto if role::starts_containers(&argv) => Containers::Below,
            When::Auto | When::Never => Containers::No,
        };
        let filter = Filter { until_reaped: capture.zombie_after.is_some(), ..self.filter.filter() };
        if containers == Containers::Anywhere && !filter.wanted.trees.is_empty() {
            let message = "--pid selects descendants of CMD, and containers of a daemon are not among them: leave out --pid, or \
                           give --containers=never";
            return Err(UsageError::new("run", message));
        }
        Ok(RunPlan {
            output: globals.target().map(|target| (format, target.for_recording())),
            globals: globals.clone(),
            matcher: self.filter.matcher(&capture, "run")?,
            filter,
            containers,
            capture,
            wait: self.wait,
            command: self.command,
        })
    }
}

/// Runs the command and ends with its status.
pub fn execute(plan: RunPlan) -> anyhow::Result<ExitCode> {
    super::session::run(plan)
}
