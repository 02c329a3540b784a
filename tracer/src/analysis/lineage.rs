//! The tree of processes by creator, with a note on each process.

use rustc_hash::FxHashMap;

use crate::event::id::ProcessId;
use crate::event::{Ancestor, Kind, Process};

/// Largest number of steps from a process up to its ancestors. No real workload nests deeper.
const MAX_DEPTH: usize = 256;

/// A living process, or an exited one with living descendants.
#[derive(Debug)]
struct Node<T> {
    process: Box<Process>,
    /// The process that created it. A later reparent does not change this.
    above: Option<ProcessId>,
    /// Number of nodes directly below.
    below: u32,
    living: bool,
    note: T,
}

/// All living processes, linked to their creators.
#[derive(Debug)]
pub(crate) struct Lineage<T> {
    nodes: FxHashMap<ProcessId, Node<T>>,
}

impl<T> Default for Lineage<T> {
    fn default() -> Self {
        Self { nodes: FxHashMap::default() }
    }
}

impl<T: Default> Lineage<T> {
    pub(crate) fn knows(&self, id: ProcessId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Takes in an event of a process. A new process gets its place below its creator.
    pub(crate) fn learn(&mut self, kind: Kind, process: &Process, note: T) {
        let is_fork = kind == Kind::Fork;
        match self.nodes.get_mut(&process.id) {
            Some(node) if !is_fork => {
                if matches!(kind, Kind::Exec | Kind::Process) {
                    *node.process = process.clone();
                }
            }
            // The exit of the last process with this id was lost. Or two processes got the id within one clock tick.
            Some(_) => {
                self.end(process.id);
                self.insert(process, note);
            }
            None => self.insert(process, note),
        }
    }

    fn insert(&mut self, process: &Process, note: T) {
        let above = process.creator_id.or(process.parent_id);
        // A process of an unknown creator is a root. An exited process with the same id may still have descendants.
        // It is unclear to which of the two they belong, so they stay. No process descends from itself.
        let above = above.filter(|&above| self.knows(above) && !self.descends(above, process.id));
        if let Some(node) = above.and_then(|above| self.nodes.get_mut(&above)) {
            node.below += 1;
        }
        let below = self.nodes.get(&process.id).map_or(0, |exited| exited.below);
        let fresh = Node { process: Box::new(process.clone()), above, below, living: true, note };
        if let Some(before) = self.nodes.insert(process.id, fresh).and_then(|exited| exited.above) {
            if let Some(node) = self.nodes.get_mut(&before) {
                node.below = node.below.saturating_sub(1);
            }
            self.release(before);
        }
    }

    /// Takes in many processes at once, in any order, and links them to their creators.
    pub(crate) fn adopt(&mut self, processes: &[&Process]) {
        for process in processes {
            self.learn(Kind::Process, process, T::default());
        }
        for process in processes {
            let Some(above) = process.creator_id.or(process.parent_id) else { continue };
            let unset = self.nodes.get(&process.id).is_some_and(|node| node.above.is_none());
            if unset
                && !self.descends(above, process.id)
                && let Some(parent) = self.nodes.get_mut(&above)
            {
                parent.below += 1;
                if let Some(node) = self.nodes.get_mut(&process.id) {
                    node.above = Some(above);
                }
            }
        }
    }

    fn descends(&self, id: ProcessId, from: ProcessId) -> bool {
        std::iter::successors(Some(id), |id| self.nodes.get(id)?.above).take(MAX_DEPTH).any(|id| id == from)
    }

    /// Marks a process as exited. Its node stays only while it has living descendants.
    pub(crate) fn end(&mut self, id: ProcessId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.living = false;
        }
        self.release(id);
    }

    /// Removes the node of an exited process that has no descendants, and the exited ancestors that only it kept.
    fn release(&mut self, mut id: ProcessId) {
        while self.nodes.get(&id).is_some_and(|node| !node.living && node.below == 0) {
            let Some(above) = self.nodes.remove(&id).and_then(|node| node.above) else { return };
            if let Some(node) = self.nodes.get_mut(&above) {
                node.below = node.below.saturating_sub(1);
            }
            id = above;
        }
    }

    /// Returns the next living ancestor and unlinks the exited processes in between.
    ///
    /// So an endless chain of processes that each fork the next one keeps no nodes.
    fn next_above(&mut self, id: ProcessId) -> Option<ProcessId> {
        loop {
            let above = self.nodes.get(&id)?.above?;
            let node = self.nodes.get(&above)?;
            if node.living {
                return Some(above);
            }
            let beyond = node.above;
            self.nodes.get_mut(&id)?.above = beyond;
            if let Some(node) = beyond.and_then(|beyond| self.nodes.get_mut(&beyond)) {
                node.below += 1;
            }
            if let Some(node) = self.nodes.get_mut(&above) {
                node.below = node.below.saturating_sub(1);
            }
            self.release(above);
        }
    }

    /// Lists a process and its living ancestors, nearest first.
    pub(crate) fn line(&mut self, id: ProcessId, out: &mut Vec<ProcessId>) {
        out.clear();
        let mut next = self.nodes.contains_key(&id).then_some(id);
        while let Some(id) = next.filter(|_| out.len() < MAX_DEPTH) {
            out.push(id);
            next = self.next_above(id);
        }
    }

    /// Returns true for a process without a known creator: init, kthreadd.
    pub(crate) fn is_root(&self, id: ProcessId) -> bool {
        self.nodes.get(&id).is_none_or(|node| node.above.is_none())
    }

    pub(crate) fn note(&self, id: ProcessId) -> Option<&T> {
        Some(&self.nodes.get(&id)?.note)
    }

    pub(crate) fn note_mut(&mut self, id: ProcessId) -> Option<&mut T> {
        Some(&mut self.nodes.get_mut(&id)?.note)
    }

    /// Returns a living process.
    pub(crate) fn process(&self, id: ProcessId) -> Option<&Process> {
        self.nodes.get(&id).filter(|node| node.living).map(|node| &*node.process)
    }

    /// Returns the living ancestors of a process as an event shows them.
    pub(crate) fn ancestors(&mut self, id: ProcessId) -> Vec<Ancestor> {
        let mut line = Vec::new();
        self.line(id, &mut line);
        let known = line.into_iter().skip(1).filter_map(|id| self.process(id));
        known.map(|p| Ancestor { id: p.id, pid: p.pid, comm: p.image.comm.clone(), exe: p.image.exe.clone() }).collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// What only views need.
#[cfg(feature = "cli")]
impl<T: Default> Lineage<T> {
    /// Who created it, whether that one lives or not.
    pub(crate) fn above(&self, id: ProcessId) -> Option<ProcessId> {
        self.nodes.get(&id)?.above
    }

    /// All that live, with what is noted of them.
    pub(crate) fn living(&self) -> impl Iterator<Item = (&Process, Option<ProcessId>, &T)> {
        self.nodes.values().filter(|node| node.living).map(|node| (&*node.process, node.above, &node.note))
    }
}
