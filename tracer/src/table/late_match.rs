//! Late matches: processes that start to match the filters after their fork.
//!
//! When the kernel side filters, the table forgets all other processes. One of them may match later: it changed its
//! user, or was moved to another cgroup. Then it is a late match, and its fork was not lost.

use std::sync::Arc;

use tracer_common::record as raw;

use super::cgroup::FoundIn;
use super::entry::{Parent, UNKNOWN_IDS};
use super::store::Slot;
use super::{Moment, ProcessRef, Table, seeding};
use crate::enrich::{Cgroup, Container};
use crate::event::{Detail, Event, Provenance};
use crate::filter::pushdown::Name;
use crate::proc::{PPID_UNKNOWN, Seed};
use crate::record::Record;

/// Which processes the records cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// All processes.
    All,
    /// Only matching processes. Some of their records may have been lost.
    Matching { lost: bool },
}

/// A process that a record names for the first time, although it is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateMatch {
    /// Its pid.
    pub pid: u32,
    /// Its name at that time, if the image of that time has to be read.
    pub comm: Option<[u8; tracer_common::limits::COMM_LEN]>,
}

impl Table {
    /// Forgets all processes except those that `keep` selects. From now on, records cover only matching processes and
    /// some that are related to them.
    pub fn forget_unmatched(&mut self, keep: impl Fn(ProcessRef<'_>) -> bool) {
        if self.coverage == Coverage::All {
            self.coverage = Coverage::Matching { lost: false };
        }
        let others: Vec<Slot> = self.store.living().filter(|&slot| !keep(self.process_ref(slot))).collect();
        for slot in others {
            self.causes.take(slot, None, 0);
            self.store.forget_living(slot);
        }
        self.store.forget();
    }

    /// Notes lost records: until [`Table::resync`], an unknown process may be one that was missed.
    pub fn note_loss(&mut self) {
        self.set_records_lost(true);
    }

    pub(super) fn set_records_lost(&mut self, are: bool) {
        if let Coverage::Matching { lost } = &mut self.coverage {
            *lost = are;
        }
    }

    /// Returns true if an unknown process was missed, and is not a late match.
    pub(super) fn was_missed(&self) -> bool {
        matches!(self.coverage, Coverage::All | Coverage::Matching { lost: true })
    }

    /// Returns true for a process whose fork, and so its creator, was filtered out.
    pub(super) fn was_filtered_out(&self, slot: Slot) -> bool {
        let entry = &self.store[slot];
        !self.was_missed() && entry.source == Provenance::Kernel && entry.creator.is_none()
    }

    /// Reports a process that was unknown until a record named it, unless it was filtered out.
    pub(super) fn report_inferred(&self, slot: Slot, at: Moment, out: &mut Vec<Event>) {
        if self.was_missed() {
            self.report(Detail::Process, slot, at, out);
        }
    }

    /// Adds a late match that a signal was sent to: the signal may kill it.
    pub(super) fn late_match_signalled(&mut self, task: raw::TaskRef) -> Option<Slot> {
        let late_match = !self.was_missed() && task.tgid != 0 && self.store.by_pid(task.tgid).is_none();
        late_match.then(|| self.infer(task))
    }

    /// Returns the unknown process that a record says forks or execs. Read it in `/proc` before the record is applied.
    pub fn late_match(&self, record: &Record) -> Option<LateMatch> {
        if self.was_missed() {
            return None;
        }
        let (task, comm) = match record {
            Record::Fork(fork) if fork.raw.flags & raw::FORK_THREAD == 0 => (fork.raw.creator, Some(fork.raw.comm)),
            Record::Exec(exec) => (exec.raw.task, None),
            _ => return None,
        };
        let known = self.store.named(task).is_some_and(|slot| !self.store[slot].bare);
        (task.tgid != 0 && !known).then_some(LateMatch { pid: task.tgid, comm })
    }

    /// Takes in what `/proc` shows of a late match. No event is reported: it has not done anything that matches yet.
    pub fn add_late_match(&mut self, seed: Seed) {
        let mut unreported = Vec::new();
        let Some(slot) = self.store.by_id(seed.process.id) else {
            self.seed(vec![seed], &mut unreported);
            return;
        };
        if !self.store[slot].bare || !self.store[slot].is_living() {
            return;
        }
        self.name_tty(seed.tty);
        let (ppid, cgroup) = (seed.ppid, FoundIn::of(&seed));
        let (found, image) = seeding::entry(seed, self.options.utc_minus_boot_ns);
        let image = self.store.images.add(image);
        let entry = &mut self.store[slot];
        (entry.kthread, entry.ns_pids, entry.bare) = (found.kthread, found.ns_pids, false);
        if entry.ids == UNKNOWN_IDS {
            entry.ids = found.ids;
        }
        self.store.set_image(slot, image);
        self.find_in_cgroup(slot, &cgroup);
        if self.store[slot].parent == Parent::Unknown && ppid != PPID_UNKNOWN {
            self.find_parent(slot, ppid);
        }
    }

    /// Starts to note which cgroups are added and removed.
    pub fn watch_cgroups(&mut self) {
        self.cgroups.watch();
    }

    /// Returns the cgroups that were added, assigned to a container, or removed since the last call.
    pub fn take_changed_cgroups(&mut self) -> Vec<(u64, Option<Arc<Cgroup>>)> {
        self.cgroups.take_changed()
    }

    /// Returns an existing cgroup.
    pub fn cgroup_of(&self, id: u64) -> Option<Arc<Cgroup>> {
        self.cgroups.existing(id)
    }

    pub(super) fn note_namespace(&mut self, number: u32) {
        if self.cgroups.is_watched() {
            self.namespaces_changed.push(number);
        }
    }

    /// Returns the container namespaces that were added or removed since the last call, each with its current
    /// container.
    pub fn take_changed_namespaces(&mut self) -> Vec<(u32, Option<Arc<Container>>)> {
        let changed = std::mem::take(&mut self.namespaces_changed);
        changed.into_iter().map(|number| (number, self.namespaces.get(&number).cloned())).collect()
    }

    /// Returns the container that a namespace belongs to.
    pub fn namespace(&self, number: u32) -> Option<Arc<Container>> {
        self.namespaces.get(&number).cloned()
    }

    /// Returns the name of a container.
    pub fn container_name(&self, container: &Container) -> Name<'_> {
        let info = self.infos.get(&container.id);
        info.and_then(|info| info.name.as_deref()).map_or(Name::Unknown, Name::Known)
    }
}
