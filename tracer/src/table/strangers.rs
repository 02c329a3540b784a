//! When the kernel side leaves out who is not asked for: what is known of the rest is forgotten, and one of them that comes
//! to be asked for (it changed its user, or was put into another control group) is met as a stranger, not as one whose birth was lost.

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

/// Whether the records tell of everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// They do.
    All,
    /// Only of those that are asked for; some of these may have been lost.
    Asked { lost: bool },
}

/// Who a record tells of for the first time, though it was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its pid.
    pub pid: u32,
    /// The name that it had then, if what it ran then is to be known.
    pub comm: Option<[u8; tracer_common::limits::COMM_LEN]>,
}

impl Table {
    /// From now on records tell of those only that are asked for, and of some that have to do with them: `keep` says which.
    /// The others are forgotten.
    pub fn leave_out(&mut self, keep: impl Fn(ProcessRef<'_>) -> bool) {
        if self.told == Told::All {
            self.told = Told::Asked { lost: false };
        }
        let others: Vec<Slot> = self.store.living().filter(|&slot| !keep(self.process_ref(slot))).collect();
        for slot in others {
            self.causes.take(slot, None, 0);
            self.store.forget_living(slot);
        }
        self.store.forget();
    }

    /// Records were lost: until [`Table::resync`] a process that nobody knows may be one that was missed.
    pub fn note_loss(&mut self) {
        self.know_losses(true);
    }

    pub(super) fn know_losses(&mut self, are: bool) {
        if let Told::Asked { lost } = &mut self.told {
            *lost = are;
        }
    }

    /// True if a process that nobody knows was missed, and is no stranger.
    pub(super) fn was_missed(&self) -> bool {
        matches!(self.told, Told::All | Told::Asked { lost: true })
    }

    /// True of one whose birth was left out on purpose, and with it who created it.
    pub(super) fn was_left_out(&self, slot: Slot) -> bool {
        let entry = &self.store[slot];
        !self.was_missed() && entry.source == Provenance::Kernel && entry.creator.is_none()
    }

    /// Tells of a process that a record named and nobody knew, unless it was left out on purpose.
    pub(super) fn tell_made_up(&self, slot: Slot, at: Moment, out: &mut Vec<Event>) {
        if self.was_missed() {
            self.tell(Detail::Process, slot, at, out);
        }
    }

    /// The stranger that a signal was sent to, which may well kill it.
    pub(super) fn stranger_signalled(&mut self, task: raw::TaskRef) -> Option<Slot> {
        let stranger = !self.was_missed() && task.tgid != 0 && self.store.by_pid(task.tgid).is_none();
        stranger.then(|| self.make_up(task))
    }

    /// Whom to look at in `/proc` before a record is applied, because it creates another, or becomes another program, and
    /// nothing is known of it.
    pub fn stranger(&self, record: &Record) -> Option<Stranger> {
        if self.was_missed() {
            return None;
        }
        let (task, comm) = match record {
            Record::Fork(fork) if fork.raw.flags & raw::FORK_THREAD == 0 => (fork.raw.creator, Some(fork.raw.comm)),
            Record::Exec(exec) => (exec.raw.task, None),
            _ => return None,
        };
        let known = self.store.named(task).is_some_and(|slot| !self.store[slot].bare);
        (task.tgid != 0 && !known).then_some(Stranger { pid: task.tgid, comm })
    }

    /// Takes in what `/proc` shows of a stranger, without a word: it has done nothing yet that is asked for.
    pub fn introduce(&mut self, seed: Seed) {
        let mut untold = Vec::new();
        let Some(slot) = self.store.by_id(seed.process.id) else {
            self.seed(vec![seed], &mut untold);
            return;
        };
        if !self.store[slot].bare || !self.store[slot].is_living() {
            return;
        }
        self.name_tty(seed.tty);
        let (ppid, cgroup) = (seed.ppid, FoundIn::of(&seed));
        let (found, image) = seeding::entry(seed, self.options.utc_minus_boot_ns);
        let image = self.store.images.take_in(image);
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

    /// From now on it is noted which control groups come and go.
    pub fn watch_cgroups(&mut self) {
        self.cgroups.watch();
    }

    /// The control groups that came, came to be a container's, or went since this was last asked.
    pub fn take_changed_cgroups(&mut self) -> Vec<(u64, Option<Arc<Cgroup>>)> {
        self.cgroups.take_changed()
    }

    /// A control group that is there.
    pub fn cgroup_of(&self, id: u64) -> Option<Arc<Cgroup>> {
        self.cgroups.there(id)
    }

    pub(super) fn note_namespace(&mut self, number: u32) {
        if self.cgroups.is_watched() {
            self.namespaces_changed.push(number);
        }
    }

    /// The namespaces of containers that came or went since this was last asked, each with whose it is now.
    pub fn take_changed_namespaces(&mut self) -> Vec<(u32, Option<Arc<Container>>)> {
        let changed = std::mem::take(&mut self.namespaces_changed);
        changed.into_iter().map(|number| (number, self.namespaces.get(&number).cloned())).collect()
    }

    /// The container that a namespace belongs to.
    pub fn namespace(&self, number: u32) -> Option<Arc<Container>> {
        self.namespaces.get(&number).cloned()
    }

    /// What a container is called.
    pub fn container_name(&self, container: &Container) -> Name<'_> {
        let info = self.infos.get(&container.id);
        info.and_then(|info| info.name.as_deref()).map_or(Name::Unknown, Name::Known)
    }
}
