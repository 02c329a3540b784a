//! What is in doubt is looked at again: whose parent was just ending, and all of them after a loss.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::{Live, look_at_cgroups, lost_event, running};
use crate::clock;
use crate::event::id::ProcessId;
use crate::kernel::load::{Kernel, Tracked};
use crate::proc::{self, PPID_UNKNOWN, Seed};
use crate::table::merge;

/// What was found in doubt is looked at again after this time, in nanoseconds: processes with a parent that was just
/// ending, and all of them after a loss.
pub(super) const SETTLE_NS: u64 = 50_000_000;
/// And at the longest after this one: some take their time to end, the init of a pid namespace all that its members need.
const SELDOM_NS: u64 = 6_400_000_000;

/// When to look again: soon, and ever more seldom while the doubt remains.
pub(super) struct Again {
    at_ns: u64,
    after_ns: u64,
}

impl Again {
    pub(super) const fn never() -> Self {
        Self { at_ns: u64::MAX, after_ns: SETTLE_NS }
    }

    pub(super) const fn at_once() -> Self {
        Self { at_ns: 0, after_ns: SETTLE_NS }
    }

    /// Something new is in doubt.
    pub(super) fn at(&mut self, at_ns: u64) {
        *self = Self { at_ns: self.at_ns.min(at_ns), after_ns: SETTLE_NS };
    }

    /// A look was not enough.
    pub(super) fn later(&mut self, now: u64) {
        *self = Self { at_ns: now + self.after_ns, after_ns: (2 * self.after_ns).min(SELDOM_NS) };
    }

    pub(super) fn due_ns(&self) -> Option<u64> {
        (self.at_ns != u64::MAX).then_some(self.at_ns)
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.at_ns <= now
    }
}

impl Live {
    /// Looks again at processes that were found with a parent that was just ending: the kernel gave them another one
    /// without an event.
    pub(super) fn settle(&mut self, now: u64) {
        let pids: Vec<u32> = self.table.unsettled().map(|process| process.pid()).collect();
        if pids.is_empty() {
            self.settle = Again::never();
        } else {
            self.settle.later(now);
        }
        for pid in pids {
            if let Some(seed) = proc::read_all_but_arguments(pid, clock::utc_minus_boot_ns(), &self.kernel.hierarchy) {
                self.outbox.take(|out| self.table.settle(&seed, out));
            }
        }
    }

    /// A gap shows when a record follows it. When none does, the kernel side's own count shows it.
    pub(super) fn notice_losses(&mut self, now: u64) {
        for lost in self.intake.gaps.unnoticed(&self.kernel.stats()) {
            self.outbox.push(lost_event(lost, now));
            self.resync.at(now);
            self.table.note_loss();
        }
    }

    /// What the kernel skipped leaves no hole; its own count shows it.
    pub(super) fn tell_passed_over(&mut self, now: u64) {
        self.passed_over_checked_ns = now;
        for missing in self.passed_over.update(now, &self.kernel.skipped()) {
            self.outbox.push(lost_event(self.intake.gaps.skipped(&missing), now));
            self.resync.at(now);
            self.table.note_loss();
        }
    }

    /// Compares the table with `/proc`, and reports what was missed.
    pub(super) fn resync(&mut self, now: u64) {
        look_at_cgroups(&mut self.table, &self.kernel.hierarchy);
        let utc_minus_boot_ns = clock::utc_minus_boot_ns();
        // Records that have a number by now must arrive before anything is concluded.
        let given = self.kernel.stats();
        // All that had happened by now is applied; what happens from now on comes after.
        let seeds = if self.options.selection.is_some() {
            let known = self.table.living().map(|process| process.pid());
            let pids: BTreeSet<u32> = self.kernel.tracked().into_iter().chain(known).collect();
            self.look_at(pids, utc_minus_boot_ns)
        } else {
            running::snapshot(&mut self.kernel, utc_minus_boot_ns).unwrap_or_default()
        };
        if seeds.is_empty() {
            self.resync = Again::never();
            return;
        }
        let (pending, mut gaps) = self.intake.look_ahead(&mut self.ring);
        if gaps.in_flight(&given) != 0 {
            // One that is still being written (its CPU stands still, or its program is preempted) holds up all behind it, perhaps
            // the exit of a process that is gone.
            self.resync.later(now);
            return;
        }
        tracing::info!("records were lost: comparing the tree with what runs, {} processes", seeds.len());
        let ending = |seed: &&Seed| seed.exiting && !seed.gone && !seed.process.zombie;
        let undecided: FxHashSet<ProcessId> = seeds.iter().filter(ending).map(|seed| seed.process.id).collect();
        let found = merge::reconcile(seeds, &pending);
        self.outbox.take(|out| self.table.resync(found, &undecided, now, out));
        if undecided.is_empty() {
            self.resync = Again::never();
        } else {
            self.resync.later(now);
        }
        // Processes that were found to have exited may have left children.
        self.settle.at(now + SETTLE_NS);
    }

    /// What `/proc` shows of these, and of their ancestors where their exits are reported too. A process that adopted children may
    /// have been filtered out until now, and the event of that lost.
    fn look_at(&mut self, mut pids: BTreeSet<u32>, utc_minus_boot_ns: i64) -> Vec<Seed> {
        let read = |kernel: &Kernel, pid: u32| proc::read(pid, utc_minus_boot_ns, &kernel.hierarchy);
        let mut seeds: Vec<Seed> = pids.iter().filter_map(|&pid| read(&self.kernel, pid)).collect();
        let mut next = 0;
        while self.options.selection.needs_relatives() && next < seeds.len() {
            let parent = seeds[next].ppid;
            next += 1;
            if parent != 0 && parent != PPID_UNKNOWN && pids.insert(parent) {
                // One that cannot be put in is like one that found no room.
                if let Err(error) = self.kernel.track(parent, Tracked::Relative) {
                    tracing::debug!("{error}");
                }
                seeds.extend(read(&self.kernel, parent));
            }
        }
        seeds
    }
}
