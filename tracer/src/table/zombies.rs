//! The dead that nobody has waited for yet: who let go of them in the end, and who does not.

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

/// After this time it is taken for sure that the kernel does not tell of one that is gone: it does when no CPU looks at the
/// process any more, some tens of milliseconds later.
const LATE_NS: u64 = 1_000_000_000;

/// And at the longest after this time one that lies there is looked at again.
const SELDOM_NS: u64 = 60_000_000_000;

/// So many are looked at at a time: all that were dead at the start are due at once.
const LOOKS: usize = 256;

/// One that is dead.
#[derive(Debug)]
struct Dead {
    process: Process,
    since_ns: u64,
    /// When it is looked at.
    due_ns: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    /// It has been told of as a zombie.
    Told,
    /// Nothing is left of it, but the kernel has not told that yet.
    Gone,
}

/// All of them, if they are followed.
#[derive(Debug, Default)]
pub(super) struct Zombies {
    dead: FxHashMap<ProcessId, Dead>,
    due: BTreeSet<(u64, ProcessId)>,
}

impl Zombies {
    fn put(&mut self, dead: Dead) {
        let id = dead.process.id;
        self.take(id);
        self.due.insert((dead.due_ns, id));
        self.dead.insert(id, dead);
    }

    fn take(&mut self, id: ProcessId) -> Option<Dead> {
        let dead = self.dead.remove(&id)?;
        self.due.remove(&(dead.due_ns, id));
        Some(dead)
    }

    /// One that is due.
    fn take_due(&mut self, now_ns: u64) -> Option<Dead> {
        let &(_, id) = self.due.first().filter(|&&(due_ns, _)| due_ns <= now_ns)?;
        self.take(id)
    }
}

impl Table {
    /// A process is dead: from now on it waits for its parent to wait for it.
    pub(super) fn dies(&mut self, slot: Slot, since_ns: u64) {
        let Some(after_ns) = self.options.zombie_after_ns else { return };
        let process = self.process(slot);
        self.zombies.put(Dead { process, since_ns, due_ns: since_ns.saturating_add(after_ns), stage: Stage::Fresh });
    }

    /// A process that was thought dead is not.
    pub(super) fn lives(&mut self, slot: Slot) {
        self.zombies.take(self.store[slot].id());
    }

    pub(super) fn reap(&mut self, reap: &raw::Reap, out: &mut Vec<Event>) {
        let at = Moment::of(&reap.header);
        let known = self.store.find(reap.task);
        if let Some(slot) = known.filter(|&slot| self.store[slot].is_living()) {
            self.dies(slot, at.boot_ns);
            self.end_unseen(slot, Heir::Unknown, at, out);
        }
        let id =
            known.map_or_else(|| ProcessId::from_ns(reap.task.start_ns, reap.task.tgid), |slot| self.store[slot].id());
        let Some(dead) = self.zombies.take(id) else {
            self.stats.merged += 1;
            return;
        };
        let seen = known.is_some_and(|slot| self.store[slot].end.is_some_and(|end| end.status.is_some()));
        // The kernel's word for it, unless its memory was another's by then: who got that is younger than the child, and a
        // parent never is.
        let named = reap.parent.tgid != 0 && (1..=reap.task.start_ns).contains(&reap.parent.start_ns);
        let named = if named { self.store.find(reap.parent) } else { None };
        // Who is named by memory that is another's by now is gone: whoever had the child when it died, not the heir of that.
        let by = named.or_else(|| self.store.by_id(dead.process.parent_id?));
        let zombie_ns = seen.then(|| at.boot_ns.saturating_sub(dead.since_ns));
        let reap = Detail::Reap(Box::new(Reap { zombie_ns, ..self.reap_by(by) }));
        out.push(Event { cpu: at.cpu, ..self.about(reap, dead.process, at.boot_ns, known) });
    }

    fn reap_by(&self, by: Option<Slot>) -> Reap {
        Reap {
            by_pid: by.map(|by| self.store[by].pid),
            by_id: by.map(|by| self.store[by].id()),
            by_comm: by.and_then(|by| self.comm(by)),
            ..Reap::default()
        }
    }

    /// Tells of those that have been dead for too long, at this time (`CLOCK_BOOTTIME`). What is left of one is for `/proc` to
    /// say: that it was waited for may have been lost. All that had happened by then is to be applied before.
    pub fn look_at_the_dead(
        &mut self,
        now_ns: u64,
        mut remains: impl FnMut(ProcessId) -> Remains,
        out: &mut Vec<Event>,
    ) {
        let mut overdue = Vec::new();
        for _ in 0..LOOKS {
            let Some(mut dead) = self.zombies.take_due(now_ns) else { break };
            if dead.stage == Stage::Gone {
                self.tell_gone(dead.process, now_ns, out);
                continue;
            }
            // The longer one lies there, the more seldom it is looked at.
            let seldom_ns = now_ns.saturating_sub(dead.since_ns).clamp(LATE_NS, SELDOM_NS);
            let after_ns = match remains(dead.process.id) {
                Remains::Ending => LATE_NS,
                Remains::Zombie => {
                    if dead.stage == Stage::Fresh {
                        overdue.push(dead.process.id);
                    }
                    dead.stage = Stage::Told;
                    seldom_ns
                }
                Remains::None => {
                    dead.stage = Stage::Gone;
                    LATE_NS
                }
            };
            dead.due_ns = now_ns.saturating_add(after_ns);
            self.zombies.put(dead);
        }
        self.tell_zombies(&overdue, now_ns, out);
    }

    /// That one was waited for was not told.
    fn tell_gone(&self, process: Process, now_ns: u64, out: &mut Vec<Event>) {
        // If the parent that it had when it died lives on, nobody else can have waited for it.
        let by = process.parent_id.and_then(|parent| self.store.by_id(parent));
        let by = by.filter(|&by| self.store[by].is_living());
        let known = self.store.by_id(process.id);
        let reap = Detail::Reap(Box::new(Reap { inferred: true, ..self.reap_by(by) }));
        out.push(self.about(reap, process, now_ns, known));
    }

    fn tell_zombies(&self, overdue: &[ProcessId], now_ns: u64, out: &mut Vec<Event>) {
        if overdue.is_empty() {
            return;
        }
        let mut left: FxHashMap<Slot, u64> = FxHashMap::default();
        let lie_there = self.zombies.dead.values().filter(|dead| dead.stage != Stage::Gone);
        for parent in lie_there.filter_map(|dead| self.parent_now(&dead.process)) {
            *left.entry(parent).or_default() += 1;
        }
        for dead in overdue.iter().filter_map(|id| self.zombies.dead.get(id)) {
            let (process, zombie_ns) = (dead.process.clone(), now_ns.saturating_sub(dead.since_ns));
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

    /// When [`Table::tick`] or [`Table::look_at_the_dead`] has something to do, as far as is known now.
    pub fn due_ns(&self) -> Option<u64> {
        let first = self.zombies.due.first().map(|&(due_ns, _)| due_ns);
        first.into_iter().chain(self.answers_due_ns()).min()
    }

    /// Who has to wait for a dead process by now: its parent, or who took that one's children over.
    fn parent_now(&self, process: &Process) -> Option<Slot> {
        let mut slot = self.store.by_id(process.parent_id?)?;
        // As many steps as there can be dead in the line; a circle of bad records is no reason to stay in it.
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
