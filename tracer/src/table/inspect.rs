//! More about the table than events show: for tests, which compare it with a model.

use super::entry::{Entry, Parent};
use super::{MAX_ANCESTORS, ProcessRef, Table};
use crate::event::id::ProcessId;

impl<'a> ProcessRef<'a> {
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

    /// Pid of its current parent: 0 for none, absent if that is unknown.
    pub fn ppid(&self) -> Option<u32> {
        match self.entry().parent {
            Parent::Unknown => None,
            Parent::None => Some(0),
            Parent::Process(id, _) => Some(id.pid()),
        }
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
}

impl Table {
    /// Memory that the processes take, in bytes.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// The process with this id, living or dead; the newest, if pid reuse within one tick makes it stand for several.
    pub fn by_id(&self, id: ProcessId) -> Option<ProcessRef<'_>> {
        self.store.by_id(id).map(|slot| self.process_ref(slot))
    }

    /// The living children of a process, in the order in which they became such.
    pub fn children(&self, id: ProcessId) -> impl Iterator<Item = ProcessRef<'_>> {
        self.by_id(id).into_iter().flat_map(|parent| parent.children())
    }

    /// The dead that are remembered, in the order of their deaths.
    pub fn dead(&self) -> impl Iterator<Item = ProcessRef<'_>> {
        self.store.dead().map(|slot| self.process_ref(slot))
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
