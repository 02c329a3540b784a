//! Reparents the children of exited processes as the kernel does.
//!
//! `find_new_reaper` (kernel/exit.c) first tries another living thread of the exiting process, which leaves the parent
//! of a *process* as it is. Next comes the nearest living ancestor that is a child subreaper in the same pid namespace.
//! Last comes the init of that namespace. The kernel side runs the same search a moment earlier, and the exit record
//! carries the result. The table only follows it.

use tracer_common::record as raw;

use super::entry::{End, Heir, Parent};
use super::store::Slot;
use super::{MAX_ANCESTORS, Moment, ProcessRef, Table};
use crate::event::id::ProcessId;
use crate::event::{Detail, Event, Reparent, ReparentReason};
use crate::proc::Seed;

/// The process that inherits, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inherits {
    pub(super) slot: Slot,
    pub(super) reason: ReparentReason,
    /// False if no record named it, and it is only likely.
    pub(super) certain: bool,
}

impl Table {
    /// Gives the living children of an exited process to its heir, oldest first.
    pub(super) fn reparent_children(&mut self, exited: Slot, at: Moment, out: &mut Vec<Event>) {
        if self.store[exited].first_child.is_none() {
            return;
        }
        let Some(heir) = self.heir_of(exited, at, out) else { return };
        if heir.slot == exited {
            return;
        }
        let from = self.store[exited].id();
        let mut children: Vec<Slot> = self.store.children(exited).collect();
        children.sort_by_key(|&child| self.store[child].start_ns);
        for child in children {
            self.reparent(child, from, heir, at, out);
        }
    }

    /// Moves a process to a new parent and reports it.
    pub(super) fn reparent(&mut self, child: Slot, from: ProcessId, to: Inherits, at: Moment, out: &mut Vec<Event>) {
        if !self.adopt(child, to.slot) {
            self.store.unlink(child);
            return;
        }
        let parent = &self.store[to.slot];
        let (to_id, to_pid) = (Some(parent.id()), parent.pid);
        let reparent = Box::new(Reparent { from_id: from, to_id, to_pid, reason: to.reason });
        self.report(Detail::Reparent(reparent), child, at, out);
    }

    /// Returns the process that now has the children of an exited one: its heir, or if that has exited too, the heir's
    /// heir. Returns the exited process itself while its children stay with it.
    pub(super) fn heir_of(&mut self, exited: Slot, at: Moment, out: &mut Vec<Event>) -> Option<Inherits> {
        let mut slot = exited;
        let mut reason = ReparentReason::Init;
        for _ in 0..MAX_ANCESTORS {
            match self.store[slot].end {
                None | Some(End { heir: Heir::Nobody, .. }) => return Some(Inherits { slot, reason, certain: true }),
                Some(End { heir: Heir::Process(task, subreaper), .. }) => {
                    let Some(next) = self.resolve(task, at, out) else { return self.likely_heir(slot) };
                    self.store[next].subreaper |= subreaper;
                    reason = if subreaper { ReparentReason::Subreaper } else { ReparentReason::Init };
                    slot = next;
                }
                Some(End { heir: Heir::Later, .. }) => return Some(Inherits { slot, reason, certain: false }),
                Some(End { heir: Heir::Unknown, .. }) => return self.likely_heir(slot),
            }
        }
        None
    }

    /// Returns the likely heir when no record names one. That is the nearest living ancestor that is a known subreaper
    /// or the init of the same pid namespace, else init.
    fn likely_heir(&self, exited: Slot) -> Option<Inherits> {
        let level = self.ns_level(exited);
        let mut above = self.parent_of(exited);
        for _ in 0..MAX_ANCESTORS {
            let Some(slot) = above.filter(|&slot| self.ns_level(slot) == level) else { break };
            let entry = &self.store[slot];
            if entry.is_living() && (entry.subreaper || self.is_ns_init(slot)) {
                return Some(Inherits { slot, reason: self.likely_reason(slot), certain: false });
            }
            above = self.parent_of(slot);
        }
        self.store.by_pid(1).filter(|&init| init != exited).map(|slot| Inherits {
            slot,
            reason: ReparentReason::Init,
            certain: false,
        })
    }

    /// Returns why a process that is now the parent was probably chosen.
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

    /// Compares the known parent of a process with the one in a record.
    ///
    /// They differ for a good reason while the kernel has not yet reparented what the table has. Then the parent in the
    /// record has exited here, and its heir is meant. Otherwise the record is right and the table is wrong. Perhaps a
    /// record was lost, or `/proc` was read at a bad moment. Or a subreaper appeared between the parent's exit record
    /// and the reparenting.
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
        // If the named parent is unknown and the known one is good, the named one has exited and is forgotten.
        // Then it is not a late match.
        let parent = if has_parent { self.store.find(named) } else { self.resolve(named, at, out) };
        let Some(parent) = parent else { return };
        let Some(parent) = self.heir_or_self(parent, at, out) else { return };
        if has_parent && !parent.certain {
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
            // The same parent: it was only forgotten in between.
            self.adopt(child, parent.slot);
            return;
        }
        self.stats.corrected += 1;
        if let Some(old) = self.store[child].parent_slot()
            && let Some(End { heir: heir @ Heir::Later, .. }) = &mut self.store[old].end
        {
            // One reaper inherits all children at once. So the others have the same new parent.
            *heir = Heir::Process(named, to.reason == ReparentReason::Subreaper);
            self.reparent_children(old, at, out);
        } else {
            self.reparent(child, from, to, at, out);
        }
    }

    /// Applies a new read of `/proc` for a process that [`Table::unsettled`] lists.
    pub fn settle(&mut self, seed: &Seed, out: &mut Vec<Event>) {
        let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
        let Some(child) = self.store.by_id(seed.process.id).filter(|&child| self.store[child].is_living()) else {
            return;
        };
        let Some(parent) = self.store.newest(seed.ppid) else { return };
        if !self.store[parent].is_living() {
            // It keeps its children until the kernel has finished its exit. The init of a namespace waits until they
            // have exited.
            if self.store[child].parent == Parent::Unknown
                && let Some(heir) = self.heir_of(parent, at, out)
            {
                self.adopt(child, heir.slot);
            }
            return;
        }
        let parent = &self.store[parent];
        // Records name exact starts. If only the tick is known, any process with the pid will do.
        let start_ns = if parent.exact { parent.start_ns } else { 0 };
        let task = raw::TaskRef { start_ns, tgid: seed.ppid, tid: seed.ppid };
        self.correct_parent(child, task, at, out);
        self.store[child].parent_read_ns = seed.read_until_ns;
    }

    /// Returns living processes whose parent has exited and has no known heir. It was found exiting, or exited deep
    /// below its reaper. The kernel may already have reparented them unseen. Read them in `/proc` again and call
    /// [`Table::settle`].
    pub fn unsettled(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        let later = |slot: Slot| matches!(self.store[slot].end, Some(End { heir: Heir::Later, .. }));
        self.store
            .exited()
            .filter(move |&slot| later(slot))
            .flat_map(|exited| self.store.children(exited))
            .map(|child| self.process_ref(child))
    }

    /// Returns true if there are new ones since the last call.
    pub fn take_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.has_unsettled)
    }

    /// Returns the process itself while it lives, else its heir.
    pub(super) fn heir_or_self(&mut self, slot: Slot, at: Moment, out: &mut Vec<Event>) -> Option<Inherits> {
        if self.store[slot].is_living() {
            return Some(Inherits { slot, reason: self.likely_reason(slot), certain: true });
        }
        self.heir_of(slot, at, out)
    }
}
