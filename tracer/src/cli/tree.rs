//! `tracer tree`: the process tree, as pstree would draw it.

use std::io::IsTerminal as _;
use std::process;

use anyhow::Context as _;
use clap::Args;

use super::args;
use super::screen;
use super::session::{must_exist, say_unseen};
use super::{ExitCode, Globals, UsageError};
use crate::clock;
use crate::event::Event;
use crate::event::id::ProcessId;
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::preflight;
use crate::kernel::visibility::What;
use crate::proc;
use crate::sink::Output;
use crate::table::{Table, TableOptions};
use crate::view::forest::{Forest, Shape};
use crate::view::glyphs::{self, Glyphs};
use crate::view::line;
use crate::view::tree::{self, Options};
use crate::view::users::Users;
use crate::view::watch;

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
    #[arg(short = 'h', long)]
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
    #[arg(short, long, conflicts_with_all = ["long", "show_parents", "output"])]
    watch: bool,

    /// Keep those that have ended, with how they ended
    ///
    /// Only with --watch: of who ended before tracing began nothing is left.
    #[arg(short, long, requires = "watch")]
    dead: bool,

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

Exit status:
  0  done
  1  there is no such process, or (with --watch) tracing is not possible: see `tracer doctor`
  2  wrong usage";

pub(super) fn execute(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
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
    let mut output = globals.open()?;
    let events = snapshot()?;
    say_unseen(&[What::Processes]);
    let forest = Forest::from_events(Shape::Current, &events);
    let users = Users::of_system();
    let mut options = args.options(&users);
    options.highlight = args.highlighted().map(|pid| find(&forest, pid)).transpose()?;
    options.width = if args.long { None } else { width(&output) };
    let lines = match args.pid {
        Some(pid) => {
            let id = find(&forest, pid)?;
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
        let glyphs = match (self.ascii, self.unicode) {
            (true, _) => &glyphs::ASCII,
            (_, true) => &glyphs::UNICODE,
            _ => Glyphs::of_locale(),
        };
        Options {
            pids: self.show_pids,
            users: self.uid_changes.then_some(users),
            arguments: self.arguments,
            by_pid: self.numeric_sort,
            compact: !self.compact_not,
            ..Options::new(glyphs)
        }
    }
}

/// The processes there are now, as `process` events.
fn snapshot() -> anyhow::Result<Vec<Event>> {
    preflight::proc_is_mounted()?;
    let utc_minus_boot_ns = clock::utc_minus_boot_ns();
    let mut seeds = proc::snapshot(utc_minus_boot_ns, &Hierarchy::of_proc())
        .context("cannot read /proc: mount it with `mount -t proc proc /proc`")?;
    seeds.retain(|seed| !seed.gone);
    let mut table = Table::new(TableOptions { utc_minus_boot_ns, ..TableOptions::default() });
    let mut events = Vec::with_capacity(seeds.len());
    table.seed(seeds, &mut events);
    Ok(events)
}

fn find(forest: &Forest, pid: u32) -> anyhow::Result<ProcessId> {
    if let Some(id) = forest.find(pid) {
        return Ok(id);
    }
    must_exist(pid)?;
    anyhow::bail!("process {pid} cannot be seen: `tracer tree -p` shows those that can")
}

/// Columns of a terminal; none for anything else, or a terminal that does not know.
fn width(output: &Output) -> Option<usize> {
    terminal_size::terminal_size_of(output).map(|(width, _)| usize::from(width.0))
}
