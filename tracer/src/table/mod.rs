//! The process table turns decoded records into [`Event`]s. It is pure: no I/O, and no clock but the records' own.
//!
//! For each process it knows the creator, the current parent, the image and the ids. It remembers a bounded number of
//! exited processes. It relies on the following, and tests check it:
//!
//! - Records arrive in ring order. Records of one task are in the order of its actions. Records of different CPUs may
//!   be slightly out of order.
//! - `sched_process_exit` fires *before* the kernel reparents the children of the exiting process (`do_exit` →
//!   `exit_notify`, kernel/exit.c). The table reparents them at once, so it is briefly ahead of the kernel. Records
//!   from that moment name a parent that has exited here. They are taken to mean its heir.
//! - A parent is always older than its children: only ancestors inherit them.
//! - The public [`ProcessId`](crate::event::id::ProcessId) counts ticks of 10 ms. It cannot distinguish two processes
//!   that had the same pid within one tick. Internally the start in nanoseconds does.
//! - What was lost is corrected from `/proc` ([`Table::resync`]). Every exit is reported, if need be as `inferred`.
//! - Every parent is known. A record may name a process whose fork was lost. Then the table adds it and reports an
//!   `inferred` event.

mod apply;
mod budget;
mod cause;
mod cgroup;
mod container;
mod entry;
mod failed;
mod images;
mod info;
#[cfg(any(feature = "internals", test))]
mod inspect;
mod late_match;
pub mod merge;
mod origin;
mod pids;
mod query;
mod refresh;
mod reparent;
mod resync;
mod seeding;
mod store;
pub mod usage;
mod zombies;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use self::cause::Causes;
use self::entry::{Parent, boot_to_utc};
pub use self::late_match::LateMatch;
pub(crate) use self::origin::KTHREADD;
pub use self::query::ProcessRef;
use self::store::{Slot, Store};
use self::zombies::Zombies;
use crate::enrich::info::{Info, InfoRequest};
use crate::enrich::{Cgroups, Container};
use crate::event::time::Timestamp;
use crate::event::{Ancestor, Detail, Event, Process};
use crate::record::Record;
use crate::sys::tty;
use crate::table::usage::SchedClock;

/// More ancestors than any kernel allows. A longer chain is a cycle of bad records.
const MAX_ANCESTORS: usize = 4096;

/// Minimum number of exited processes to remember: pending records still name them.
const MIN_EXITED: usize = 64;

/// How a [`Table`] works.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// How many exited processes are remembered (at least 64: pending records still name them).
    pub max_dead: usize,
    /// Most bytes that the table may use. [`TableStats`] counts what is dropped to stay below. Living processes are
    /// never dropped.
    pub max_bytes: usize,
    /// UTC minus `CLOCK_BOOTTIME`, in nanoseconds.
    pub utc_minus_boot_ns: i64,
    /// Whether events include the ancestors.
    pub ancestors: bool,
    /// Follow exited processes until they are reaped. Report one that is not reaped after this many nanoseconds.
    pub zombie_after_ns: Option<u64>,
    /// Bytes of a memory page (`sysconf(_SC_PAGESIZE)`): max RSS is counted in pages.
    pub page_size: u64,
    /// The caller looks up what [`Table::take_requests`] returns: the exit of a container waits for the reply.
    pub look_up: bool,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            max_dead: 16_384,
            max_bytes: 48 << 20,
            utc_minus_boot_ns: 0,
            ancestors: false,
            zombie_after_ns: None,
            page_size: 4096,
            look_up: false,
        }
    }
}

/// Counters of what happened to the table besides events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Processes added because a record named them; their fork was not seen.
    pub inferred: u64,
    /// Processes whose exit was not seen: another process has their pid.
    pub retired: u64,
    /// Records that repeat what was known. Before Linux 6.16, two threads that exit at once may both be reported as the
    /// last. Or the fork is of a process found in `/proc`.
    pub merged: u64,
    /// Parents corrected by a later record.
    pub corrected: u64,
    /// Records of a kind that this build does not know.
    pub unknown: u64,
    /// Exited processes that were forgotten to save memory.
    pub dead_forgotten: u64,
    /// Processes whose arguments and working directory were dropped to save memory.
    pub argv_forgotten: u64,
}

/// All living processes and some exited ones.
#[derive(Debug)]
pub struct Table {
    store: Store,
    options: TableOptions,
    clock: SchedClock,
    causes: Causes,
    cgroups: Cgroups,
    zombies: Zombies,
    containers: container::Lifecycles,
    /// The container that each namespace number belongs to.
    namespaces: FxHashMap<u32, Arc<Container>>,
    /// Namespaces that were added or removed, if [`Table::watch_cgroups`] was called.
    namespaces_changed: Vec<u32>,
    /// What the files of containers say, by container id.
    infos: FxHashMap<Arc<str>, Arc<Info>>,
    /// The runtime that last named the bundle of each container.
    bundles_by: FxHashMap<Arc<str>, crate::event::id::ProcessId>,
    /// Lookups that are not yet taken.
    requests: Vec<InfoRequest>,
    /// Names of the terminals seen so far, by device number.
    ttys: FxHashMap<u32, Arc<str>>,
    /// [`Table::unsettled`] lists new processes.
    has_unsettled: bool,
    /// Which processes the records cover.
    coverage: late_match::Coverage,
    stats: TableStats,
}

/// When and where something happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    boot_ns: u64,
    /// None for something found in `/proc`.
    cpu: Option<u32>,
}

impl Moment {
    fn of(header: &raw::Header) -> Self {
        Self { boot_ns: header.boot_ns, cpu: Some(u32::from(header.cpu)) }
    }
}

impl Table {
    /// Returns an empty table.
    pub fn new(options: TableOptions) -> Self {
        Self {
            store: Store::new(options.max_dead.max(MIN_EXITED), options.max_bytes),
            options,
            clock: SchedClock::default(),
            causes: Causes::default(),
            cgroups: Cgroups::default(),
            zombies: Zombies::default(),
            containers: container::Lifecycles::default(),
            namespaces: FxHashMap::default(),
            namespaces_changed: Vec::new(),
            infos: FxHashMap::default(),
            bundles_by: FxHashMap::default(),
            requests: Vec::new(),
            ttys: FxHashMap::default(),
            has_unsettled: false,
            coverage: late_match::Coverage::All,
            stats: TableStats::default(),
        }
    }

    /// Sets UTC minus `CLOCK_BOOTTIME`, after the wall clock was set.
    pub fn set_utc_offset(&mut self, utc_minus_boot_ns: i64) {
        self.options.utc_minus_boot_ns = utc_minus_boot_ns;
    }

    /// Returns UTC minus `CLOCK_BOOTTIME`, as last set.
    pub fn utc_offset(&self) -> i64 {
        self.options.utc_minus_boot_ns
    }

    /// Returns the counters of what happened besides events.
    pub fn stats(&self) -> TableStats {
        let budget = &self.store.budget;
        TableStats { dead_forgotten: budget.dead_forgotten, argv_forgotten: budget.argv_forgotten, ..self.stats }
    }

    /// Applies a record and appends the events that it causes. [`Event::seq`] stays 0: it is set where streams are
    /// joined.
    pub fn apply(&mut self, record: Record, out: &mut Vec<Event>) {
        self.clock.sample(record.header());
        match record {
            Record::Fork(fork) => self.fork(fork, out),
            Record::Exec(exec) => self.exec(exec, out),
            Record::Exit(exit) => self.exit(&exit, out),
            Record::Signal(signal) => self.signal(&signal),
            Record::ExecFailed(failed) => self.exec_failed(*failed, out),
            Record::Cgroup(cgroup) => self.cgroup(&cgroup, out),
            Record::Reap(reap) => self.reap(&reap, out),
            Record::Unknown(_) => self.stats.unknown += 1,
        }
        // Only at the end: slots of exited processes are valid until here.
        self.store.forget();
    }

    /// Appends an event about a process, with everything known about it.
    fn report<'a>(&self, detail: Detail, about: Slot, at: Moment, out: &'a mut Vec<Event>) -> &'a mut Event {
        out.push(Event {
            boot_ns: at.cpu.map(|_| at.boot_ns),
            cpu: at.cpu,
            process: Some(self.process(about)),
            ancestors: self.options.ancestors.then(|| self.ancestors(about)),
            ..Event::new(detail, Timestamp(boot_to_utc(at.boot_ns, self.options.utc_minus_boot_ns)))
        });
        let last = out.len() - 1;
        &mut out[last]
    }

    /// Returns everything that is known about a process.
    fn process(&self, slot: Slot) -> Process {
        let entry = &self.store[slot];
        let tty = if entry.ids.tty == 0 { None } else { self.ttys.get(&entry.ids.tty).cloned() };
        let container = entry.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        let container = container.map(|container| match self.containers.get(&container.id) {
            Some(lifecycle) => lifecycle.summary.clone(),
            None => container.summary.clone(),
        });
        entry.process(self.store.image(slot).clone(), container, tty)
    }

    /// Returns the current ancestors, nearest first.
    fn ancestors(&self, of: Slot) -> Vec<Ancestor> {
        self.ancestry(of)
            .skip(1)
            .map(|slot| {
                let (entry, image) = (&self.store[slot], self.store.image(slot));
                Ancestor { id: entry.id(), pid: entry.pid, comm: image.comm.clone(), exe: image.exe.clone() }
            })
            .collect()
    }

    /// Returns the process and its ancestors, nearest first.
    fn ancestry(&self, from: Slot) -> impl Iterator<Item = Slot> {
        std::iter::successors(Some(from), |&slot| self.parent_of(slot)).take(MAX_ANCESTORS)
    }

    /// Makes `parent` the parent of `child`, unless it descends from it. Parents are older than their children: only
    /// records that contradict each other can cause that.
    fn adopt(&mut self, child: Slot, parent: Slot) -> bool {
        let is_older = self.ancestry(parent).all(|above| above != child);
        if is_older {
            self.store.link(child, parent);
        }
        is_older
    }

    /// Returns the parent, if the table still has it.
    fn parent_of(&self, slot: Slot) -> Option<Slot> {
        match self.store[slot].parent {
            Parent::Process(_, Some(parent)) => Some(parent),
            Parent::Process(id, None) => self.store.by_id(id),
            Parent::Unknown | Parent::None => None,
        }
    }

    /// Takes the ids from a record.
    fn set_ids(&mut self, slot: Slot, ids: &raw::Ids) {
        self.set_cgroup(slot, ids.cgroup);
        let raw::Ids { mnt_ns, pid_ns, .. } = self.store[slot].ids;
        let or_before = |now: u32, before: u32| if now == 0 { before } else { now };
        self.store[slot].ids =
            raw::Ids { mnt_ns: or_before(ids.mnt_ns, mnt_ns), pid_ns: or_before(ids.pid_ns, pid_ns), ..*ids };
        self.name_tty(ids.tty);
    }

    fn name_tty(&mut self, dev: u32) {
        if dev != 0
            && !self.ttys.contains_key(&dev)
            && let Some(name) = tty::name(dev)
        {
            self.ttys.insert(dev, name.into());
        }
    }
}
