//! Storage of entries: a slab, an index by pid, lists of children, and a bounded queue of exited processes.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use tracer_common::limits::COMM_LEN;
use tracer_common::record as raw;

use super::budget::Budget;
use super::entry::{End, Entry, Parent};
use super::images::{ImageId, Images};
use super::pids::Pids;
use crate::event::Image;
use crate::event::id::ProcessId;

/// Index of an entry, valid as long as the entry is. Do not store the slot of an exited process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    pub(super) fn new(index: usize) -> Self {
        // 2^32 processes fit neither a machine's pids, which end at 2^22, nor its memory.
        Self(NonZeroU32::MIN.saturating_add(index as u32))
    }

    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) entries: Vec<Entry>,
    pub(super) free: Vec<Slot>,
    /// The newest process of each pid. Earlier ones are linked by [`Entry::older`]. Only the newest can be alive.
    pub(super) newest: Pids,
    /// Exited processes, oldest exit first.
    pub(super) exited: VecDeque<Slot>,
    max_dead: usize,
    pub(super) images: Images,
    pub(super) budget: Budget,
}

impl std::ops::Index<Slot> for Store {
    type Output = Entry;

    fn index(&self, slot: Slot) -> &Entry {
        &self.entries[slot.index()]
    }
}

impl std::ops::IndexMut<Slot> for Store {
    fn index_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.index()]
    }
}

impl Store {
    pub(super) fn new(max_dead: usize, max_bytes: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            newest: Pids::default(),
            exited: VecDeque::new(),
            max_dead,
            images: Images::default(),
            budget: Budget::new(max_bytes),
        }
    }

    #[cfg(any(feature = "internals", test))]
    pub(super) fn len_exited(&self) -> usize {
        self.exited.len()
    }

    #[cfg(any(feature = "cli", feature = "internals", test))]
    pub(super) fn len_living(&self) -> usize {
        self.entries.len() - self.free.len() - self.exited.len()
    }

    pub(super) fn living(&self) -> impl Iterator<Item = Slot> {
        self.newest.values().filter(|&slot| self[slot].is_living())
    }

    pub(super) fn exited(&self) -> impl Iterator<Item = Slot> {
        self.exited.iter().copied()
    }

    /// Returns the living process with this pid.
    pub(super) fn by_pid(&self, pid: u32) -> Option<Slot> {
        self.newest.get(pid).filter(|&slot| self[slot].is_living())
    }

    /// Returns the last process that had this pid, living or exited.
    pub(super) fn newest(&self, pid: u32) -> Option<Slot> {
        self.newest.get(pid)
    }

    /// Returns the process with this id. If pid reuse within one tick makes the id ambiguous, the newest.
    pub(super) fn by_id(&self, id: ProcessId) -> Option<Slot> {
        self.of_pid(id.pid()).find(|&slot| self[slot].id() == id)
    }

    /// Returns the process that a record names with its exact start, without updating the entry.
    pub(super) fn named(&self, task: raw::TaskRef) -> Option<Slot> {
        self.of_pid(task.tgid).find(|&slot| self[slot].started_at(task.start_ns))
    }

    /// Returns the process that a record names. A start of 0 is unknown and means the current holder of the pid.
    pub(super) fn find(&mut self, task: raw::TaskRef) -> Option<Slot> {
        if task.start_ns == 0 {
            return self.by_pid(task.tgid);
        }
        let slot = self.of_pid(task.tgid).find(|&slot| self[slot].started_at(task.start_ns))?;
        let entry = &mut self[slot];
        if !entry.exact {
            entry.start_ns = task.start_ns;
            entry.exact = true;
        }
        Some(slot)
    }

    /// Returns all processes that had this pid, newest first.
    fn of_pid(&self, pid: u32) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.newest.get(pid), |&slot| self[slot].older)
    }

    /// Adds a living process, which already has a reference to its image. The caller ensures that the last holder of
    /// its pid has exited.
    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        let pid = entry.pid;
        let slot = if let Some(slot) = self.free.pop() {
            self[slot] = entry;
            slot
        } else {
            self.entries.push(entry);
            Slot::new(self.entries.len() - 1)
        };
        self[slot].older = self.newest.insert(pid, slot);
        slot
    }

    /// Makes `parent` the parent of `child`, as its last child. An exited child stores only the parent's id.
    pub(super) fn link(&mut self, child: Slot, parent: Slot) {
        self.unlink(child);
        let id = self[parent].id();
        if child == parent {
            self[child].parent = Parent::Unknown;
            return;
        }
        if !self[child].is_living() {
            self[child].parent = Parent::Process(id, None);
            return;
        }
        self[child].parent = Parent::Process(id, Some(parent));
        let last = self[parent].last_child.replace(child);
        self[child].previous_sibling = last;
        match last {
            Some(last) => self[last].next_sibling = Some(child),
            None => self[parent].first_child = Some(child),
        }
    }

    /// Removes `child` from its parent's children. The parent's id stays known.
    pub(super) fn unlink(&mut self, child: Slot) {
        let Parent::Process(id, Some(parent)) = self[child].parent else { return };
        self[child].parent = Parent::Process(id, None);
        let previous = self[child].previous_sibling.take();
        let next = self[child].next_sibling.take();
        match previous {
            Some(previous) => self[previous].next_sibling = next,
            None => self[parent].first_child = next,
        }
        match next {
            Some(next) => self[next].previous_sibling = previous,
            None => self[parent].last_child = previous,
        }
    }

    /// Returns the living children, in the order in which they were added.
    pub(super) fn children(&self, parent: Slot) -> impl Iterator<Item = Slot> {
        std::iter::successors(self[parent].first_child, |&child| self[child].next_sibling)
    }

    /// Moves a process to the exited ones. Its living children stay linked to it until the caller moves them.
    pub(super) fn mark_exited(&mut self, slot: Slot, end: End) {
        self.unlink(slot);
        if self[slot].end.replace(end).is_none() {
            self.exited.push_back(slot);
        }
    }

    /// Moves a process back to the living ones after its exit proved wrong.
    pub(super) fn revive(&mut self, slot: Slot) {
        self[slot].end = None;
        self.exited.retain(|&exited| exited != slot);
    }

    /// Sets the name from a record. The image stays shared if the name is the same.
    pub(super) fn set_comm(&mut self, slot: Slot, comm: &[u8; COMM_LEN]) {
        let image = self.images.named(self[slot].image, comm);
        self.set_image(slot, image);
    }

    /// Returns the image that a process runs.
    pub(super) fn image(&self, slot: Slot) -> &Arc<Image> {
        &self.images[self[slot].image]
    }

    /// Sets the image of a process and takes over the caller's reference to it.
    pub(super) fn set_image(&mut self, slot: Slot, image: ImageId) {
        let old = std::mem::replace(&mut self[slot].image, image);
        self.images.release(old);
    }

    /// Forgets the oldest exited processes beyond the limit.
    pub(super) fn forget(&mut self) {
        while self.exited.len() > self.max_dead {
            self.forget_oldest();
        }
        if self.bytes() > self.budget.max_bytes {
            self.stay_within_budget();
        }
        self.shrink();
    }

    /// Forgets the process that exited first.
    pub(super) fn forget_oldest(&mut self) {
        if let Some(slot) = self.exited.pop_front() {
            self.remove(slot);
        }
    }

    /// Forgets a living process as if it had never existed.
    pub(super) fn forget_living(&mut self, slot: Slot) {
        self.unlink(slot);
        self.remove(slot);
    }

    fn remove(&mut self, slot: Slot) {
        while let Some(child) = self[slot].first_child {
            self.unlink(child);
        }
        let (pid, older) = (self[slot].pid, self[slot].older.take());
        let newer = self.of_pid(pid).find(|&newer| self[newer].older == Some(slot));
        match (newer, older) {
            (Some(newer), _) => self[newer].older = older,
            (None, Some(older)) => {
                self.newest.insert(pid, older);
            }
            (None, None) => {
                self.newest.remove(pid);
            }
        }
        // Release the strings now, not when the slot is reused.
        let image = self[slot].clear();
        self.images.release(image);
        self.free.push(slot);
    }
}
