//! `tracer run`: one command and all it starts.

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

/// Run a command, and show all it ran
///
/// CMD is held back until it is traced, so that nothing is missed; then it runs as if started by hand: its input,
/// output, terminal, signals and exit status are its own. When it has ended, the tree of all processes it started
/// is shown on standard error: duration, CPU time, largest memory and exit status of each, and the totals. With -o
/// FILE every event is written there as a JSON line instead. Only CMD and its descendants are traced: the rest of
/// the machine is not slowed down. If CMD starts containers (docker, podman, nerdctl, ctr, crictl, runc, crun and others),
/// it is also shown how each of them started, step by step.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct RunArgs {
    /// How events are written, with -o
    #[arg(short, long, value_name = "FORMAT", requires = "output")]
    format: Option<Format>,

    /// Wait until all descendants have ended, not just CMD
    ///
    /// Daemons that CMD leaves behind are waited for as well. Without it they are shown as still running.
    #[arg(short, long)]
    wait: bool,

    /// Whether to show how the containers started that CMD caused
    ///
    /// `auto` does if CMD itself is a program known for it; without WHEN it is `always`, e.g. for a script that calls
    /// docker. The processes of a container that a daemon starts do not descend from CMD: where that is to be expected (always,
    /// or CMD is docker, nerdctl, ctr, crictl or podman --remote) the whole machine is traced, and -o FILE gets what descends
    /// from CMD and from daemons known for containers. `tracer containers --help` tells what the columns mean.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "auto",
        default_missing_value = "always", value_enum)]
    containers: When,

    /// The command to run, and its arguments
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

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// If CMD is a program known for it
    Auto,
    /// Whatever CMD is
    Always,
    /// Not at all
    Never,
}

/// How containers are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// They are not.
    No,
    /// Those that descend from the command.
    Below,
    /// Those of daemons too.
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
      Build, then see what was run, and where the time went.
  tracer run -o build.jsonl -- make -j4
      Every event of it, as JSON lines in a file.
  tracer run -o - --event exec -- ./configure > out.txt
      Events on standard output, among the output of the command.
  tracer run -- docker run --rm alpine true
      What it takes to start a container, step by step.
  tracer run --wait -- /etc/init.d/ssh restart
      Wait for the daemon it leaves behind.

Signals:
  Every signal that a process sends to tracer is passed on to CMD, real-time signals too. What a terminal sends (Ctrl-C, Ctrl-\\,
  Ctrl-Z, a new size) reaches CMD by itself. When CMD stops, so does tracer, and each continues with the other. When CMD has
  ended, SIGHUP, SIGINT, SIGQUIT or SIGTERM ends --wait, and the waiting for a slow reader of -o.

Exit status:
  that of CMD, also when whoever read -o has gone; 128+n when signal n killed it
  126  CMD could not be executed
  127  CMD was not found
  1    tracing is not possible (see `tracer doctor`), or the output could not be written
  2    wrong usage";

/// What `tracer run` is to do.
#[derive(Debug)]
pub struct Plan {
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
    /// How and where events are written; none for a summary on standard error.
    pub output: Option<(Format, Target)>,
    /// Colours.
    pub globals: Globals,
    /// Which events are shown.
    pub matcher: Matcher,
    /// … before it was compiled.
    pub filter: Filter,
    /// What is captured.
    pub capture: Capture,
    /// Whether to wait for all descendants.
    pub wait: bool,
    /// How containers are followed.
    pub containers: Containers,
}

impl RunArgs {
    /// What the options mean.
    pub fn plan(self, globals: &Globals) -> Result<Plan, UsageError> {
        let format = self.format.unwrap_or_default();
        if !self.filter.is_empty() && globals.target().is_none() {
            let message = "filters choose the events that -o FILE gets; the tree in the end is of all: give -o FILE";
            return Err(UsageError::new("run", message));
        }
        let capture = self.capture.capture(&self.filter, "run")?;
        if capture.zombie_after.is_some() && globals.target().is_none() {
            let message = "--reap adds events to those that -o FILE gets; the tree in the end has none: give -o FILE";
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
            let message = "--pid chooses among what descends from CMD, and the containers of a daemon do not: leave out --pid, \
                           or give --containers=never";
            return Err(UsageError::new("run", message));
        }
        Ok(Plan {
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

// ---------------------------------------------------------------------------------------------------------

/// Runs the command and ends with its status.
pub fn execute(plan: Plan) -> anyhow::Result<ExitCode> {
    super::session::run(plan)
}
