//! Exited processes that are not reaped yet: which process reaps them, and which does not.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use super::entry::{End, Heir, boot_to_utc};
use super::store::Slot;
use super::{Moment, Table};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Process, Reap, Zombie};
use crate::proc::Remains;

/// After this time the kernel is assumed not to report the reaping of a process that is gone. It does so when no CPU
/// uses the process any more, some tens of milliseconds later.
const LATE_NS: u64 = 1_000_000_000;

/// The longest interval between two checks of a zombie.
const MAX_INTERVAL_NS: u64 = 60_000_000_000;

/// How many processes are checked at a time: all zombies found at the start are due at once.
const MAX_CHECKS: usize = 256;

/// An exited process that is not reaped yet.
#[derive(Debug)]
struct Unreaped {
    process: Process,
    since_ns: u64,
    /// When it is checked next.
    due_ns: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    /// It was reported as a zombie.
    Reported,
    /// It is gone from `/proc`, but the kernel has not reported that yet.
    Gone,
}

/// All processes that wait to be reaped, if they are followed.
#[derive(Debug, Default)]
pub(super) struct Zombies {
    unreaped: FxHashMap<ProcessId, Unreaped>,
    due: BTreeSet<(u64, ProcessId)>,
}

impl Zombies {
    fn put(&mut self, unreaped: Unreaped) {
        let id = unreaped.process.id;
        self.take(id);
        self.due.insert((unreaped.due_ns, id));
        self.unreaped.insert(id, unreaped);
    }

    fn take(&mut self, id: ProcessId) -> Option<Unreaped> {
        let unreaped = self.unreaped.remove(&id)?;
        self.due.remove(&(unreaped.due_ns, id));
        Some(unreaped)
    }

    /// Takes a process whose check is due.
    fn take_due(&mut self, now_ns: u64) -> Option<Unreaped> {
        let &(_, id) = self.due.first().filter(|&&(due_ns, _)| due_ns <= now_ns)?;
        self.take(id)
    }
}

impl Table {
    /// Follows an exited process until it is reaped.
    pub(super) fn await_reap(&mut self, slot: Slot, since_ns: u64) {
        let Some(after_ns) = self.options.zombie_after_ns else { return };
        let process = self.process(slot);
        self.zombies.put(Unreaped {
            process,
            since_ns,
            due_ns: since_ns.saturating_add(after_ns),
            stage: Stage::Fresh,
        });
    }

    /// Stops following a process whose exit proved wrong.
    pub(super) fn stop_awaiting_reap(&mut self, slot: Slot) {
        self.zombies.take(self.store[slot].id());
    }

    pub(super) fn reap(&mut self, reap: &raw::Reap, out: &mut Vec<Event>) {
        let at = Moment::of(&reap.header);
        let known = self.store.find(reap.task);
        if let Some(slot) = known.filter(|&slot| self.store[slot].is_living()) {
            self.await_reap(slot, at.boot_ns);
            self.end_unseen(slot, Heir::Unknown, at, out);
        }
        let id =
            known.map_or_else(|| ProcessId::from_ns(reap.task.start_ns, reap.task.tgid), |slot| self.store[slot].id());
        let Some(unreaped) = self.zombies.take(id) else {
            self.stats.merged += 1;
            return;
        };
        let seen = known.is_some_and(|slot| self.store[slot].end.is_some_and(|end| end.status.is_some()));
        // Use the parent in the record, unless its memory was reused. A process that got that memory is younger than
        // the child, and a parent never is.
        let named = reap.parent.tgid != 0 && (1..=reap.task.start_ns).contains(&reap.parent.start_ns);
        let named = if named { self.store.find(reap.parent) } else { None };
        // A parent whose memory was reused is gone. Then it was the last known parent, not its heir.
        let by = named.or_else(|| self.store.by_id(unreaped.process.parent_id?));
        let zombie_ns = seen.then(|| at.boot_ns.saturating_sub(unreaped.since_ns));
        let reap = Detail::Reap(Box::new(Reap { zombie_ns, ..self.reap_by(by) }));
        out.push(Event { cpu: at.cpu, ..self.about(reap, unreaped.process, at.boot_ns, known) });
    }

    fn reap_by(&self, by: Option<Slot>) -> Reap {
        Reap {
            by_pid: by.map(|by| self.store[by].pid),
            by_id: by.map(|by| self.store[by].id()),
            by_comm: by.and_then(|by| self.comm(by)),
            ..Reap::default()
        }
    }

    /// Checks processes that have not been reaped for too long, at `now_ns` (`CLOCK_BOOTTIME`). `remains` reads
    /// `/proc`: the record of a reaping may have been lost. Earlier records must have been applied.
    pub fn check_zombies(&mut self, now_ns: u64, mut remains: impl FnMut(ProcessId) -> Remains, out: &mut Vec<Event>) {
        let mut overdue = Vec::new();
        for _ in 0..MAX_CHECKS {
            let Some(mut unreaped) = self.zombies.take_due(now_ns) else { break };
            if unreaped.stage == Stage::Gone {
                self.report_reaped(unreaped.process, now_ns, out);
                continue;
            }
            // The older a zombie, the less often it is checked.
            let interval_ns = now_ns.saturating_sub(unreaped.since_ns).clamp(LATE_NS, MAX_INTERVAL_NS);
            let after_ns = match remains(unreaped.process.id) {
                Remains::Ending => LATE_NS,
                Remains::Zombie => {
                    if unreaped.stage == Stage::Fresh {
                        overdue.push(unreaped.process.id);
                    }
                    unreaped.stage = Stage::Reported;
                    interval_ns
                }
                Remains::None => {
                    unreaped.stage = Stage::Gone;
                    LATE_NS
                }
            };
            unreaped.due_ns = now_ns.saturating_add(after_ns);
            self.zombies.put(unreaped);
        }
        self.report_zombies(&overdue, now_ns, out);
    }

    /// Reports a reaping that the kernel did not report.
    fn report_reaped(&self, process: Process, now_ns: u64, out: &mut Vec<Event>) {
        // If the parent at its exit is still alive, only that can have reaped it.
        let by = process.parent_id.and_then(|parent| self.store.by_id(parent));
        let by = by.filter(|&by| self.store[by].is_living());
        let known = self.store.by_id(process.id);
        let reap = Detail::Reap(Box::new(Reap { inferred: true, ..self.reap_by(by) }));
        out.push(self.about(reap, process, now_ns, known));
    }

    fn report_zombies(&self, overdue: &[ProcessId], now_ns: u64, out: &mut Vec<Event>) {
        if overdue.is_empty() {
            return;
        }
        let mut left: FxHashMap<Slot, u64> = FxHashMap::default();
        let remaining = self.zombies.unreaped.values().filter(|unreaped| unreaped.stage != Stage::Gone);
        for parent in remaining.filter_map(|unreaped| self.parent_now(&unreaped.process)) {
            *left.entry(parent).or_default() += 1;
        }
        for unreaped in overdue.iter().filter_map(|id| self.zombies.unreaped.get(id)) {
            let (process, zombie_ns) = (unreaped.process.clone(), now_ns.saturating_sub(unreaped.since_ns));
            let (parent, known) = (self.parent_now(&process), self.store.by_id(process.id));
            let zombie = Box::new(Zombie {
                zombie_ns,
                parent_pid: parent.map(|parent| self.store[parent].pid),
                parent_id: parent.map(|parent| self.store[parent].id()),
                parent_comm: parent.and_then(|parent| self.comm(parent)),
                unreaped: parent.and_then(|parent| left.get(&parent).copied()).unwrap_or(1),
            });
            out.push(self.about(Detail::Zombie(zombie), process, now_ns, known));
        }
    }

    /// Returns when [`Table::tick`] or [`Table::check_zombies`] next has work to do, as far as known now.
    pub fn due_ns(&self) -> Option<u64> {
        let first = self.zombies.due.first().map(|&(due_ns, _)| due_ns);
        first.into_iter().chain(self.replies_due_ns()).min()
    }

    /// Returns the process that now has to reap an exited one: its parent, or the heir of that.
    fn parent_now(&self, process: &Process) -> Option<Slot> {
        let mut slot = self.store.by_id(process.parent_id?)?;
        // No chain of exited processes is longer. The limit ends a cycle of bad records.
        for _ in 0..super::MAX_ANCESTORS {
            match self.store[slot].end {
                None => return Some(slot),
                Some(End { heir: Heir::Process(heir, _), .. }) => slot = self.store.named(heir)?,
                Some(_) => break,
            }
        }
        self.store.by_pid(1)
    }

    fn comm(&self, slot: Slot) -> Option<std::sync::Arc<str>> {
        self.store.image(slot).comm.clone()
    }

    fn about(&self, detail: Detail, process: Process, boot_ns: u64, known: Option<Slot>) -> Event {
        Event {
            boot_ns: Some(boot_ns),
            process: Some(process),
            ancestors: known.filter(|_| self.options.ancestors).map(|slot| self.ancestors(slot)),
            ..Event::new(detail, Timestamp(boot_to_utc(boot_ns, self.options.utc_minus_boot_ns)))
        }
    }
}
