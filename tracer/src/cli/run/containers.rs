//! Finds the containers that a command starts, also through a daemon.

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

/// Most starts that are shown at the end.
const SHOWN: usize = 16;

/// Follows the command's descendants and container starts, and passes events on to another consumer.
pub(in crate::cli) struct ContainerWatch<'a> {
    /// If false, events are only passed on.
    on: bool,
    /// The pid of the command, until its first event.
    root: Option<u32>,
    /// The command and its descendants, exited ones too.
    members: FxHashSet<ProcessId>,
    running: Arc<AtomicUsize>,
    starts: Starts,
    /// Starts with a step that descends from the command.
    caused: Vec<Start>,
    /// The number of such starts beyond [`SHOWN`].
    more: usize,
    sink: &'a mut dyn Consumer,
    /// Whether only events of the command and its descendants are passed on.
    only_members: bool,
}

impl<'a> ContainerWatch<'a> {
    /// Creates a watch for the command with a pid.
    pub(in crate::cli) fn new(
        root: u32,
        containers: Containers,
        only_members: bool,
        sink: &'a mut dyn Consumer,
    ) -> Self {
        Self {
            on: containers != Containers::No,
            root: Some(root),
            members: FxHashSet::default(),
            running: Arc::default(),
            starts: Starts::default(),
            caused: Vec::new(),
            more: 0,
            sink,
            only_members,
        }
    }

    /// Returns the number of running processes of the command. It stays up to date.
    pub(in crate::cli) fn running(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.running)
    }

    /// Returns whether an event is about the command or a descendant.
    fn is_members(&mut self, event: &Event) -> bool {
        let Some(process) = &event.process else { return false };
        let member = self.members.contains(&process.id) || self.joins(process);
        if member && event.kind() == Kind::Exit {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
        member
    }

    fn joins(&mut self, process: &Process) -> bool {
        let root = self.root == Some(process.pid);
        let creator = process.creator_id.or(process.parent_id);
        let joins = root || creator.is_some_and(|creator| self.members.contains(&creator));
        if joins {
            self.members.insert(process.id);
            self.running.fetch_add(1, Ordering::Relaxed);
        }
        if root {
            // Another process may get the pid later.
            self.root = None;
        }
        joins
    }

    fn keep(&mut self, starts: Vec<Start>) {
        for start in starts {
            if !start.steps.iter().any(|step| self.members.contains(&step.id)) {
                continue;
            }
            if self.caused.len() < SHOWN {
                self.caused.push(start);
            } else {
                self.more += 1;
            }
        }
    }

    /// Returns the starts that the command caused, and how many more there were.
    pub(in crate::cli) fn take(mut self) -> (Vec<Start>, usize) {
        let rest = self.starts.finish();
        self.keep(rest);
        (self.caused, self.more)
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
        let text = format!("{more} more containers were started: record them with -o FILE");
        lines.push(Line::new().with(Role::Dim, &text));
    }
    line::print(&lines, &mut io::stderr().lock(), colour)
}

impl Consumer for ContainerWatch<'_> {
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
