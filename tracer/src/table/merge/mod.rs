//! Joins the snapshot of `/proc` with the records that came while it was taken.
//!
//! The kernel side is attached *before* `/proc` is read, so that nobody is missed; but `/proc` is read process by
//! process, and each is seen at another moment. The table is to be given the processes that were alive
//! when tracing began, *as they were then*, and after that all pending records in their order. So what a record will
//! tell must not be told by the snapshot too.
//!
//! What this stands on:
//! - Births are attached last ([`crate::kernel::hook::hooks`]): of a process whose birth is told all else is told as well. Of
//!   those born before, records may tell what happened while the hooks were attached one by one.
//! - A process that was alive when tracing began and is not in the snapshot has ended since, and its exit is pending:
//!   `sched_process_exit` fires long before a process can vanish from `/proc`.
//! - So one that pending records name, that neither the snapshot has, nor a pending fork or exit, had
//!   told its exit before tracing began, and is only not yet done with ending.
//! - A parent is older than its children. So the parent of a process that was alive when tracing began was that too, even
//!   if `/proc` showed the parent that it got later; and if a later record moves it there, it is there already.

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::record::{self as raw, ID_UNSET};

use crate::event::id::{ProcessId, TICK_NS};
use crate::event::{Process, Provenance};
use crate::proc::{PPID_UNKNOWN, Seed};
use crate::record::Record;
use crate::record::text::Text;

/// A new image shows in `/proc` before its record is made: in between the kernel loads it (`begin_new_exec` to
/// `trace_sched_process_exec`, fs/exec.c), from storage perhaps.
const EXEC_TAKES_NS: u64 = 20_000_000;

/// The processes that were there when tracing began: what [`crate::table::Table::seed`] takes before it is given
/// the records that came meanwhile, in order.
///
/// `told` is what they tell, from before the first process of the snapshot was read to after the last.
pub fn reconcile(seeds: Vec<Seed>, told: &Told) -> Vec<Seed> {
    let mut out: Vec<Seed> = Vec::with_capacity(seeds.len());
    for mut seed in seeds {
        let same = told.like(&seed);
        let there_before = same.iter().find(|facts| !facts.born);
        let born = there_before.is_none() && !same.is_empty();
        if born || (same.is_empty() && told.names_elder(&seed)) {
            continue;
        }
        let ended = there_before.is_some_and(|facts| facts.ended);
        if seed.gone && !ended {
            continue;
        }
        seed.process.zombie = !ended && (seed.process.zombie || seed.exiting);
        // Two of one pid within one tick: it may be the later one that was looked at.
        let exec = there_before.and_then(|facts| facts.exec.as_ref());
        if same.len() > 1 || exec.is_some_and(|exec| exec.boot_ns <= seed.image_until_ns.saturating_add(EXEC_TAKES_NS))
        {
            seed.forget_image();
            seed.mnt_ns = 0;
        }
        if let Some(exec) = exec {
            (seed.process.euid, seed.process.egid) = (exec.euid, exec.egid);
        }
        out.push(seed);
    }
    add_missing(&mut out, told);
    drop_elders(&mut out);
    drop_unborn(&mut out, told);
    out
}

/// What the records tell of one process.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// Its birth is among them.
    born: bool,
    /// So is its end.
    ended: bool,
    /// Its first exec.
    exec: Option<FirstExec>,
    /// Who it is, as far as they know, and the pid of its parent, if it was not born.
    about: Option<Box<(Process, u32)>>,
    first_boot_ns: u64,
}

/// The first exec of one that was not born, and the effective ids before it: what an exec may change.
#[derive(Clone, Copy, Debug)]
struct FirstExec {
    boot_ns: u64,
    euid: Option<u32>,
    egid: Option<u32>,
}

/// What records tell, by exact process, and by pid and tick. In a storm most were born in it, and little is kept of those.
#[derive(Debug, Default)]
pub struct Told {
    facts: FxHashMap<(u32, u64), Facts>,
    by_tick: FxHashMap<ProcessId, Vec<u64>>,
    /// The first start of each pid.
    eldest: FxHashMap<u32, u64>,
}

impl<'a> FromIterator<&'a Record> for Told {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut told = Self::default();
        records.into_iter().for_each(|record| told.note(record));
        told
    }
}

impl Told {
    /// Takes note of the next record.
    pub fn note(&mut self, record: &Record) {
        let at = record.header().boot_ns;
        match record {
            Record::Fork(fork) => {
                let (raw, thread) = (&fork.raw, fork.raw.flags & raw::FORK_THREAD != 0);
                self.of(raw.creator, at);
                self.of(raw.parent, at);
                if let Some(facts) = self.of(raw.child, at).filter(|_| !thread) {
                    facts.born = true;
                }
            }
            Record::Exec(exec) => {
                let raw = &exec.raw;
                self.of(raw.parent, at);
                let before = raw::Ids { euid: raw.old_euid, egid: raw.old_egid, ..raw.ids };
                if let Some(facts) = self.of(raw.task, at).filter(|facts| !facts.born && facts.exec.is_none()) {
                    let about = about(raw.task, &before, None);
                    facts.exec = Some(FirstExec { boot_ns: at, euid: about.euid, egid: about.egid });
                    facts.about.get_or_insert_with(|| Box::new((about, raw.parent.tgid)));
                }
            }
            Record::Exit(exit) => {
                self.of(exit.parent, at);
                self.of(exit.reaper, at);
                if let Some(facts) = self.of(exit.task, at) {
                    facts.ended |= exit.flags & raw::EXIT_GROUP != 0;
                    if !facts.born {
                        facts.about.get_or_insert_with(|| {
                            Box::new((about(exit.task, &exit.ids, Some(&exit.comm)), exit.parent.tgid))
                        });
                    }
                }
            }
            Record::ExecFailed(failed) => {
                self.of(failed.raw.parent, at);
                self.of(failed.raw.task, at);
            }
            // A signal may be sent to one long dead, and one that is gone needs no place: they prove nothing.
            // A cgroup says nothing of who is in it.
            Record::Signal(_) | Record::Reap(_) | Record::Cgroup(_) | Record::Unknown(_) => {}
        }
    }

    fn of(&mut self, task: raw::TaskRef, at: u64) -> Option<&mut Facts> {
        if task.tgid == 0 || task.start_ns == 0 {
            return None;
        }
        let id = ProcessId::from_ns(task.start_ns, task.tgid);
        Some(self.facts.entry((task.tgid, task.start_ns)).or_insert_with(|| {
            self.by_tick.entry(id).or_default().push(task.start_ns);
            let eldest = self.eldest.entry(task.tgid).or_insert(task.start_ns);
            *eldest = task.start_ns.min(*eldest);
            Facts { first_boot_ns: at, ..Facts::default() }
        }))
    }

    /// What is told of those a seed may stand for: more than one only if a pid was used twice within a tick.
    fn like(&self, seed: &Seed) -> Vec<&Facts> {
        let starts = self.by_tick.get(&ProcessId::from_ticks(seed.start_ticks, seed.process.pid));
        let pid = seed.process.pid;
        starts.into_iter().flatten().filter_map(|&start| self.facts.get(&(pid, start))).collect()
    }

    /// True if they tell of one that had the pid before. Then the seed was born after tracing began, and the record of that is
    /// on its way.
    fn names_elder(&self, seed: &Seed) -> bool {
        self.eldest.get(&seed.process.pid).is_some_and(|&start_ns| start_ns / TICK_NS < seed.start_ticks)
    }
}

/// A process as a record shows it.
fn about(task: raw::TaskRef, ids: &raw::Ids, comm: Option<&[u8]>) -> Process {
    let mut process = Process::new(ProcessId::from_ns(task.start_ns, task.tgid), Provenance::Kernel);
    let known = |id: u32| (id != ID_UNSET).then_some(id);
    process.inferred = true;
    (process.uid, process.gid) = (known(ids.uid), known(ids.gid));
    process.euid = known(ids.euid).filter(|_| ids.euid != ids.uid);
    process.egid = known(ids.egid).filter(|_| ids.egid != ids.gid);
    process.loginuid = known(ids.loginuid);
    (process.sid, process.pgid) = (known(ids.sid), known(ids.pgid));
    if let Some(comm) = comm.map(Text::from_padded) {
        process.image_mut().set_comm(comm);
    }
    process
}

/// Adds those that were there when tracing began and vanished before they could be read.
fn add_missing(out: &mut Vec<Seed>, told: &Told) {
    let there: FxHashSet<ProcessId> = out.iter().map(|seed| seed.process.id).collect();
    let mut missing: Vec<(&(u32, u64), &Facts)> = told
        .facts
        .iter()
        .filter(|((pid, start_ns), facts)| !facts.born && !there.contains(&ProcessId::from_ns(*start_ns, *pid)))
        .collect();
    missing.sort_unstable_by_key(|((pid, start_ns), _)| (*start_ns, *pid));
    for (&(pid, start_ns), facts) in missing {
        let id = ProcessId::from_ns(start_ns, pid);
        let (mut process, ppid) = facts.about.as_deref().cloned().unwrap_or_else(|| {
            let mut process = Process::new(id, Provenance::Kernel);
            process.inferred = true;
            (process, PPID_UNKNOWN)
        });
        process.zombie = !facts.ended;
        out.push(Seed {
            process,
            ppid,
            start_ticks: start_ns / TICK_NS,
            start_ns,
            tty: 0,
            cgroup_id: 0,
            mnt_ns: 0,
            pid_ns: 0,
            exiting: !facts.ended,
            gone: false,
            read_from_ns: facts.first_boot_ns,
            read_until_ns: facts.first_boot_ns,
            image_until_ns: facts.first_boot_ns,
        });
    }
}

/// Of those who had one pid, keeps the last. No birth is told of it, so it was there when tracing began, and the others had
/// ended: what is told of them is from while the hooks were attached.
fn drop_elders(out: &mut Vec<Seed>) {
    let mut youngest: FxHashMap<u32, u64> = FxHashMap::default();
    for seed in &*out {
        let start_ticks = youngest.entry(seed.process.pid).or_insert(seed.start_ticks);
        *start_ticks = seed.start_ticks.max(*start_ticks);
    }
    out.retain(|seed| youngest.get(&seed.process.pid) == Some(&seed.start_ticks));
}

/// Leaves out those whose parent was born after tracing began. So were they, and the record of their birth is on its way.
fn drop_unborn(out: &mut Vec<Seed>, told: &Told) {
    let mut unborn: FxHashMap<u32, u64> = told
        .facts
        .iter()
        .filter(|(_, facts)| facts.born)
        .map(|(&(pid, start_ns), _)| (pid, start_ns / TICK_NS))
        .collect();
    loop {
        let there: FxHashSet<u32> = out.iter().map(|seed| seed.process.pid).collect();
        let before = out.len();
        out.retain(|seed| {
            let parent = unborn.get(&seed.ppid).is_some_and(|&start_ticks| start_ticks <= seed.start_ticks);
            let keep = !parent || there.contains(&seed.ppid) || !told.like(seed).is_empty();
            if !keep {
                unborn.insert(seed.process.pid, seed.start_ticks);
            }
            keep
        });
        if out.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
