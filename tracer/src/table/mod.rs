//! The process table: decoded records in, [`Event`]s out. Pure: no I/O, and no clock but the records'.
//!
//! It knows of each process who created it, who its parent is now, its image and its ids, and it keeps a
//! bounded number of the dead. What it relies on, and tests hold it to:
//!
//! - Records arrive in the order of the ring. Those of one task are in the order of its deeds; those of
//!   several CPUs may be a little out of order.
//! - `sched_process_exit` fires *before* the kernel gives the dying process's children another parent
//!   (`do_exit` → `exit_notify`, kernel/exit.c). The table moves them at once, so for a moment it is ahead of the
//!   kernel: records of that moment name a parent that is dead here, and are taken to mean its heir.
//! - A parent is always older than its children: only ancestors inherit them.
//! - The public [`ProcessId`](crate::event::id::ProcessId) counts in ticks of 10 ms and cannot tell two processes that had the same pid within
//!   one; inside, the start in nanoseconds does.
//! - What was lost is put right from `/proc` ([`Table::resync`]), and every end is told, if only as `inferred`.
//! - Nobody has an unknown parent: a process that a record names and the table does not know (its birth
//!   was lost) becomes one, with an event of its own that says `inferred`.

mod apply;
mod cause;
mod cgroup;
mod container;
mod entry;
mod failed;
mod images;
mod info;
#[cfg(any(feature = "internals", test))]
mod inspect;
mod look;
pub mod merge;
mod origin;
mod pids;
mod refresh;
mod reparent;
mod resync;
mod room;
mod seeding;
mod store;
mod strangers;
pub mod usage;
mod zombies;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use self::cause::Causes;
use self::entry::{Parent, boot_to_utc};
pub use self::look::ProcessRef;
pub(crate) use self::origin::KTHREADD;
use self::store::{Slot, Store};
pub use self::strangers::Stranger;
use self::zombies::Zombies;
use crate::enrich::info::{Ask, Info};
use crate::enrich::{Cgroups, Container};
use crate::event::time::Timestamp;
use crate::event::{Ancestor, Detail, Event, Process};
use crate::record::Record;
use crate::sys::tty;
use crate::table::usage::SchedClock;

/// More steps up a line of ancestors than any kernel allows; a longer one is a circle of bad records.
const MAX_ANCESTORS: usize = 4096;

/// Fewest dead that are kept: records that are on their way still name them.
const MIN_DEAD: usize = 64;

/// How a [`Table`] works.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// How many of the dead are kept (64 at the least: records that are on their way still name them).
    pub max_dead: usize,
    /// Most bytes that all of it may take: what is given up to stay below stands in [`TableStats`]. The living are not.
    pub max_bytes: usize,
    /// UTC less `CLOCK_BOOTTIME`, in nanoseconds.
    pub utc_minus_boot_ns: i64,
    /// Whether events tell the ancestors.
    pub ancestors: bool,
    /// The dead are followed until they were waited for, and one that was not for so many nanoseconds is told of.
    pub zombie_after_ns: Option<u64>,
    /// Bytes of a page of memory (`sysconf(_SC_PAGESIZE)`): max RSS is counted in pages.
    pub page_size: u64,
    /// Somebody looks for what [`Table::take_asks`] gives: the end of a container waits for the answer.
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

/// What befell the table that is not an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Processes put in because a record named them, not because their birth was seen.
    pub inferred: u64,
    /// Processes whose end was not seen: another has their pid.
    pub retired: u64,
    /// Records that told again what was known: a second exit of one process (before Linux 6.16 two threads
    /// that end at once may both be told as the last), or the fork of a process found in `/proc`.
    pub merged: u64,
    /// Parents put right by a later record.
    pub corrected: u64,
    /// Records of a kind that this build does not know.
    pub unknown: u64,
    /// The dead that were forgotten for want of memory.
    pub dead_forgotten: u64,
    /// Processes whose argument list and working directory were forgotten for want of memory.
    pub argv_forgotten: u64,
}

/// All processes, the living and some of the dead.
#[derive(Debug)]
pub struct Table {
    store: Store,
    options: TableOptions,
    clock: SchedClock,
    causes: Causes,
    cgroups: Cgroups,
    zombies: Zombies,
    lives: container::Lives,
    /// Which container the namespace of a number belongs to.
    namespaces: FxHashMap<u32, Arc<Container>>,
    /// Those that came or went, if somebody wants to hear of it ([`Table::watch_cgroups`]).
    namespaces_changed: Vec<u32>,
    /// What the files of containers say, by id.
    infos: FxHashMap<Arc<str>, Arc<Info>>,
    /// Which runtime named the bundle of a container last.
    bundles_by: FxHashMap<Arc<str>, crate::event::id::ProcessId>,
    /// What is to be looked for.
    asks: Vec<Ask>,
    /// Names of the terminals that have been seen, by device number.
    ttys: FxHashMap<u32, Arc<str>>,
    /// There are new ones among those that [`Table::unsettled`] lists.
    has_unsettled: bool,
    /// Whether everybody is told of.
    told: strangers::Told,
    stats: TableStats,
}

/// When and where something happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    boot_ns: u64,
    /// None for what was found in `/proc`.
    cpu: Option<u32>,
}

impl Moment {
    fn of(header: &raw::Header) -> Self {
        Self { boot_ns: header.boot_ns, cpu: Some(u32::from(header.cpu)) }
    }
}

impl Table {
    /// An empty table.
    pub fn new(options: TableOptions) -> Self {
        Self {
            store: Store::new(options.max_dead.max(MIN_DEAD), options.max_bytes),
            options,
            clock: SchedClock::default(),
            causes: Causes::default(),
            cgroups: Cgroups::default(),
            zombies: Zombies::default(),
            lives: container::Lives::default(),
            namespaces: FxHashMap::default(),
            namespaces_changed: Vec::new(),
            infos: FxHashMap::default(),
            bundles_by: FxHashMap::default(),
            asks: Vec::new(),
            ttys: FxHashMap::default(),
            has_unsettled: false,
            told: strangers::Told::All,
            stats: TableStats::default(),
        }
    }

    /// The wall clock was set: from now on this is what UTC is ahead of `CLOCK_BOOTTIME`.
    pub fn set_utc_offset(&mut self, utc_minus_boot_ns: i64) {
        self.options.utc_minus_boot_ns = utc_minus_boot_ns;
    }

    /// What UTC is ahead of `CLOCK_BOOTTIME`, as it was set last.
    pub fn utc_offset(&self) -> i64 {
        self.options.utc_minus_boot_ns
    }

    /// What befell the table that is not an event.
    pub fn stats(&self) -> TableStats {
        let room = &self.store.room;
        TableStats { dead_forgotten: room.dead_forgotten, argv_forgotten: room.argv_forgotten, ..self.stats }
    }

    /// Takes in a record and appends what became of it. [`Event::seq`] is left 0: who joins the streams numbers them.
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
        // Not before all is done: places of the dead are good until here.
        self.store.forget();
    }

    /// Appends an event about a process, with all that is known of the process.
    fn tell<'a>(&self, detail: Detail, about: Slot, at: Moment, out: &'a mut Vec<Event>) -> &'a mut Event {
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

    /// All that is known of a process.
    fn process(&self, slot: Slot) -> Process {
        let entry = &self.store[slot];
        let tty = if entry.ids.tty == 0 { None } else { self.ttys.get(&entry.ids.tty).cloned() };
        let container = entry.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        let container = container.map(|container| match self.lives.get(&container.id) {
            Some(life) => life.shown.clone(),
            None => container.shown.clone(),
        });
        entry.process(self.store.image(slot).clone(), container, tty)
    }

    /// The line of current parents, nearest first.
    fn ancestors(&self, of: Slot) -> Vec<Ancestor> {
        self.line_up(of)
            .skip(1)
            .map(|slot| {
                let (entry, image) = (&self.store[slot], self.store.image(slot));
                Ancestor { id: entry.id(), pid: entry.pid, comm: image.comm.clone(), exe: image.exe.clone() }
            })
            .collect()
    }

    /// The line of parents, the process itself first.
    fn line_up(&self, from: Slot) -> impl Iterator<Item = Slot> {
        std::iter::successors(Some(from), |&slot| self.parent_of(slot)).take(MAX_ANCESTORS)
    }

    /// Makes `parent` the parent of one that may have children, unless it is one of these: parents are older than
    /// their children, and only records that contradict each other can say otherwise.
    fn adopt(&mut self, child: Slot, parent: Slot) -> bool {
        let sound = self.line_up(parent).all(|above| above != child);
        if sound {
            self.store.link(child, parent);
        }
        sound
    }

    /// The parent, wherever it is remembered.
    fn parent_of(&self, slot: Slot) -> Option<Slot> {
        match self.store[slot].parent {
            Parent::Process(_, Some(parent)) => Some(parent),
            Parent::Process(id, None) => self.store.by_id(id),
            Parent::Unknown | Parent::None => None,
        }
    }

    /// Takes the ids a record gives.
    fn set_ids(&mut self, slot: Slot, ids: &raw::Ids) {
        self.set_cgroup(slot, ids.cgroup);
        let raw::Ids { mnt_ns, pid_ns, .. } = self.store[slot].ids;
        let told = |now: u32, before: u32| if now == 0 { before } else { now };
        self.store[slot].ids = raw::Ids { mnt_ns: told(ids.mnt_ns, mnt_ns), pid_ns: told(ids.pid_ns, pid_ns), ..*ids };
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
