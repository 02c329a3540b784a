//! Where entries lie: a slab, an index by pid, the children of each, and the bounded queue of the dead.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use tracer_common::limits::COMM_LEN;
use tracer_common::record as raw;

use super::entry::{End, Entry, Parent};
use super::images::{ImageId, Images};
use super::pids::Pids;
use super::room::Room;
use crate::event::Image;
use crate::event::id::ProcessId;

/// Place of an entry. Valid as long as the entry is: nobody keeps one of a dead process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    pub(super) fn new(index: usize) -> Self {
        // 2^32 processes do not fit a machine whose pids end at 2^22, nor its memory.
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
    /// The newest process of each pid; earlier ones hang on [`Entry::older`]. Only the newest can be alive.
    pub(super) newest: Pids,
    /// The dead, oldest first.
    pub(super) dead: VecDeque<Slot>,
    max_dead: usize,
    pub(super) images: Images,
    pub(super) room: Room,
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
            dead: VecDeque::new(),
            max_dead,
            images: Images::default(),
            room: Room::new(max_bytes),
        }
    }

    #[cfg(any(feature = "internals", test))]
    pub(super) fn len_dead(&self) -> usize {
        self.dead.len()
    }

    #[cfg(any(feature = "cli", feature = "internals", test))]
    pub(super) fn len_living(&self) -> usize {
        self.entries.len() - self.free.len() - self.dead.len()
    }

    pub(super) fn living(&self) -> impl Iterator<Item = Slot> {
        self.newest.values().filter(|&slot| self[slot].is_living())
    }

    pub(super) fn dead(&self) -> impl Iterator<Item = Slot> {
        self.dead.iter().copied()
    }

    /// The living process with this pid.
    pub(super) fn by_pid(&self, pid: u32) -> Option<Slot> {
        self.newest.get(pid).filter(|&slot| self[slot].is_living())
    }

    /// The last process that had this pid, living or dead.
    pub(super) fn newest(&self, pid: u32) -> Option<Slot> {
        self.newest.get(pid)
    }

    /// The process with this id, the newest if pid reuse within one tick makes it stand for several.
    pub(super) fn by_id(&self, id: ProcessId) -> Option<Slot> {
        self.of_pid(id.pid()).find(|&slot| self[slot].id() == id)
    }

    /// Who is meant by a record that names one with its exact start; nothing is learnt from it.
    pub(super) fn named(&self, task: raw::TaskRef) -> Option<Slot> {
        self.of_pid(task.tgid).find(|&slot| self[slot].started_at(task.start_ns))
    }

    /// Who is meant by a record. A start of 0 is unknown: then whoever has the pid now.
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

    /// All that have had this pid, newest first.
    fn of_pid(&self, pid: u32) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.newest.get(pid), |&slot| self[slot].older)
    }

    /// Puts in a living process, which holds its image. Whoever had its pid is dead by now: the caller sees to that.
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

    /// Makes `parent` the parent of `child`, its youngest child. Of a dead child only the parent's id is kept.
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

    /// Takes `child` from its parent's children. The parent's id stays known.
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

    /// The living children, in the order in which they became such.
    pub(super) fn children(&self, parent: Slot) -> impl Iterator<Item = Slot> {
        std::iter::successors(self[parent].first_child, |&child| self[child].next_sibling)
    }

    /// Moves a process to the dead. Its living children stay linked to it: the caller finds them a parent, or
    /// leaves them there.
    pub(super) fn bury(&mut self, slot: Slot, end: End) {
        self.unlink(slot);
        if self[slot].end.replace(end).is_none() {
            self.dead.push_back(slot);
        }
    }

    /// Takes a process that was thought dead back among the living.
    pub(super) fn revive(&mut self, slot: Slot) {
        self[slot].end = None;
        self.dead.retain(|&dead| dead != slot);
    }

    /// Gives a process the name that a record tells; the image stays shared if it is the one it has.
    pub(super) fn set_comm(&mut self, slot: Slot, comm: &[u8; COMM_LEN]) {
        let image = self.images.named(self[slot].image, comm);
        self.set_image(slot, image);
    }

    /// What a process runs.
    pub(super) fn image(&self, slot: Slot) -> &Arc<Image> {
        &self.images[self[slot].image]
    }

    /// Gives a process another image, which is held for it.
    pub(super) fn set_image(&mut self, slot: Slot, image: ImageId) {
        let old = std::mem::replace(&mut self[slot].image, image);
        self.images.let_go(old);
    }

    /// Forgets the oldest dead beyond the bound.
    pub(super) fn forget(&mut self) {
        while self.dead.len() > self.max_dead {
            self.forget_oldest();
        }
        if self.bytes() > self.room.max_bytes {
            self.make_do();
        }
        self.shrink();
    }

    /// Forgets who has been dead for the longest.
    pub(super) fn forget_oldest(&mut self) {
        if let Some(slot) = self.dead.pop_front() {
            self.remove(slot);
        }
    }

    /// Forgets one that lives, as if it had never been there.
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
        // Give the strings back now, not when the slot is used again.
        let image = self[slot].clear();
        self.images.let_go(image);
        self.free.push(slot);
    }
}
