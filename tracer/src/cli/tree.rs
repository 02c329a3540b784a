//! `tracer tree`: the process tree, as pstree would draw it.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process;

use anyhow::{Context as _, bail};
use clap::Args;
use rustc_hash::FxHashSet;

use super::args;
use super::screen;
use super::session::{must_exist, say_unseen};
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
use crate::view::watch::{self, MAX_DEAD};

/// Show the process tree, now or live
///
/// Draws the processes as pstree does, with the same options; threads are not shown. Kernel threads are below process
/// 2: `tracer tree 2`. With --watch the tree is redrawn as it changes: who was born is green, who just ran another
/// program yellow, who ended red, for a moment; this needs the privileges that tracing needs, the tree of this
/// moment needs none.
#[derive(Clone, Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Here -h highlights: --help tells more, with examples.",
    after_long_help = EXAMPLES
)]
pub struct TreeArgs {
    /// Show only this process and its descendants
    #[arg(value_name = "PID", value_parser = args::pid)]
    pid: Option<u32>,

    /// Show arguments; each process gets a line of its own
    #[arg(short, long)]
    arguments: bool,

    /// Draw with ASCII characters
    ///
    /// By default the locale decides.
    #[arg(short = 'A', long, conflicts_with = "unicode")]
    ascii: bool,

    /// Draw with Unicode characters
    #[arg(short = 'U', long)]
    unicode: bool,

    /// Do not put subtrees that look the same together as 3*[…]
    #[arg(short = 'c', long)]
    compact_not: bool,

    /// Highlight this very process and its ancestors
    #[arg(short = 'h', long, conflicts_with = "from")]
    highlight_all: bool,

    /// Highlight process PID and its ancestors
    #[arg(short = 'H', long, value_name = "PID", value_parser = args::pid, conflicts_with = "highlight_all")]
    highlight_pid: Option<u32>,

    /// Do not cut long lines
    ///
    /// On a terminal they are cut to its width; elsewhere they never are.
    #[arg(short, long)]
    long: bool,

    /// Sort by pid instead of by name
    #[arg(short, long)]
    numeric_sort: bool,

    /// Show pids; nothing is put together then
    #[arg(short = 'p', long)]
    show_pids: bool,

    /// Show the ancestors of PID as well
    #[arg(short = 's', long, requires = "pid")]
    show_parents: bool,

    /// Show the user where it is another than the parent's
    #[arg(short, long)]
    uid_changes: bool,

    /// Redraw the tree as it changes, until q or Ctrl-C
    #[arg(short, long, conflicts_with_all = ["long", "show_parents", "output", "from"])]
    watch: bool,

    /// Keep those that have ended, with how they ended
    ///
    /// Needs --watch or --from: nothing is left of a process that ended before tracing began.
    #[arg(short, long)]
    dead: bool,

    /// Show what `tracer run` shows at its end: with --from, for the command that was recorded, or for PID
    ///
    /// The tree of all that it started, with duration, CPU time, largest memory and exit status, and the totals.
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
      All processes.
  tracer tree -p -a $$
      This shell and all below it, with pids and arguments.
  tracer tree -s -p 4711
      Where process 4711 came from.
  tracer tree --watch --dead -p 4711
      All that 4711 starts, as it happens, and how it ends.
  tracer tree --dead -p --from events.jsonl
      The tree at the end of a recording, with the processes that have ended.
  tracer tree --summary --from build.jsonl
      What `tracer run` would have shown of a command that was recorded with -o.

Exit status:
  0  done
  1  there is no such process, the recording cannot be read, or (with --watch) tracing is not possible: see
     `tracer doctor`
  2  wrong usage";

pub(super) fn execute(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if args.dead && !args.watch && args.from.file().is_none() {
        let message =
            "--dead needs --watch or --from FILE: nothing is left of a process that ended before tracing began";
        return Err(UsageError::new("tree", message).into());
    }
    if args.watch {
        if !std::io::stdout().is_terminal() {
            let message = "--watch needs a terminal on standard output: `tracer tree` shows the tree of this moment, \
                           `tracer stream --format text` what happens";
            return Err(UsageError::new("tree", message).into());
        }
        if screen::is_dumb() {
            let message = "--watch needs a terminal that can move its cursor, and TERM says that this one cannot: set TERM, or \
                           use `tracer tree` for the tree of this moment and `tracer stream --format text` for what happens";
            return Err(UsageError::new("tree", message).into());
        }
        return super::watch::watch(args, globals);
    }
    if args.summary {
        return summary(args, globals);
    }
    let all = Matcher::new(&Filter::default())?;
    let mut growth = Growth { forest: Forest::new(Shape::Current), keep_dead: args.dead, dead: 0 };
    if let Some(file) = args.from.file() {
        from::play(from::open(file, globals)?, all, &mut growth)?;
    } else {
        preflight::proc_is_mounted()?;
        from::play(Snapshot::default(), all, &mut growth)?;
        say_unseen(&[What::Processes]);
    }
    let forest = growth.forest;
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
        None => tree::draw(&forest, &watch::user_roots(&forest), &options),
    };
    let colour = globals.colours(&output);
    line::print(&lines, &mut output, colour)?;
    Ok(ExitCode::Done)
}

impl TreeArgs {
    /// The process that is shown with all below it.
    pub(super) const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether those that have ended are kept.
    pub(super) const fn keeps_dead(&self) -> bool {
        self.dead
    }

    /// The process to highlight with its ancestors.
    pub(super) fn highlighted(&self) -> Option<u32> {
        if self.highlight_all { Some(process::id()) } else { self.highlight_pid }
    }

    /// What the other options mean.
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

    fn glyphs(&self) -> &'static Glyphs {
        match (self.ascii, self.unicode) {
            (true, _) => &glyphs::ASCII,
            (_, true) => &glyphs::UNICODE,
            _ => Glyphs::of_locale(),
        }
    }
}

/// Draws what `tracer run` shows at its end, from a recording.
fn summary(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Some(file) = args.from.file() else { bail!("--summary needs --from FILE") };
    let mut tale = Tale {
        summary: Summary::default(),
        running: FxHashSet::default(),
        roots: Roots::default(),
        end: Timestamp::default(),
        utc_minus_boot_ns: None,
    };
    let bye = from::play(from::open(file, globals)?, Matcher::new(&Filter::default())?, &mut tale)?;
    let root = match args.pid {
        Some(pid) => pid,
        None => tale.roots.only().with_context(|| {
            let name = file.display();
            format!("{name} has more than one tree: name the process with `tracer tree --summary PID --from {name}`")
        })?,
    };
    let mut output = globals.open()?;
    let width = if args.long { None } else { width(&output) };
    let lines = tale.summary.lines(root, &bye, tale.end, width, args.glyphs());
    if lines.is_empty() {
        bail!(
            "there is no process {root} in {}: `tracer tree -p --dead --from FILE` shows those there are",
            file.display()
        );
    }
    let colour = globals.colours(&output);
    line::print(&lines, &mut output, colour)?;
    Ok(ExitCode::Done)
}

/// Sums up a recording.
struct Tale {
    summary: Summary,
    /// Processes that were running already.
    running: FxHashSet<ProcessId>,
    roots: Roots,
    /// When the last event happened, by the boot clock.
    end: Timestamp,
    /// How far UTC is ahead of that clock: lines about the stream itself, as `bye` is, have the time in UTC only.
    utc_minus_boot_ns: Option<i64>,
}

/// The processes whose forks and execs no other process of the recording explains.
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

impl Consumer for Tale {
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
            // One that forks was there itself.
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

/// Grows a forest.
struct Growth {
    forest: Forest,
    keep_dead: bool,
    dead: usize,
}

impl Consumer for Growth {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.forest.apply(event);
        let Some(process) = event.process.as_ref().filter(|_| event.kind() == Kind::Exit) else { return Ok(()) };
        if !self.keep_dead {
            self.forest.forget(process.id);
            return Ok(());
        }
        self.dead += 1;
        if self.dead == MAX_DEAD {
            self.dead = 0;
            self.forest.forget_oldest_dead(MAX_DEAD);
        }
        Ok(())
    }
}

fn find(forest: &Forest, pid: u32, recording: Option<&Path>) -> anyhow::Result<ProcessId> {
    if let Some(id) = forest.find(pid) {
        return Ok(id);
    }
    if let Some(file) = recording {
        let file = file.display();
        bail!(
            "there is no process {pid} at the end of {file}: `tracer tree -p --dead --from FILE` shows all there were"
        );
    }
    must_exist(pid)?;
    bail!("process {pid} cannot be seen: `tracer tree -p` shows those that can")
}

/// Columns of a terminal; none for anything else, or a terminal that does not know.
fn width(output: &Output) -> Option<usize> {
    terminal_size::terminal_size_of(output).map(|(width, _)| usize::from(width.0))
}
