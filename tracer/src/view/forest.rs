//! The processes of a stream of events, as a forest.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::id::{ProcessId, TICK_NS};
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Exit, Kind, Process};

/// Which process is the parent in the forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The current parent, as in `ps` and `pstree`. Exited processes stay below their last parent.
    Current,
    /// The creator, forever: a daemon stays below the process that started it.
    Created,
}

/// The last change of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was forked.
    Forked,
    /// It executed a program.
    Exec,
    /// It exited.
    Exited,
}

/// The exit of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The time.
    pub time: Timestamp,
    /// The exit status. Empty if tracer only knows that the process is gone.
    pub exit: Exit,
}

/// A process in the forest.
#[derive(Clone, Debug)]
pub struct Node {
    /// The process, as in its last event.
    pub process: Process,
    /// The parent, which may be missing in the forest.
    pub parent: Option<ProcessId>,
    /// The time of its fork, or of its first event.
    pub start: Timestamp,
    /// The time of its first exec.
    pub first_exec: Option<Timestamp>,
    /// The names of earlier programs, since its first exec.
    pub earlier: Vec<Arc<str>>,
    /// Its exit.
    pub end: Option<Box<End>>,
    /// Its last change, with the time. `None` for a process that ran before tracing began.
    pub change: Option<(Change, Timestamp)>,
}

/// Running and exited processes, with their parents.
#[derive(Clone, Debug)]
pub struct Forest {
    shape: Shape,
    nodes: FxHashMap<ProcessId, Node>,
    /// The children of each parent, in the order of their forks. The parent may be missing in `nodes`.
    children: FxHashMap<ProcessId, Vec<ProcessId>>,
}

/// Returns the time of an event by the boot clock. The wall clock may be set in between, which would falsify durations.
pub fn moment(event: &Event) -> Timestamp {
    event.boot_ns.map_or(event.time, |boot_ns| Timestamp(boot_ns.cast_signed()))
}

/// Returns the start of a process by the same clock.
fn start(event: &Event, process: &Process) -> Timestamp {
    match (event.boot_ns, process.start_time) {
        // Both wall-clock times are of one line, so their difference is right.
        (Some(_), Some(start)) => Timestamp(moment(event).0 - (event.time.0 - start.0)),
        // A snapshot line has no boot time, but the id has.
        (None, Some(_)) if event.kind() == Kind::Process => {
            Timestamp((process.id.start_ticks() * TICK_NS).cast_signed())
        }
        (None, Some(start)) => start,
        (_, None) => moment(event),
    }
}

impl Forest {
    /// Creates an empty forest.
    pub fn new(shape: Shape) -> Self {
        Self { shape, nodes: FxHashMap::default(), children: FxHashMap::default() }
    }

    /// Creates a forest from events.
    #[cfg(test)]
    pub fn from_events<'a>(shape: Shape, events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut forest = Self::new(shape);
        events.into_iter().for_each(|event| forest.apply(event));
        forest
    }

    /// Applies an event. The first event of a process adds it, whatever its kind.
    pub fn apply(&mut self, event: &Event) {
        let Some(process) = &event.process else { return };
        let at = moment(event);
        // These events change nothing, and the process may be forgotten already.
        let kind = event.kind();
        if kind.is_framing() || matches!(kind, Kind::ThreadStart | Kind::ThreadExit | Kind::Reap | Kind::Zombie) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&process.id) {
            match event.kind() {
                Kind::Fork => node.change = Some((Change::Forked, at)),
                Kind::Exec => {
                    if node.process.execs > 0
                        && let Some(name) = &node.process.image.comm
                    {
                        node.earlier.push(Arc::clone(name));
                    }
                    node.first_exec.get_or_insert(at);
                    node.change = Some((Change::Exec, at));
                }
                _ => {}
            }
            node.process = process.clone();
        } else {
            let change = match event.kind() {
                Kind::Fork => Some((Change::Forked, at)),
                Kind::Exec => Some((Change::Exec, at)),
                _ => None,
            };
            self.nodes.insert(
                process.id,
                Node {
                    process: process.clone(),
                    parent: None,
                    start: start(event, process),
                    first_exec: (event.kind() == Kind::Exec).then_some(at),
                    earlier: Vec::new(),
                    end: None,
                    change,
                },
            );
            if self.shape == Shape::Created {
                self.link(process.id, process.creator_id.or(process.parent_id));
            }
        }
        if self.shape == Shape::Current {
            self.link(process.id, process.parent_id);
        }
        if let Detail::Exit(exit) = &event.detail
            && let Some(node) = self.nodes.get_mut(&process.id)
        {
            node.end = Some(Box::new(End { time: at, exit: (**exit).clone() }));
            node.change = Some((Change::Exited, at));
        }
    }

    fn link(&mut self, id: ProcessId, parent: Option<ProcessId>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // A forged recording could make a process its own parent. A walk up from it would never end.
        let parent = parent.filter(|&parent| parent != id);
        if node.parent == parent {
            return;
        }
        let before = std::mem::replace(&mut node.parent, parent);
        if let Some(before) = before {
            self.unlink(id, before);
        }
        if let Some(parent) = parent {
            self.children.entry(parent).or_default().push(id);
        }
    }

    fn unlink(&mut self, id: ProcessId, parent: ProcessId) {
        if let Some(children) = self.children.get_mut(&parent) {
            // In most workloads the oldest child exits first. It is at the front.
            if let Some(at) = children.iter().position(|&child| child == id) {
                children.remove(at);
            }
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// Forgets a process. Its parent gets its children.
    pub fn forget(&mut self, id: ProcessId) {
        let Some(node) = self.nodes.remove(&id) else { return };
        for child in self.children.remove(&id).unwrap_or_default() {
            if let Some(orphan) = self.nodes.get_mut(&child) {
                orphan.parent = None;
            }
            self.link(child, node.parent);
        }
        if let Some(parent) = node.parent {
            self.unlink(id, parent);
        }
    }

    /// Forgets processes that exited before a time.
    pub fn forget_exited_before(&mut self, time: Timestamp) {
        let is_old = |node: &Node| node.end.as_ref().is_some_and(|end| end.time < time);
        let old: Vec<_> = self.nodes.iter().filter(|(_, node)| is_old(node)).map(|(&id, _)| id).collect();
        for id in old {
            self.forget(id);
        }
    }

    /// Forgets the processes that exited first, until at most `kept` exited ones remain.
    pub fn forget_oldest_exited(&mut self, kept: usize) {
        let ended = |node: &Node| Some((node.end.as_ref()?.time, node.process.id));
        let mut exited: Vec<_> = self.nodes.values().filter_map(ended).collect();
        if let Some(surplus) = exited.len().checked_sub(kept).filter(|&surplus| surplus > 0) {
            exited.select_nth_unstable(surplus - 1);
            exited[..surplus].iter().for_each(|(_, id)| self.forget(*id));
        }
    }

    /// Removes all children of a process but one.
    pub(super) fn keep_only_child(&mut self, parent: ProcessId, child: ProcessId) {
        self.children.insert(parent, vec![child]);
    }

    /// Returns a process.
    pub fn get(&self, id: ProcessId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// Finds the running process with a pid, or the last exited one.
    pub fn find(&self, pid: u32) -> Option<ProcessId> {
        let candidates = self.nodes.values().filter(|node| node.process.pid == pid);
        candidates.max_by_key(|node| (node.end.is_none(), node.process.id)).map(|node| node.process.id)
    }

    /// Returns all processes, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Returns the number of processes, exited ones included.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the children of a process in the order of their forks.
    pub fn children(&self, id: ProcessId) -> &[ProcessId] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Returns processes without a parent in the forest, by pid.
    pub fn roots(&self) -> Vec<ProcessId> {
        let is_root = |node: &&Node| node.parent.is_none_or(|parent| !self.nodes.contains_key(&parent));
        let mut roots: Vec<_> = self.nodes.values().filter(is_root).map(|node| node.process.id).collect();
        roots.sort_by_key(|id| (id.pid(), id.start_ticks()));
        roots
    }

    /// Returns a process and its ancestors, nearest first.
    pub fn lineage(&self, id: ProcessId) -> impl Iterator<Item = ProcessId> {
        let mut next = self.nodes.get(&id).map(|_| id);
        // A forged recording could have a circle of parents.
        let mut left = self.nodes.len();
        std::iter::from_fn(move || {
            let id = next?;
            left = left.checked_sub(1)?;
            next = self.nodes.get(&id)?.parent.filter(|parent| self.nodes.contains_key(parent));
            Some(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::view::samples::{ended, event, id};

    fn shape(forest: &Forest) -> Vec<(u32, Vec<u32>)> {
        let mut all: Vec<_> = forest.nodes().map(|node| node.process.id).collect();
        all.sort();
        all.into_iter().map(|id| (id.pid(), forest.children(id).iter().map(|c| c.pid()).collect())).collect()
    }

    #[test]
    fn children_may_come_before_their_parents() {
        let events =
            [event(Kind::Process, 3, 2, "c"), event(Kind::Process, 2, 1, "b"), event(Kind::Process, 1, 0, "a")];
        let forest = Forest::from_events(Shape::Current, &events);
        assert_eq!(shape(&forest), [(1, vec![2]), (2, vec![3]), (3, vec![])]);
        assert_eq!(forest.roots(), [id(1)]);
        assert_eq!(forest.lineage(id(3)).map(ProcessId::pid).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn orphans_move_or_stay_as_the_shape_says() {
        let mut orphan = event(Kind::Reparent, 3, 1, "c");
        orphan.process.as_mut().unwrap().creator_id = Some(id(2));
        let events = [
            event(Kind::Process, 1, 0, "a"),
            event(Kind::Fork, 2, 1, "b"),
            event(Kind::Fork, 3, 2, "c"),
            ended(2, 1, "b", 0),
            orphan,
        ];
        let now = Forest::from_events(Shape::Current, &events);
        assert_eq!(shape(&now), [(1, vec![2, 3]), (2, vec![]), (3, vec![])]);
        assert!(now.get(id(2)).unwrap().end.is_some());
        let made = Forest::from_events(Shape::Created, &events);
        assert_eq!(shape(&made), [(1, vec![2]), (2, vec![3]), (3, vec![])]);
    }

    #[test]
    fn a_chain_of_execs_is_kept_without_the_image_that_was_forked() {
        let mut events = vec![event(Kind::Fork, 2, 1, "sh")];
        for (n, name) in ["env", "python3", "tool"].into_iter().enumerate() {
            let mut exec = event(Kind::Exec, 2, 1, name);
            exec.process.as_mut().unwrap().execs = n as u32 + 1;
            events.push(exec);
        }
        let forest = Forest::from_events(Shape::Created, &events);
        let node = forest.get(id(2)).unwrap();
        assert_eq!(node.earlier.iter().map(|name| &**name).collect::<Vec<_>>(), ["env", "python3"]);
        assert_eq!(node.process.image.comm.as_deref(), Some("tool"));
    }

    #[test]
    fn the_parent_gets_the_children_of_a_forgotten_process() {
        let events = [event(Kind::Process, 1, 0, "a"), event(Kind::Fork, 2, 1, "b"), event(Kind::Fork, 3, 2, "c")];
        let mut forest = Forest::from_events(Shape::Created, &events);
        forest.forget(id(2));
        assert_eq!(shape(&forest), [(1, vec![3]), (3, vec![])]);
        forest.forget(id(1));
        assert_eq!(forest.roots(), [id(3)]);
    }

    proptest! {
        /// Whatever the events and their order: each process with a parent is among its children, once.
        #[test]
        fn links_and_children_agree(steps in proptest::collection::vec((0u8..5, 1u32..12, 0u32..12), 0..80)) {
            let mut forest = Forest::new(Shape::Current);
            for (step, pid, parent) in steps {
                match step {
                    0 => forest.apply(&event(Kind::Process, pid, parent, "p")),
                    1 => forest.apply(&event(Kind::Fork, pid, parent, "f")),
                    2 => forest.apply(&event(Kind::Reparent, pid, parent, "r")),
                    3 => forest.apply(&ended(pid, parent, "e", 0)),
                    _ => forest.forget(id(pid)),
                }
                for node in forest.nodes() {
                    let id = node.process.id;
                    let times = node.parent.map(|p| forest.children(p).iter().filter(|&&c| c == id).count());
                    prop_assert!(times.is_none_or(|times| times == 1));
                    prop_assert!(forest.children(id).iter().all(|&c| forest.get(c).unwrap().parent == Some(id)));
                    prop_assert!(forest.lineage(id).count() <= forest.count());
                }
            }
        }
    }
}
