//! The containers that a command caused, though it is not they that descend from it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashSet;

use super::Containers;
use crate::analysis::audit::{Start, Starts};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process};
use crate::pipeline::backlog::Backlog;
use crate::pipeline::consumer::Consumer;
use crate::view::glyphs::Glyphs;
use crate::view::line::{self, Line, Role};
use crate::view::start;

/// Most starts that are shown in the end.
const SHOWN: usize = 16;

/// Follows the command's own processes and the starts of containers, and hands events on.
pub(in crate::cli) struct Caused<'a> {
    /// If not, events are handed on, and that is all.
    on: bool,
    root: Option<u32>,
    /// Who descends from the command, the dead too.
    members: FxHashSet<ProcessId>,
    living: Arc<AtomicUsize>,
    starts: Starts,
    told: Vec<Start>,
    more: usize,
    sink: &'a mut dyn Consumer,
    /// Whether only what descends from the command is handed on.
    only_members: bool,
}

impl<'a> Caused<'a> {
    /// By the command that has this pid.
    pub(in crate::cli) fn by(
        root: u32,
        containers: Containers,
        only_members: bool,
        sink: &'a mut dyn Consumer,
    ) -> Self {
        Self {
            on: containers != Containers::No,
            root: Some(root),
            members: FxHashSet::default(),
            living: Arc::default(),
            starts: Starts::default(),
            told: Vec::new(),
            more: 0,
            sink,
            only_members,
        }
    }

    /// How many live that descend from the command; it may be read meanwhile.
    pub(in crate::cli) fn living(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.living)
    }

    /// Whether an event is about the command or what descends from it.
    fn is_members(&mut self, event: &Event) -> bool {
        let Some(process) = &event.process else { return false };
        let member = self.members.contains(&process.id) || self.joins(process);
        if member && event.kind() == Kind::Exit {
            self.living.fetch_sub(1, Ordering::Relaxed);
        }
        member
    }

    fn joins(&mut self, process: &Process) -> bool {
        let root = self.root == Some(process.pid);
        let creator = process.creator_id.or(process.parent_id);
        let joins = root || creator.is_some_and(|creator| self.members.contains(&creator));
        if joins {
            self.members.insert(process.id);
            self.living.fetch_add(1, Ordering::Relaxed);
        }
        if root {
            // Its pid may come to be another's.
            self.root = None;
        }
        joins
    }

    fn keep(&mut self, starts: Vec<Start>) {
        for start in starts {
            if !start.steps.iter().any(|step| self.members.contains(&step.id)) {
                continue;
            }
            if self.told.len() < SHOWN {
                self.told.push(start);
            } else {
                self.more += 1;
            }
        }
    }

    /// All of them, and how many more there were.
    pub(in crate::cli) fn take(mut self) -> (Vec<Start>, usize) {
        let rest = self.starts.finish();
        self.keep(rest);
        (self.told, self.more)
    }
}

/// Writes starts to standard error.
pub(in crate::cli) fn print((starts, more): &(Vec<Start>, usize), colour: bool) -> io::Result<()> {
    let width = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0));
    let mut lines = Vec::new();
    for start in starts {
        lines.push(Line::new());
        lines.extend(start::lines(start, width, Glyphs::of_locale()));
    }
    if *more > 0 {
        lines.push(Line::new());
        let text = format!("{more} more containers were started: -o FILE has all of it");
        lines.push(Line::new().with(Role::Dim, &text));
    }
    line::print(&lines, &mut io::stderr().lock(), colour)
}

impl Consumer for Caused<'_> {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        if !self.on {
            return self.sink.take(event);
        }
        let of_members = self.is_members(event);
        self.starts.apply(event);
        let starts = self.starts.take_by_events();
        self.keep(starts);
        if of_members || !self.only_members { self.sink.take(event) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn backlog(&self) -> Option<Backlog> {
        self.sink.backlog()
    }
}
