//! What tests read of the table to compare it with a model.

use super::entry::{Entry, Parent};
use super::{MAX_ANCESTORS, ProcessRef, Table};
use crate::event::id::ProcessId;

impl<'a> ProcessRef<'a> {
    /// Returns the `CLOCK_BOOTTIME` of its creation, in nanoseconds. It is rounded down to the tick of 10 ms for a
    /// process found in `/proc`, until a record names it.
    pub fn start_ns(&self) -> u64 {
        self.entry().start_ns
    }

    /// Returns false once it has exited.
    pub fn is_living(&self) -> bool {
        self.entry().is_living()
    }

    /// Returns the `CLOCK_BOOTTIME` of its exit, in nanoseconds. If the exit was not seen, the time when it was
    /// noticed.
    pub fn end_ns(&self) -> Option<u64> {
        self.entry().end.map(|end| end.boot_ns)
    }

    /// Returns its status as `wait()` does. None while it lives, or if its exit was not seen.
    pub fn status(&self) -> Option<u32> {
        self.entry().end.and_then(|end| end.status)
    }

    /// Returns the pid of its current parent: 0 for none, None if unknown.
    pub fn ppid(&self) -> Option<u32> {
        match self.entry().parent {
            Parent::Unknown => None,
            Parent::None => Some(0),
            Parent::Process(id, _) => Some(id.pid()),
        }
    }

    /// Returns its parent, unless forgotten.
    pub fn parent(&self) -> Option<Self> {
        self.table.parent_of(self.slot).map(|slot| Self { slot, ..*self })
    }

    /// Returns the id of its creator, if the fork was seen.
    pub fn creator_id(&self) -> Option<ProcessId> {
        self.entry().creator
    }

    /// Returns its living children, in the order in which they were added.
    pub fn children(&self) -> impl Iterator<Item = ProcessRef<'a>> + use<'a> {
        let table = self.table;
        table.store.children(self.slot).map(move |slot| ProcessRef { table, slot })
    }

    /// Returns the id of its cgroup in the chosen hierarchy, 0 if unknown.
    pub fn cgroup_id(&self) -> u64 {
        self.entry().ids.cgroup
    }
}

impl Table {
    /// Returns the memory that the processes take, in bytes.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// Returns the process with this id, living or exited. If pid reuse within one tick makes the id ambiguous, the
    /// newest.
    pub fn by_id(&self, id: ProcessId) -> Option<ProcessRef<'_>> {
        self.store.by_id(id).map(|slot| self.process_ref(slot))
    }

    /// Returns the living children of a process, in the order in which they were added.
    pub fn children(&self, id: ProcessId) -> impl Iterator<Item = ProcessRef<'_>> {
        self.by_id(id).into_iter().flat_map(|parent| parent.children())
    }

    /// Returns the exited processes that are remembered, in the order of their exits.
    pub fn dead(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.exited().map(|slot| self.process_ref(slot))
    }

    /// Returns the number of exited processes that are remembered.
    pub fn len_dead(&self) -> usize {
        self.store.len_exited()
    }

    /// Returns true if a process is a descendant of another, or the same. Both creators and parents are followed.
    /// The search passes through exited processes while they are remembered.
    pub fn is_descendant_of(&self, id: ProcessId, ancestor: ProcessId) -> bool {
        self.leads_to(id, ancestor, |entry| entry.creator.or(entry.parent_id()))
            || self.leads_to(id, ancestor, Entry::parent_id)
    }

    fn leads_to(&self, from: ProcessId, to: ProcessId, next: impl Fn(&Entry) -> Option<ProcessId>) -> bool {
        std::iter::successors(Some(from), |&id| self.store.by_id(id).and_then(|slot| next(&self.store[slot])))
            .take(MAX_ANCESTORS)
            .any(|id| id == to)
    }
}
