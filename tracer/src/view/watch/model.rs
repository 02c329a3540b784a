//! The processes of the live tree, and how many events changed it.

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Event, Kind};
use crate::view::forest::{Forest, Shape, moment};
use crate::view::glyphs::Glyphs;
use crate::view::line::{Line, Role};
use crate::view::order::parents_first;
use crate::view::tree::{self, Options};
use crate::view::units;

/// How long a change stays marked, and an exited process stays on the screen.
pub(super) const AFTERGLOW_NS: i64 = 1_500_000_000;

/// Most exited processes that are kept with `--dead`.
pub const MAX_EXITED: usize = 5_000;

/// A tree that events change.
#[derive(Debug)]
pub struct LiveTree {
    forest: Forest,
    /// The pid of the requested root until it is found. A later process with the same pid is another one.
    wanted: Option<u32>,
    /// The requested root, once it is found.
    root: Option<ProcessId>,
    /// Whether exited processes stay.
    keep_exited: bool,
    counts: Counts,
    /// The time of the last change.
    changed: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    forks: u64,
    execs: u64,
    exits: u64,
    lost: u64,
}

impl LiveTree {
    /// Creates an empty tree: of all processes except kernel threads, or of one process and its descendants.
    pub fn new(pid: Option<u32>, keep_exited: bool) -> Self {
        Self {
            forest: Forest::new(Shape::Current),
            wanted: pid,
            root: None,
            keep_exited,
            counts: Counts::default(),
            changed: None,
        }
    }

    /// Applies an event.
    pub fn apply(&mut self, event: &Event) {
        self.forest.apply(event);
        let shown = u64::from(event.process.as_ref().is_some_and(|process| self.shows(process.id)));
        match event.kind() {
            Kind::Fork => self.counts.forks += shown,
            Kind::Exec => self.counts.execs += shown,
            Kind::Exit => self.counts.exits += shown,
            Kind::Lost => self.counts.lost += event.lost().map_or(0, |lost| lost.total),
            _ => {}
        }
        if let Some(process) = event.process.as_ref().filter(|process| self.wanted == Some(process.pid)) {
            self.root = Some(process.id);
            self.wanted = None;
        }
        self.changed = Some(moment(event));
    }

    fn shows(&self, id: ProcessId) -> bool {
        self.wanted.is_none() && self.root.is_none_or(|root| self.forest.lineage(id).any(|above| above == root))
    }

    /// Forgets old exited processes. Returns whether the tree may look different from the last tick.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        if self.keep_exited {
            self.forest.forget_oldest_exited(MAX_EXITED);
        } else {
            self.forest.forget_exited_before(before(now));
        }
        // Twice as long as the marks last, so that the last frame has none.
        let active = self.changed.is_some_and(|changed| changed >= Timestamp(now.0 - 2 * AFTERGLOW_NS));
        if !active {
            self.changed = None;
        }
        active
    }

    /// Returns all known processes.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Draws the tree. Changes shortly before `now` are marked.
    pub(super) fn lines(&self, now: Timestamp, options: &Options<'_>) -> Vec<Line> {
        tree::draw(&self.forest, &self.roots(), &Options { changes_since: Some(before(now)), ..*options })
    }

    fn roots(&self) -> Vec<ProcessId> {
        match (self.root, self.wanted) {
            (Some(root), _) => vec![root],
            (None, Some(_)) => Vec::new(),
            (None, None) => user_roots(&self.forest),
        }
    }

    /// Returns the line above the tree.
    pub(super) fn header(&self, glyphs: &Glyphs) -> Line {
        let Counts { forks, execs, exits, lost } = self.counts;
        let is_running = |id: &ProcessId| self.forest.get(*id).is_some_and(|node| node.end.is_none());
        let running = parents_first(&self.forest, &self.roots()).into_iter().filter(is_running).count() as u64;
        let facts = [
            units::counted(running, "process"),
            units::counted(forks, "fork"),
            units::counted(execs, "exec"),
            units::counted(exits, "exit"),
        ];
        let mut line = Line::new().with(Role::Heading, &facts.join(&format!(" {} ", glyphs.dot)));
        if lost > 0 {
            line.push(Role::Bad, &format!(" {} {} lost", glyphs.dot, units::counted(lost, "event")));
        }
        line.with(Role::Dim, "   q ends, j and k scroll")
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.forest.count()
    }
}

/// Returns the roots of a forest that are not kernel threads.
pub fn user_roots(forest: &Forest) -> Vec<ProcessId> {
    let is_kernel = |id: &ProcessId| forest.get(*id).is_some_and(|node| node.process.kthread);
    forest.roots().into_iter().filter(|id| !is_kernel(id)).collect()
}

const fn before(now: Timestamp) -> Timestamp {
    Timestamp(now.0 - AFTERGLOW_NS)
}
