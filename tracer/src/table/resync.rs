//! Corrects the table from `/proc` after records were lost.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::cgroup::FoundIn;
use super::entry::{End, Heir, Parent};
use super::store::Slot;
use super::{Moment, Table, seeding};
use crate::event::id::ProcessId;
use crate::event::{self, Detail, Event};
use crate::proc::Seed;

impl Table {
    /// Takes in all living processes, as [`Table::seed`] does at the start, and reports the differences. These are
    /// missed forks and execs, other parents, and exits that were not seen. Such events say `inferred`.
    ///
    /// Processes in `undecided` are exiting. Their exit record is pending or lost, so nothing is concluded yet.
    pub fn resync(&mut self, seeds: Vec<Seed>, undecided: &FxHashSet<ProcessId>, boot_ns: u64, out: &mut Vec<Event>) {
        let at = Moment { boot_ns, cpu: None };
        let (mut alive, mut ending) = (FxHashSet::<Slot>::default(), FxHashSet::<Slot>::default());
        let (known, mut unknown): (Vec<Seed>, Vec<Seed>) =
            seeds.into_iter().partition(|seed| self.store.by_id(seed.process.id).is_some());
        // Skip processes that vanished: they need no entry.
        unknown.retain(|seed| !seed.gone);
        for seed in &mut unknown {
            seed.process.inferred = true;
        }
        let newcomers: Vec<ProcessId> = unknown.iter().map(|seed| seed.process.id).collect();
        self.stats.inferred += newcomers.len() as u64;
        self.seed(unknown, out);
        alive.extend(newcomers.iter().filter_map(|&id| self.store.by_id(id)));

        let mut images: FxHashMap<Slot, event::Process> = FxHashMap::default();
        for seed in known {
            let Some(slot) = self.store.by_id(seed.process.id).filter(|&slot| self.store[slot].is_living()) else {
                continue;
            };
            if !seed.process.zombie || undecided.contains(&seed.process.id) {
                alive.insert(slot);
            } else {
                ending.insert(slot);
            }
            // Apply new parents before processes that vanished are ended.
            let incomplete = self.store[slot].parent == Parent::Unknown;
            self.settle(&seed, out);
            if incomplete {
                self.complete(slot, seed, out);
            } else {
                self.find_in_cgroup(slot, &FoundIn::of(&seed));
                images.insert(slot, seed.process);
            }
        }
        let mut ended: Vec<Slot> = self.store.living().filter(|slot| !alive.contains(slot)).collect();
        ended.sort_unstable_by_key(|&slot| (self.store[slot].start_ns, self.store[slot].pid));
        for slot in &ended {
            images.remove(slot);
            // A process that is still in `/proc` may still have its children.
            let heir = if ending.contains(slot) { Heir::Later } else { Heir::Unknown };
            self.end_unseen(*slot, heir, at, out);
        }
        let mut images: Vec<(Slot, event::Process)> = images.into_iter().collect();
        images.sort_unstable_by_key(|(slot, _)| (self.store[*slot].start_ns, self.store[*slot].pid));
        for (slot, process) in images {
            self.see_image(slot, process, at, out);
        }
        self.set_records_lost(false);
        self.store.forget();
    }

    /// Ends a process whose exit was not seen. Its status is unknown. Its children show their new parent.
    pub(super) fn end_unseen(&mut self, slot: Slot, heir: Heir, at: Moment, out: &mut Vec<Event>) {
        self.stats.retired += 1;
        self.causes.take(slot, None, 0);
        let event = self.report(Detail::Exit(Box::default()), slot, at, out);
        if let Some(process) = &mut event.process {
            process.inferred = true;
        }
        self.end(slot, End { boot_ns: at.boot_ns, status: None, reported: true, heir }, at, out);
        self.container_exited(slot, None, &event::Usage::default(), at, out);
    }

    /// Reports a process again that was known only by its identity, now with everything known.
    fn complete(&mut self, slot: Slot, seed: Seed, out: &mut Vec<Event>) {
        let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
        self.name_tty(seed.tty);
        let cgroup = FoundIn::of(&seed);
        let (found, image) = seeding::entry(seed, self.options.utc_minus_boot_ns);
        let image = self.store.images.add(image);
        let entry = &mut self.store[slot];
        (entry.kthread, entry.ids, entry.ns_pids) = (found.kthread, found.ids, found.ns_pids);
        self.store.set_image(slot, image);
        self.find_in_cgroup(slot, &cgroup);
        self.report(Detail::Process, slot, at, out);
    }

    /// Takes the image that `/proc` shows for a process. If it is another program, an exec was missed.
    fn see_image(&mut self, slot: Slot, process: event::Process, at: Moment, out: &mut Vec<Event>) {
        // Keep what could not be read.
        let known = self.store.image(slot);
        let seen = Arc::unwrap_or_clone(process.image).or(known);
        if seen == **known {
            return;
        }
        // The program may have rewritten its own arguments.
        let missed = known.exe.is_some() && seen.exe != known.exe;
        let seen = self.store.images.add(seen.into());
        self.store.set_image(slot, seen);
        if missed {
            self.store[slot].execs += 1;
            let event = self.report(Detail::Exec(None), slot, at, out);
            if let Some(process) = &mut event.process {
                process.inferred = true;
            }
        }
    }
}
