//! Looking things up.

use super::Table;
use super::entry::Entry;
use super::store::Slot;
use crate::enrich::Cgroup;
use crate::event::Process;
use crate::event::id::ProcessId;

/// A process of the table.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRef<'a> {
    pub(super) table: &'a Table,
    pub(super) slot: Slot,
}

impl<'a> ProcessRef<'a> {
    pub(super) fn entry(&self) -> &'a Entry {
        &self.table.store[self.slot]
    }

    /// Its id.
    pub fn id(&self) -> ProcessId {
        self.entry().id()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.entry().pid
    }

    /// Id of its current parent, for a dead one of its last.
    pub fn parent_id(&self) -> Option<ProcessId> {
        self.entry().parent_id()
    }

    /// True for a kernel thread.
    pub fn is_kthread(&self) -> bool {
        self.entry().kthread
    }

    /// Its name.
    pub fn comm(&self) -> Option<&'a str> {
        self.table.store.image(self.slot).comm.as_deref()
    }

    /// Its control group.
    pub fn cgroup(&self) -> Option<&'a Cgroup> {
        self.entry().cgroup.as_deref()
    }

    /// All that is known of it.
    pub fn process(&self) -> Process {
        self.table.process(self.slot)
    }
}

impl Table {
    pub(super) fn process_ref(&self, slot: Slot) -> ProcessRef<'_> {
        ProcessRef { table: self, slot }
    }

    /// The living process with this pid.
    pub fn by_pid(&self, pid: u32) -> Option<ProcessRef<'_>> {
        self.store.by_pid(pid).map(|slot| self.process_ref(slot))
    }

    /// All that live, in no order.
    pub fn living(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.living().map(|slot| self.process_ref(slot))
    }

    /// How many live.
    #[cfg(any(feature = "cli", feature = "internals", test))]
    pub fn len_living(&self) -> usize {
        self.store.len_living()
    }
}
