//! Who came from whom, by the line of those who created each other, with something noted of each.

use rustc_hash::FxHashMap;

use crate::event::id::ProcessId;
use crate::event::{Ancestor, Kind, Process};

/// Most steps from a process up to its ancestors: nobody nests deeper for a purpose.
const MAX_DEPTH: usize = 256;

/// A process that lives, or through which a living one descends.
#[derive(Debug)]
struct Node<T> {
    process: Box<Process>,
    /// Who created it: a later change of parent does not change where it came from.
    above: Option<ProcessId>,
    /// How many nodes are right below.
    below: u32,
    living: bool,
    note: T,
}

/// All processes that live, by the line of those who created them.
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

    /// Takes in what is said about a process. A new one gets its place below whoever created it.
    pub(crate) fn learn(&mut self, kind: Kind, process: &Process, note: T) {
        let reborn = kind == Kind::Fork;
        match self.nodes.get_mut(&process.id) {
            Some(node) if !reborn => {
                if matches!(kind, Kind::Exec | Kind::Process) {
                    *node.process = process.clone();
                }
            }
            // An id of which the end was lost, or that stands for two within one clock tick.
            Some(_) => {
                self.end(process.id);
                self.insert(process, note);
            }
            None => self.insert(process, note),
        }
    }

    fn insert(&mut self, process: &Process, note: T) {
        let above = process.creator_id.or(process.parent_id);
        // Whose creator is not known comes from nobody. Below a dead one with the same id there may still be others,
        // of whom nobody can tell whose they are: they stay there, and nobody descends from himself.
        let above = above.filter(|&above| self.knows(above) && !self.descends(above, process.id));
        if let Some(node) = above.and_then(|above| self.nodes.get_mut(&above)) {
            node.below += 1;
        }
        let below = self.nodes.get(&process.id).map_or(0, |dead| dead.below);
        let fresh = Node { process: Box::new(process.clone()), above, below, living: true, note };
        if let Some(before) = self.nodes.insert(process.id, fresh).and_then(|dead| dead.above) {
            if let Some(node) = self.nodes.get_mut(&before) {
                node.below = node.below.saturating_sub(1);
            }
            self.release(before);
        }
    }

    /// Who descends from whom among many at once, which may come in any order.
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

    /// It has ended; it is kept only while others descend through it.
    pub(crate) fn end(&mut self, id: ProcessId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.living = false;
        }
        self.release(id);
    }

    /// Lets go of a dead node through which nobody descends any more, and of those above that only it kept.
    fn release(&mut self, mut id: ProcessId) {
        while self.nodes.get(&id).is_some_and(|node| !node.living && node.below == 0) {
            let Some(above) = self.nodes.remove(&id).and_then(|node| node.above) else { return };
            if let Some(node) = self.nodes.get_mut(&above) {
                node.below = node.below.saturating_sub(1);
            }
            id = above;
        }
    }

    /// The next living ancestor. The dead in between are passed over for good, so that an endless chain of processes
    /// that each make the next keeps nobody.
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

    /// A process and its living ancestors, nearest first.
    pub(crate) fn line(&mut self, id: ProcessId, out: &mut Vec<ProcessId>) {
        out.clear();
        let mut next = self.nodes.contains_key(&id).then_some(id);
        while let Some(id) = next.filter(|_| out.len() < MAX_DEPTH) {
            out.push(id);
            next = self.next_above(id);
        }
    }

    /// True for one that nobody is known to have created: init, kthreadd.
    pub(crate) fn is_root(&self, id: ProcessId) -> bool {
        self.nodes.get(&id).is_none_or(|node| node.above.is_none())
    }

    pub(crate) fn note(&self, id: ProcessId) -> Option<&T> {
        Some(&self.nodes.get(&id)?.note)
    }

    pub(crate) fn note_mut(&mut self, id: ProcessId) -> Option<&mut T> {
        Some(&mut self.nodes.get_mut(&id)?.note)
    }

    /// A process that lives.
    pub(crate) fn process(&self, id: ProcessId) -> Option<&Process> {
        self.nodes.get(&id).filter(|node| node.living).map(|node| &*node.process)
    }

    /// The ancestors of a process, as a line shows them.
    pub(crate) fn ancestors(&mut self, id: ProcessId) -> Vec<Ancestor> {
        let mut line = Vec::new();
        self.line(id, &mut line);
        let known = line.into_iter().skip(1).filter_map(|id| self.process(id));
        known.map(|p| Ancestor { id: p.id, pid: p.pid, comm: p.image.comm.clone(), exe: p.image.exe.clone() }).collect()
    }

    /// How many nodes there are.
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
