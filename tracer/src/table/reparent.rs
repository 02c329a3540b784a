//! Who gets the children of the dead, as the kernel decides it.
//!
//! `find_new_reaper` (kernel/exit.c): another living thread of the dead one's process (which leaves
//! the parent of a *process* as it is), else the nearest living ancestor that is a child subreaper, if
//! it is in the same pid namespace, else that namespace's init. The kernel side asks the same question a moment
//! earlier and the exit record carries its answer; here it is only followed.

use tracer_common::record as raw;

use super::entry::{End, Heir, Parent};
use super::store::Slot;
use super::{MAX_ANCESTORS, Moment, ProcessRef, Table};
use crate::event::id::ProcessId;
use crate::event::{Detail, Event, Reparent, ReparentReason};
use crate::proc::Seed;

/// Who inherits, and why that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inherits {
    pub(super) slot: Slot,
    pub(super) reason: ReparentReason,
    /// False if nobody told, and it is only likely.
    pub(super) told: bool,
}

impl Table {
    /// Gives the living children of a process that just died to its heir, in the order of their birth.
    pub(super) fn bequeath(&mut self, dead: Slot, at: Moment, out: &mut Vec<Event>) {
        if self.store[dead].first_child.is_none() {
            return;
        }
        let Some(heir) = self.heir_of(dead, at, out) else { return };
        if heir.slot == dead {
            return;
        }
        let from = self.store[dead].id();
        let mut children: Vec<Slot> = self.store.children(dead).collect();
        children.sort_by_key(|&child| self.store[child].start_ns);
        for child in children {
            self.reparent(child, from, heir, at, out);
        }
    }

    /// Moves one process to a new parent and reports it.
    pub(super) fn reparent(&mut self, child: Slot, from: ProcessId, to: Inherits, at: Moment, out: &mut Vec<Event>) {
        if !self.adopt(child, to.slot) {
            self.store.unlink(child);
            return;
        }
        let parent = &self.store[to.slot];
        let (to_id, to_pid) = (Some(parent.id()), parent.pid);
        let reparent = Box::new(Reparent { from_id: from, to_id, to_pid, reason: to.reason });
        self.tell(Detail::Reparent(reparent), child, at, out);
    }

    /// Who has what a dead process left: its heir, or if that is dead too its heir's heir. The dead one itself
    /// while its children are with it.
    pub(super) fn heir_of(&mut self, dead: Slot, at: Moment, out: &mut Vec<Event>) -> Option<Inherits> {
        let mut slot = dead;
        let mut reason = ReparentReason::Init;
        for _ in 0..MAX_ANCESTORS {
            match self.store[slot].end {
                None | Some(End { heir: Heir::Nobody, .. }) => return Some(Inherits { slot, reason, told: true }),
                Some(End { heir: Heir::Process(task, subreaper), .. }) => {
                    let Some(next) = self.resolve(task, at, out) else { return self.likely_heir(slot) };
                    self.store[next].subreaper |= subreaper;
                    reason = if subreaper { ReparentReason::Subreaper } else { ReparentReason::Init };
                    slot = next;
                }
                Some(End { heir: Heir::Later, .. }) => return Some(Inherits { slot, reason, told: false }),
                Some(End { heir: Heir::Unknown, .. }) => return self.likely_heir(slot),
            }
        }
        None
    }

    /// Who probably inherits when no record tells: the nearest living ancestor known to be a subreaper or the
    /// init of the same pid namespace, else init.
    fn likely_heir(&self, dead: Slot) -> Option<Inherits> {
        let level = self.ns_level(dead);
        let mut above = self.parent_of(dead);
        for _ in 0..MAX_ANCESTORS {
            let Some(slot) = above.filter(|&slot| self.ns_level(slot) == level) else { break };
            let entry = &self.store[slot];
            if entry.is_living() && (entry.subreaper || self.is_ns_init(slot)) {
                return Some(Inherits { slot, reason: self.likely_reason(slot), told: false });
            }
            above = self.parent_of(slot);
        }
        self.store.by_pid(1).filter(|&init| init != dead).map(|slot| Inherits {
            slot,
            reason: ReparentReason::Init,
            told: false,
        })
    }

    /// Why a process that is now the parent became that.
    fn likely_reason(&self, reaper: Slot) -> ReparentReason {
        if self.is_ns_init(reaper) { ReparentReason::Init } else { ReparentReason::Subreaper }
    }

    fn ns_level(&self, slot: Slot) -> usize {
        self.store[slot].ns_pids.as_ref().map_or(0, |pids| pids.len().saturating_sub(1))
    }

    fn is_ns_init(&self, slot: Slot) -> bool {
        let entry = &self.store[slot];
        entry.pid == 1 || entry.ns_pids.as_ref().is_some_and(|pids| pids.last() == Some(&1))
    }

    /// Holds what is known of a process's parent against what a record of that process says.
    ///
    /// They differ for good reason while the kernel has not yet reparented what the table has: then the parent
    /// that the record names is dead here, and its heir is meant. Otherwise the table is wrong (a record was lost, the
    /// process was found in `/proc` at a bad moment, a subreaper appeared in the blink between the
    /// parent's exit record and the reparenting), and the record is right.
    pub(super) fn correct_parent(&mut self, child: Slot, named: raw::TaskRef, at: Moment, out: &mut Vec<Event>) {
        let known = self.store[child].parent;
        if at.boot_ns < self.store[child].parent_read_ns {
            return;
        }
        if named.tgid == 0 {
            if known == Parent::Unknown {
                self.store[child].parent = Parent::None;
            }
            return;
        }
        let mut has_parent = !self.store[child].is_living() && known != Parent::Unknown;
        if let Parent::Process(_, Some(parent)) = known {
            let parent = &self.store[parent];
            if parent.pid == named.tgid && parent.exact && parent.start_ns == named.start_ns {
                return;
            }
            has_parent |= parent.is_living();
        }
        // If nobody knows the one that is named, and there is a good parent, then the named one is gone and forgotten,
        // and not a stranger.
        let parent = if has_parent { self.store.find(named) } else { self.resolve(named, at, out) };
        let Some(parent) = parent else { return };
        let Some(parent) = self.heir_or_self(parent, at, out) else { return };
        if has_parent && !parent.told {
            return;
        }
        if parent.slot == child || self.store[child].parent_slot() == Some(parent.slot) {
            return;
        }
        let to = Inherits { reason: self.likely_reason(parent.slot), ..parent };
        let Some(from) = self.store[child].parent_id().filter(|_| self.store[child].is_living()) else {
            self.adopt(child, parent.slot);
            return;
        };
        if from == self.store[parent.slot].id() {
            // It was forgotten meanwhile, and is no other.
            self.adopt(child, parent.slot);
            return;
        }
        self.stats.corrected += 1;
        if let Some(old) = self.store[child].parent_slot()
            && let Some(End { heir: heir @ Heir::Later, .. }) = &mut self.store[old].end
        {
            // One reaper inherits all children, at once: now it is known whom the others went to.
            *heir = Heir::Process(named, to.reason == ReparentReason::Subreaper);
            self.bequeath(old, at, out);
        } else {
            self.reparent(child, from, to, at, out);
        }
    }

    /// Takes another look at a process into account: one of those that [`Table::unsettled`] lists.
    pub fn settle(&mut self, seed: &Seed, out: &mut Vec<Event>) {
        let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
        let Some(child) = self.store.by_id(seed.process.id).filter(|&child| self.store[child].is_living()) else {
            return;
        };
        let Some(parent) = self.store.newest(seed.ppid) else { return };
        if !self.store[parent].is_living() {
            // It has its children for as long as it takes to end; the init of a namespace waits for them to be gone.
            if self.store[child].parent == Parent::Unknown
                && let Some(heir) = self.heir_of(parent, at, out)
            {
                self.adopt(child, heir.slot);
            }
            return;
        }
        let parent = &self.store[parent];
        // To the tick is not how records know it: then it is whoever has the pid.
        let start_ns = if parent.exact { parent.start_ns } else { 0 };
        let task = raw::TaskRef { start_ns, tgid: seed.ppid, tid: seed.ppid };
        self.correct_parent(child, task, at, out);
        self.store[child].parent_read_ns = seed.read_until_ns;
    }

    /// The living processes whose parent was found ending, or has ended deep below its reaper, and has given them to nobody
    /// yet, as far as is known. The kernel may have done so unheard: look at them in `/proc` again, and call
    /// [`Table::settle`].
    pub fn unsettled(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        let later = |slot: Slot| matches!(self.store[slot].end, Some(End { heir: Heir::Later, .. }));
        self.store
            .dead()
            .filter(move |&slot| later(slot))
            .flat_map(|dead| self.store.children(dead))
            .map(|child| self.process_ref(child))
    }

    /// True if there are new ones among those, since this was last called.
    pub fn take_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.has_unsettled)
    }

    /// The process itself while it lives, else its heir.
    pub(super) fn heir_or_self(&mut self, slot: Slot, at: Moment, out: &mut Vec<Event>) -> Option<Inherits> {
        if self.store[slot].is_living() {
            return Some(Inherits { slot, reason: self.likely_reason(slot), told: true });
        }
        self.heir_of(slot, at, out)
    }
}
