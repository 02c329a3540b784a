//! The dead that nobody has waited for yet: who let go of them in the end, and who does not.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use super::entry::{End, Heir, boot_to_utc};
use super::store::Slot;
use super::{Moment, Table};
use crate::event::{Event, Kind, Process, Reap, Zombie};
use crate::id::ProcessId;
use crate::time::Timestamp;

/// One that is dead.
#[derive(Debug)]
struct Dead {
    process: Process,
    since_ns: u64,
}

/// All of them, if they are followed.
#[derive(Debug, Default)]
pub(super) struct Zombies {
    /// By pid: it can be nobody else's until the kernel lets go of its owner.
    dead: FxHashMap<u32, Dead>,
    /// When each is to be told of if it is still there, in the order of their deaths.
    due: VecDeque<(u64, ProcessId)>,
}

impl Zombies {
    fn is_there(&self, id: ProcessId) -> bool {
        self.dead.get(&id.pid()).is_some_and(|dead| dead.process.id == id)
    }

    fn take(&mut self, id: ProcessId) -> Option<Dead> {
        if !self.is_there(id) {
            return None;
        }
        let dead = self.dead.remove(&id.pid());
        while self.due.front().is_some_and(|&(_, next)| !self.is_there(next)) {
            self.due.pop_front();
        }
        dead
    }
}

impl Table {
    /// A process is dead: from now on it waits for its parent to wait for it.
    pub(super) fn dies(&mut self, slot: Slot, since_ns: u64) {
        let Some(after_ns) = self.options.zombie_after_ns else { return };
        let entry = &self.store[slot];
        let tty = self.ttys.get(&entry.ids.tty).cloned();
        let process = entry.process(self.options.utc_minus_boot_ns, tty);
        let id = process.id;
        self.zombies.dead.insert(entry.pid, Dead { process, since_ns });
        self.zombies.due.push_back((since_ns.saturating_add(after_ns), id));
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
        let by = named.or_else(|| self.store.by_id(dead.process.parent_id?)).or_else(|| self.parent_now(&dead.process));
        let by = by.map(|by| (self.store[by].pid, self.store[by].id(), self.comm(by)));
        let mut event = self.about(Kind::Reap, dead.process, at.boot_ns, known);
        event.cpu = at.cpu;
        event.reap = Some(Box::new(Reap {
            zombie_ns: seen.then(|| at.boot_ns.saturating_sub(dead.since_ns)),
            by_pid: by.as_ref().map(|by| by.0),
            by_id: by.as_ref().map(|by| by.1),
            by_comm: by.and_then(|by| by.2),
        }));
        out.push(event);
    }

    /// Tells of those that have been dead for too long, now that it is so late (`CLOCK_BOOTTIME`), and of containers whose
    /// end has waited for long enough.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        self.tick_answers(now_ns, out);
        let mut overdue = Vec::new();
        while let Some(&(due_ns, id)) = self.zombies.due.front()
            && (due_ns <= now_ns || !self.zombies.is_there(id))
        {
            self.zombies.due.pop_front();
            if !self.zombies.is_there(id) {
                continue;
            }
            if self.store.newest(id.pid()).is_some_and(|newest| self.store[newest].id() != id) {
                // Another has its pid: that it is gone was lost.
                self.zombies.take(id);
                continue;
            }
            overdue.push(id);
        }
        if overdue.is_empty() {
            return;
        }
        let mut left: FxHashMap<Slot, u64> = FxHashMap::default();
        for dead in self.zombies.dead.values() {
            if let Some(parent) = self.parent_now(&dead.process) {
                *left.entry(parent).or_default() += 1;
            }
        }
        for id in overdue {
            let Some(dead) = self.zombies.dead.get(&id.pid()) else { continue };
            let (process, zombie_ns) = (dead.process.clone(), now_ns.saturating_sub(dead.since_ns));
            let parent = self.parent_now(&process);
            let mut event = self.about(Kind::Zombie, process, now_ns, self.store.by_id(id));
            event.zombie = Some(Box::new(Zombie {
                zombie_ns,
                parent_pid: parent.map(|parent| self.store[parent].pid),
                parent_id: parent.map(|parent| self.store[parent].id()),
                parent_comm: parent.and_then(|parent| self.comm(parent)),
                unreaped: parent.and_then(|parent| left.get(&parent).copied()).unwrap_or(1),
            }));
            out.push(event);
        }
    }

    /// When [`Table::tick`] has something to do, as far as is known now.
    pub fn due_ns(&self) -> Option<u64> {
        self.zombies.due.front().map(|&(due_ns, _)| due_ns).into_iter().chain(self.answers_due_ns()).min()
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
        self.store[slot].image.comm.as_ref().map(|comm| comm.lossy.clone())
    }

    fn about(&self, kind: Kind, process: Process, boot_ns: u64, known: Option<Slot>) -> Event {
        Event {
            boot_ns: Some(boot_ns),
            process: Some(process),
            ancestors: known.filter(|_| self.options.ancestors).map(|slot| self.ancestors(slot)),
            ..Event::new(kind, Timestamp(boot_to_utc(boot_ns, self.options.utc_minus_boot_ns)))
        }
    }
}
