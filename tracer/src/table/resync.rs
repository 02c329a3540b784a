//! Making the table right again from `/proc`, after records were lost.

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
    /// Takes in who is alive now, as [`Table::seed`] does at the start, and tells the difference to what the records
    /// told: births and execs that were missed, other parents, and ends that nobody saw. What is told so says `inferred`.
    ///
    /// `undecided` are just ending: the record of their end is on its way, or was lost; nothing is concluded yet.
    pub fn resync(&mut self, seeds: Vec<Seed>, undecided: &FxHashSet<ProcessId>, boot_ns: u64, out: &mut Vec<Event>) {
        let at = Moment { boot_ns, cpu: None };
        let (mut alive, mut ending) = (FxHashSet::<Slot>::default(), FxHashSet::<Slot>::default());
        let (known, mut unknown): (Vec<Seed>, Vec<Seed>) =
            seeds.into_iter().partition(|seed| self.store.by_id(seed.process.id).is_some());
        // Who has gone already is not worth a birth; who is known is not born again.
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
            // Whom it has now is known before those who had it are found to be gone.
            let made_up = self.store[slot].parent == Parent::Unknown;
            self.settle(&seed, out);
            if made_up {
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
            // Who is still in `/proc` may not have given its children away yet.
            let heir = if ending.contains(slot) { Heir::Later } else { Heir::Unknown };
            self.end_unseen(*slot, heir, at, out);
        }
        let mut images: Vec<(Slot, event::Process)> = images.into_iter().collect();
        images.sort_unstable_by_key(|(slot, _)| (self.store[*slot].start_ns, self.store[*slot].pid));
        for (slot, process) in images {
            self.see_image(slot, process, at, out);
        }
        self.know_losses(false);
        self.store.forget();
    }

    /// An end that was not seen. Its status is not to be had; who has its children now is said by them.
    pub(super) fn end_unseen(&mut self, slot: Slot, heir: Heir, at: Moment, out: &mut Vec<Event>) {
        self.stats.retired += 1;
        self.causes.take(slot, None, 0);
        let event = self.tell(Detail::Exit(Box::default()), slot, at, out);
        if let Some(process) = &mut event.process {
            process.inferred = true;
        }
        self.end(slot, End { boot_ns: at.boot_ns, status: None, told: true, heir }, at, out);
        self.container_exited(slot, None, &event::Usage::default(), at, out);
    }

    /// One that was known by name only is told again, with all that is known now.
    fn complete(&mut self, slot: Slot, seed: Seed, out: &mut Vec<Event>) {
        let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
        self.name_tty(seed.tty);
        let cgroup = FoundIn::of(&seed);
        let (found, image) = seeding::entry(seed, self.options.utc_minus_boot_ns);
        let image = self.store.images.take_in(image);
        let entry = &mut self.store[slot];
        (entry.kthread, entry.ids, entry.ns_pids) = (found.kthread, found.ids, found.ns_pids);
        self.store.set_image(slot, image);
        self.find_in_cgroup(slot, &cgroup);
        self.tell(Detail::Process, slot, at, out);
    }

    /// Takes the image that a process shows now. If that is another program, an exec was missed.
    fn see_image(&mut self, slot: Slot, process: event::Process, at: Moment, out: &mut Vec<Event>) {
        // What could not be read stays as it is known.
        let known = self.store.image(slot);
        let seen = Arc::unwrap_or_clone(process.image).or(known);
        if seen == **known {
            return;
        }
        // The same program with other arguments may have written them itself.
        let missed = known.exe.is_some() && seen.exe != known.exe;
        let seen = self.store.images.take_in(seen.into());
        self.store.set_image(slot, seen);
        if missed {
            self.store[slot].execs += 1;
            let event = self.tell(Detail::Exec(None), slot, at, out);
            if let Some(process) = &mut event.process {
                process.inferred = true;
            }
        }
    }
}
