//! Queries of the table.

use super::Table;
use super::entry::Entry;
use super::store::Slot;
use crate::enrich::Cgroup;
use crate::event::Process;
use crate::event::id::ProcessId;

/// A process in the table.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRef<'a> {
    pub(super) table: &'a Table,
    pub(super) slot: Slot,
}

impl<'a> ProcessRef<'a> {
    pub(super) fn entry(&self) -> &'a Entry {
        &self.table.store[self.slot]
    }

    /// Returns its id.
    pub fn id(&self) -> ProcessId {
        self.entry().id()
    }

    /// Returns its pid.
    pub fn pid(&self) -> u32 {
        self.entry().pid
    }

    /// Returns the id of its current parent, or of its last one if it has exited.
    pub fn parent_id(&self) -> Option<ProcessId> {
        self.entry().parent_id()
    }

    /// Returns true for a kernel thread.
    pub fn is_kthread(&self) -> bool {
        self.entry().kthread
    }

    /// Returns its name.
    pub fn comm(&self) -> Option<&'a str> {
        self.table.store.image(self.slot).comm.as_deref()
    }

    /// Returns its cgroup.
    pub fn cgroup(&self) -> Option<&'a Cgroup> {
        self.entry().cgroup.as_deref()
    }

    /// Returns everything that is known about it.
    pub fn process(&self) -> Process {
        self.table.process(self.slot)
    }
}

impl Table {
    pub(super) fn process_ref(&self, slot: Slot) -> ProcessRef<'_> {
        ProcessRef { table: self, slot }
    }

    /// Returns the living process with this pid.
    pub fn by_pid(&self, pid: u32) -> Option<ProcessRef<'_>> {
        self.store.by_pid(pid).map(|slot| self.process_ref(slot))
    }

    /// Returns all living processes, unordered.
    pub fn living(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.living().map(|slot| self.process_ref(slot))
    }

    /// Returns the number of living processes.
    #[cfg(any(feature = "cli", feature = "internals", test))]
    pub fn len_living(&self) -> usize {
        self.store.len_living()
    }
}
