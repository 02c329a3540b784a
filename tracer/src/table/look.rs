//! Looking things up.

use super::entry::{Entry, Parent};
use super::store::Slot;
use super::{MAX_ANCESTORS, Table};
use crate::enrich::Cgroup;
use crate::event::Process;
use crate::event::id::ProcessId;

/// A process of the table.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRef<'a> {
    table: &'a Table,
    slot: Slot,
}

impl<'a> ProcessRef<'a> {
    fn entry(&self) -> &'a Entry {
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

    /// `CLOCK_BOOTTIME` of its creation, in nanoseconds; to the tick of 10 ms for one found in `/proc` of which no
    /// record has come since.
    pub fn start_ns(&self) -> u64 {
        self.entry().start_ns
    }

    /// False once it has ended.
    pub fn is_living(&self) -> bool {
        self.entry().is_living()
    }

    /// `CLOCK_BOOTTIME` of its end, in nanoseconds; when it was noticed, if the end itself was not seen.
    pub fn end_ns(&self) -> Option<u64> {
        self.entry().end.map(|end| end.boot_ns)
    }

    /// How it ended, as `wait()` tells it; none while it lives or if the end was not seen.
    pub fn status(&self) -> Option<u32> {
        self.entry().end.and_then(|end| end.status)
    }

    /// Id of its current parent, for a dead one of its last.
    pub fn parent_id(&self) -> Option<ProcessId> {
        self.entry().parent_id()
    }

    /// Pid of its current parent: 0 for none, absent if that is unknown.
    pub fn ppid(&self) -> Option<u32> {
        match self.entry().parent {
            Parent::Unknown => None,
            Parent::None => Some(0),
            Parent::Process(id, _) => Some(id.pid()),
        }
    }

    /// True for a kernel thread.
    pub fn is_kthread(&self) -> bool {
        self.entry().kthread
    }

    /// Its name.
    pub fn comm(&self) -> Option<&'a str> {
        self.table.store.image(self.slot).comm.as_deref()
    }

    /// Its parent, unless forgotten.
    pub fn parent(&self) -> Option<Self> {
        self.table.parent_of(self.slot).map(|slot| Self { slot, ..*self })
    }

    /// Id of the process that created it, if that was seen.
    pub fn creator_id(&self) -> Option<ProcessId> {
        self.entry().creator
    }

    /// Its living children, in the order in which they became such.
    pub fn children(&self) -> impl Iterator<Item = ProcessRef<'a>> + use<'a> {
        let table = self.table;
        table.store.children(self.slot).map(move |slot| ProcessRef { table, slot })
    }

    /// Id of its control group in the hierarchy that was chosen, 0 if unknown.
    pub fn cgroup_id(&self) -> u64 {
        self.entry().ids.cgroup
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

    /// The process with this id, living or dead; the newest, if pid reuse within one tick makes it stand for several.
    pub fn by_id(&self, id: ProcessId) -> Option<ProcessRef<'_>> {
        self.store.by_id(id).map(|slot| self.process_ref(slot))
    }

    /// The living process with this pid.
    pub fn by_pid(&self, pid: u32) -> Option<ProcessRef<'_>> {
        self.store.by_pid(pid).map(|slot| self.process_ref(slot))
    }

    /// The living children of a process, in the order in which they became such.
    pub fn children(&self, id: ProcessId) -> impl Iterator<Item = ProcessRef<'_>> {
        self.by_id(id).into_iter().flat_map(|parent| parent.children())
    }

    /// All that live, in no order.
    pub fn living(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.living().map(|slot| self.process_ref(slot))
    }

    /// The dead that are remembered, in the order of their deaths.
    pub fn dead(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.dead().map(|slot| self.process_ref(slot))
    }

    /// How many live.
    pub fn len_living(&self) -> usize {
        self.store.len_living()
    }

    /// How many of the dead are remembered.
    pub fn len_dead(&self) -> usize {
        self.store.len_dead()
    }

    /// True if a process descends from another (or is it), by the line of those who created it or by the line
    /// of parents, through the dead as far as they are remembered.
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
