//! Fills the table from `/proc`.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use super::cgroup::FoundIn;
use super::entry::{End, Entry, Heir, Parent};
use super::store::Slot;
use super::{Moment, Table};
use crate::event::id::TICK_NS;
use crate::event::{Detail, Event, Image, Provenance};
use crate::proc::{PPID_UNKNOWN, Seed};

impl Table {
    /// Adds the processes that were alive when tracing began, each with a `process` event, parents first.
    ///
    /// Seeds of known processes are skipped.
    pub fn seed(&mut self, mut seeds: Vec<Seed>, out: &mut Vec<Event>) {
        self.name_by_runtimes(&seeds);
        seeds.sort_by_key(|seed| (seed.start_ticks, seed.process.pid));
        let mut seeded: Vec<(Slot, Seeded)> = Vec::with_capacity(seeds.len());
        for seed in seeds {
            let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
            let task = raw::TaskRef { start_ns: start_ns(&seed), tgid: seed.process.pid, tid: seed.process.pid };
            if self.store.by_id(seed.process.id).is_some() || !self.free_pid(task, at, out) {
                continue;
            }
            let (ppid, zombie) = (seed.ppid, seed.process.zombie);
            self.name_tty(seed.tty);
            let cgroup = FoundIn::of(&seed);
            let (entry, image) = entry(seed, self.options.utc_minus_boot_ns);
            let image = self.store.images.add(image);
            let slot = self.store.insert(Entry { image, ..entry });
            self.find_in_cgroup(slot, &cgroup);
            seeded.push((slot, Seeded { ppid, zombie, at, reported: false }));
        }
        for (slot, seeded) in &seeded {
            self.find_parent(*slot, seeded.ppid);
        }
        for (slot, seeded) in &seeded {
            if seeded.zombie {
                self.await_reap(*slot, seeded.at.boot_ns);
                self.store.mark_exited(
                    *slot,
                    End { boot_ns: seeded.at.boot_ns, status: None, reported: false, heir: Heir::Later },
                );
            }
        }
        let order: Vec<Slot> = seeded.iter().map(|(slot, _)| *slot).collect();
        self.find_containers(&order);
        let mut seeded: FxHashMap<Slot, Seeded> = seeded.into_iter().collect();
        for slot in order {
            self.report_parents_first(slot, &mut seeded, out);
        }
        self.store.forget();
    }

    pub(super) fn find_parent(&mut self, child: Slot, ppid: u32) {
        if ppid == PPID_UNKNOWN {
            return;
        }
        if ppid == 0 {
            self.store[child].parent = Parent::None;
            return;
        }
        // `/proc` shows ticks.
        let tick = |slot: Slot| self.store[slot].start_ns / TICK_NS;
        let older = |parent: &Slot| tick(*parent) <= tick(child) && *parent != child;
        // The parent of a late match may be unknown for the same reason as the match itself.
        let init = || self.store.by_pid(1).filter(|&init| init != child && self.was_missed());
        if let Some(parent) = self.store.newest(ppid).filter(older).or_else(init) {
            self.adopt(child, parent);
        }
    }

    fn report_parents_first(&self, slot: Slot, seeded: &mut FxHashMap<Slot, Seeded>, out: &mut Vec<Event>) {
        let mut line = Vec::new();
        let mut next = Some(slot);
        while let Some(slot) = next {
            match seeded.get_mut(&slot) {
                Some(seeded) if !seeded.reported => {
                    seeded.reported = true;
                    line.push((slot, seeded.at));
                }
                _ => break,
            }
            next = self.parent_of(slot);
        }
        for (slot, at) in line.into_iter().rev() {
            self.report(Detail::Process, slot, at, out);
        }
    }
}

struct Seeded {
    ppid: u32,
    zombie: bool,
    at: Moment,
    reported: bool,
}

/// Returns the creation time as exactly as it is known.
fn start_ns(seed: &Seed) -> u64 {
    if seed.start_ns == 0 { seed.start_ticks.saturating_mul(TICK_NS) } else { seed.start_ns }
}

/// Returns the entry of a process from `/proc`, and its image, to be referenced for it.
pub(super) fn entry(seed: Seed, utc_minus_boot_ns: i64) -> (Entry, Arc<Image>) {
    let start = start_ns(&seed);
    let process = seed.process;
    let mut entry = Entry::new(process.pid, start, utc_minus_boot_ns, process.source);
    entry.exact = seed.start_ns != 0;
    entry.inferred = process.inferred;
    if process.source == Provenance::Procfs {
        entry.parent_read_ns = seed.read_until_ns;
    }
    entry.kthread = process.kthread;
    entry.zombie = process.zombie;
    entry.ns_pids.clone_from(&process.ns_pids);
    let unset = |id: Option<u32>| id.unwrap_or(raw::ID_UNSET);
    entry.by_root = process.uid == Some(0) && process.euid.is_none_or(|euid| euid == 0);
    entry.ids = raw::Ids {
        uid: unset(process.uid),
        gid: unset(process.gid),
        euid: unset(process.euid.or(process.uid)),
        egid: unset(process.egid.or(process.gid)),
        loginuid: unset(process.loginuid),
        sid: unset(process.sid),
        pgid: unset(process.pgid),
        tty: seed.tty,
        cgroup: seed.cgroup_id,
        mnt_ns: seed.mnt_ns,
        pid_ns: seed.pid_ns,
    };
    (entry, process.image)
}
