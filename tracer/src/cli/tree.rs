//! `tracer tree`: draws the process tree as pstree does.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process;

use anyhow::{Context as _, bail};
use clap::Args;
use rustc_hash::FxHashSet;

use super::args;
use super::screen;
use super::session::{must_exist, report_unseen};
use super::{ExitCode, FromArgs, Globals, UsageError, from};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Event, Kind, Process};
use crate::filter::{Filter, Matcher};
use crate::kernel::preflight;
use crate::kernel::visibility::What;
use crate::pipeline::consumer::Consumer;
use crate::sink::Output;
use crate::source::snapshot::Snapshot;
use crate::view::forest::{Forest, Shape, moment};
use crate::view::glyphs::{self, Glyphs};
use crate::view::line;
use crate::view::summary::Summary;
use crate::view::tree::{self, Options};
use crate::view::users::Users;
use crate::view::watch::model::{MAX_EXITED, user_roots};

/// Show the process tree, now or live
///
/// Draws the processes as pstree does, with the same options. Threads are not shown. Kernel threads are the descendants of
/// process 2: `tracer tree 2`. With --watch, the tree is redrawn as it changes. For a moment, new processes are green, those that
/// executed another program yellow, and exited ones red. --watch needs the privileges for tracing. The tree of this moment
/// needs none.
#[derive(Clone, Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "-h highlights. See --help for details and examples.",
    after_long_help = EXAMPLES
)]
pub struct TreeArgs {
    /// Show only this process and its descendants
    #[arg(value_name = "PID", value_parser = args::pid)]
    pid: Option<u32>,

    /// Show arguments, with each process on its own line
    #[arg(short, long)]
    arguments: bool,

    /// Draw with ASCII characters
    ///
    /// By default, the locale decides.
    #[arg(short = 'A', long, conflicts_with = "unicode")]
    ascii: bool,

    /// Draw with Unicode characters
    #[arg(short = 'U', long)]
    unicode: bool,

    /// Do not compact identical subtrees to 3*[…]
    #[arg(short = 'c', long)]
    compact_not: bool,

    /// Highlight the current process and its ancestors
    #[arg(short = 'h', long, conflicts_with = "from")]
    highlight_all: bool,

    /// Highlight process PID and its ancestors
    #[arg(short = 'H', long, value_name = "PID", value_parser = args::pid, conflicts_with = "highlight_all")]
    highlight_pid: Option<u32>,

    /// Do not truncate long lines
    ///
    /// By default, lines are truncated to the width of the terminal. Other output is never truncated.
    #[arg(short, long)]
    long: bool,

    /// Sort by pid instead of by name
    #[arg(short, long)]
    numeric_sort: bool,

    /// Show pids, and do not compact subtrees
    #[arg(short = 'p', long)]
    show_pids: bool,

    /// Show the ancestors of PID too
    #[arg(short = 's', long, requires = "pid")]
    show_parents: bool,

    /// Show the user if the parent has another one
    #[arg(short, long)]
    uid_changes: bool,

    /// Redraw the tree as it changes, until q or Ctrl-C
    #[arg(short, long, conflicts_with_all = ["long", "show_parents", "output", "from"])]
    watch: bool,

    /// Keep exited processes, with their exit status
    ///
    /// Needs --watch or --from. A process that exited before tracing began is unknown.
    #[arg(short, long)]
    dead: bool,

    /// Show the summary of a recorded command, as `tracer run` does at its end
    ///
    /// Shows the tree of all its descendants: duration, CPU time, peak memory and exit status of each, and the totals. PID selects
    /// another process than the recorded command. Needs --from.
    #[arg(long, requires = "from", conflicts_with_all = ["watch", "dead", "show_parents", "show_pids", "arguments"])]
    summary: bool,

    #[command(flatten)]
    from: FromArgs,

    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
}

const EXAMPLES: &str = "\
Examples:
  tracer tree
      Show all processes.
  tracer tree -p -a $$
      Show this shell and its descendants, with pids and arguments.
  tracer tree -s -p 4711
      Show the ancestors and descendants of process 4711.
  tracer tree --watch --dead -p 4711
      Show what 4711 starts, live, and how each process exits.
  tracer tree --dead -p --from events.jsonl
      Show the tree at the end of a recording, with all exited processes.
  tracer tree --summary --from build.jsonl
      Show the summary of a command that was recorded with `tracer run -o`.

Exit status:
  0  done
  1  there is no such process, the recording cannot be read, or tracing is not possible (--watch): see
     `tracer doctor`
  2  wrong usage";

pub(super) fn execute(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if args.dead && !args.watch && args.from.file().is_none() {
        let message = "--dead needs --watch or --from FILE: a process that exited before tracing began is unknown";
        return Err(UsageError::new("tree", message).into());
    }
    if args.watch {
        if !std::io::stdout().is_terminal() {
            let message = "--watch needs a terminal on standard output: use `tracer tree` for the tree of this moment, or \
                           `tracer stream --format text` for events";
            return Err(UsageError::new("tree", message).into());
        }
        if screen::is_dumb() {
            let message = "--watch needs a terminal that can move its cursor, and TERM says that this one cannot: set TERM, or \
                           use `tracer tree` for the tree of this moment, or `tracer stream --format text` for events";
            return Err(UsageError::new("tree", message).into());
        }
        return super::watch::execute(args, globals);
    }
    if args.summary {
        return summary(args, globals);
    }
    let all = Matcher::new(&Filter::default())?;
    let mut consumer = ForestConsumer { forest: Forest::new(Shape::Current), keep_exited: args.dead, exited: 0 };
    if let Some(file) = args.from.file() {
        from::play(from::open(file, globals)?, all, &mut consumer)?;
    } else {
        preflight::proc_is_mounted()?;
        from::play(Snapshot::default(), all, &mut consumer)?;
        report_unseen(&[What::Processes]);
    }
    let forest = consumer.forest;
    let mut output = globals.open()?;
    let users = Users::of_system();
    let mut options = args.options(&users);
    let find = |pid| find(&forest, pid, args.from.file());
    options.highlight = args.highlighted().map(find).transpose()?;
    options.width = if args.long { None } else { width(&output) };
    let lines = match args.pid {
        Some(pid) => {
            let id = find(pid)?;
            if args.show_parents {
                tree::draw_with_ancestors(&forest, id, &options)
            } else {
                tree::draw(&forest, &[id], &options)
            }
        }
        None => tree::draw(&forest, &user_roots(&forest), &options),
    };
    let colour = globals.colours(&output);
    line::print(&lines, &mut output, colour)?;
    Ok(ExitCode::Done)
}

impl TreeArgs {
    /// Returns the process that is shown with its descendants.
    pub(super) const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns whether exited processes are kept.
    pub(super) const fn keeps_exited(&self) -> bool {
        self.dead
    }

    /// Returns the process to highlight with its ancestors.
    pub(super) fn highlighted(&self) -> Option<u32> {
        if self.highlight_all { Some(process::id()) } else { self.highlight_pid }
    }

    /// Returns how the tree is drawn.
    pub(super) fn options<'a>(&self, users: &'a Users) -> Options<'a> {
        Options {
            pids: self.show_pids,
            users: self.uid_changes.then_some(users),
            arguments: self.arguments,
            by_pid: self.numeric_sort,
            compact: !self.compact_not,
            ..Options::new(self.glyphs())
        }
    }

    /// Returns the signs to draw with.
    pub(super) fn glyphs(&self) -> &'static Glyphs {
        match (self.ascii, self.unicode) {
            (true, _) => &glyphs::ASCII,
            (_, true) => &glyphs::UNICODE,
            _ => Glyphs::of_locale(),
        }
    }
}

/// Draws the summary of a recorded command.
fn summary(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Some(file) = args.from.file() else { bail!("--summary needs --from FILE") };
    let mut replay = SummaryConsumer {
        summary: Summary::default(),
        running: FxHashSet::default(),
        roots: Roots::default(),
        end: Timestamp::default(),
        utc_minus_boot_ns: None,
    };
    let bye = from::play(from::open(file, globals)?, Matcher::new(&Filter::default())?, &mut replay)?;
    let root = match args.pid {
        Some(pid) => pid,
        None => replay.roots.only().with_context(|| {
            let name = file.display();
            format!("{name} has more than one tree: name a process with `tracer tree --summary PID --from {name}`")
        })?,
    };
    let mut output = globals.open()?;
    let width = if args.long { None } else { width(&output) };
    let lines = replay.summary.lines(root, &bye, replay.end, width, args.glyphs());
    if lines.is_empty() {
        bail!(
            "there is no process {root} in {}: `tracer tree -p --dead --from FILE` shows all processes",
            file.display()
        );
    }
    let colour = globals.colours(&output);
    line::print(&lines, &mut output, colour)?;
    Ok(ExitCode::Done)
}

/// Sums up a recording.
struct SummaryConsumer {
    summary: Summary,
    /// Processes that ran when the recording began.
    running: FxHashSet<ProcessId>,
    roots: Roots,
    /// The time of the last event, by the boot clock.
    end: Timestamp,
    /// Offset of UTC from that clock. Lines about the stream itself, such as `bye`, only have a UTC time.
    utc_minus_boot_ns: Option<i64>,
}

/// Finds the roots: processes that no other process of the recording created.
#[derive(Default)]
struct Roots {
    members: FxHashSet<ProcessId>,
    first: Option<u32>,
    several: bool,
}

impl Roots {
    fn learn(&mut self, process: &Process) {
        let creator = process.creator_id.or(process.parent_id);
        if self.members.insert(process.id) && creator.is_none_or(|creator| !self.members.contains(&creator)) {
            self.several |= self.first.is_some();
            self.first.get_or_insert(process.pid);
        }
    }

    fn only(&self) -> Option<u32> {
        self.first.filter(|_| !self.several)
    }
}

impl Consumer for SummaryConsumer {
    fn learn(&mut self, running: &[Event]) {
        self.running.extend(running.iter().filter_map(|event| Some(event.process.as_ref()?.id)));
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        if event.boot_ns.is_some() {
            self.utc_minus_boot_ns = Some(event.time.0 - moment(event).0);
        }
        if let Some(offset_ns) = self.utc_minus_boot_ns {
            self.end = self.end.max(Timestamp(event.time.0 - offset_ns));
        }
        self.summary.apply(event);
        if let Some(process) =
            event.process.as_ref().filter(|_| matches!(event.kind(), Kind::Fork | Kind::Exec | Kind::Exit))
        {
            // The creator was there too, though it may have no event.
            let creator = process.creator_id.or(process.parent_id);
            if event.kind() == Kind::Fork
                && let Some(creator) = creator.filter(|creator| self.running.contains(creator))
            {
                self.roots.learn(&Process::new(creator, process.source));
            }
            self.roots.learn(process);
        }
        Ok(())
    }
}

/// Adds events to a forest.
struct ForestConsumer {
    forest: Forest,
    keep_exited: bool,
    exited: usize,
}

impl Consumer for ForestConsumer {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.forest.apply(event);
        let Some(process) = event.process.as_ref().filter(|_| event.kind() == Kind::Exit) else { return Ok(()) };
        if !self.keep_exited {
            self.forest.forget(process.id);
            return Ok(());
        }
        self.exited += 1;
        if self.exited == MAX_EXITED {
            self.exited = 0;
            self.forest.forget_oldest_exited(MAX_EXITED);
        }
        Ok(())
    }
}

/// Finds a process by its pid.
fn find(forest: &Forest, pid: u32, recording: Option<&Path>) -> anyhow::Result<ProcessId> {
    if let Some(id) = forest.find(pid) {
        return Ok(id);
    }
    if let Some(file) = recording {
        let file = file.display();
        bail!(
            "there is no process {pid} at the end of {file}: `tracer tree -p --dead --from FILE` shows exited ones too"
        );
    }
    must_exist(pid)?;
    bail!("process {pid} is hidden from this user: `tracer tree -p` shows the visible processes")
}

/// Returns the width of a terminal, or `None` for other output and for a terminal without a size.
fn width(output: &Output) -> Option<usize> {
    terminal_size::terminal_size_of(output).map(|(width, _)| usize::from(width.0))
}
