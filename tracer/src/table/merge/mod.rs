//! Merges the snapshot of `/proc` with the records that arrived while it was taken.
//!
//! The kernel side is attached *before* `/proc` is read, so that no process is missed. But `/proc` is read process by
//! process, each at a different time. The table first needs the processes that were alive when tracing began, *as they
//! were then*. After that it gets all pending records in order. So the snapshot must not contain what a pending record
//! will report.
//!
//! This relies on the following facts:
//! - Fork hooks are attached last ([`crate::kernel::hook::hooks`]): if the fork of a process is reported, so is
//!   everything after it. Older processes may have records from the time when hooks were attached one by one.
//! - A process that was alive when tracing began and is not in the snapshot has exited since. Its exit is pending,
//!   because `sched_process_exit` fires long before a process can vanish from `/proc`.
//! - Pending records may name a process that has no pending fork or exit and is not in the snapshot. Its exit was
//!   before tracing began, and the kernel has not finished it yet.
//! - A parent is older than its children. So if a process was alive when tracing began, its parent was too, even if
//!   `/proc` shows a later parent. If a later record moves the process to that parent, it is there already.

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::record::{self as raw, ID_UNSET};

use crate::event::id::{ProcessId, TICK_NS};
use crate::event::{Process, Provenance};
use crate::proc::{PPID_UNKNOWN, Seed};
use crate::record::Record;
use crate::record::text::Text;

/// `/proc` shows a new image before its record is made. In between the kernel loads it, perhaps from storage
/// (`begin_new_exec` to `trace_sched_process_exec`, fs/exec.c).
const EXEC_TAKES_NS: u64 = 20_000_000;

/// Returns the processes that were alive when tracing began, for [`crate::table::Table::seed`]. After that, the table
/// gets the pending records in order.
///
/// `pending` summarizes those records: from before the first process of the snapshot was read until after the last.
pub fn reconcile(seeds: Vec<Seed>, pending: &Pending) -> Vec<Seed> {
    let mut out: Vec<Seed> = Vec::with_capacity(seeds.len());
    for mut seed in seeds {
        let same = pending.facts_of(&seed);
        let existing = same.iter().find(|facts| !facts.forked);
        let forked = existing.is_none() && !same.is_empty();
        if forked || (same.is_empty() && pending.names_earlier(&seed)) {
            continue;
        }
        let ended = existing.is_some_and(|facts| facts.ended);
        if seed.gone && !ended {
            continue;
        }
        seed.process.zombie = !ended && (seed.process.zombie || seed.exiting);
        // Two processes had this pid within one tick: the snapshot may show the later one.
        let exec = existing.and_then(|facts| facts.exec.as_ref());
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
    add_missing(&mut out, pending);
    keep_last_of_each_pid(&mut out);
    drop_not_yet_forked(&mut out, pending);
    out
}

/// What the pending records report about one process.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// They include its fork.
    forked: bool,
    /// They include its exit.
    ended: bool,
    /// Its first exec.
    exec: Option<FirstExec>,
    /// What they say about the process, and the pid of its parent. None if its fork is pending.
    about: Option<Box<(Process, u32)>>,
    first_boot_ns: u64,
}

/// The first exec of a process without a pending fork, and its effective ids before that: an exec may change them.
#[derive(Clone, Copy, Debug)]
struct FirstExec {
    boot_ns: u64,
    euid: Option<u32>,
    egid: Option<u32>,
}

/// What the pending records report, by exact process, and by pid and tick. In a storm most processes have a pending
/// fork, and little is kept about those.
#[derive(Debug, Default)]
pub struct Pending {
    facts: FxHashMap<(u32, u64), Facts>,
    by_tick: FxHashMap<ProcessId, Vec<u64>>,
    /// The earliest start of each pid.
    earliest: FxHashMap<u32, u64>,
}

impl<'a> FromIterator<&'a Record> for Pending {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut pending = Self::default();
        records.into_iter().for_each(|record| pending.note(record));
        pending
    }
}

impl Pending {
    /// Adds the next record.
    pub fn note(&mut self, record: &Record) {
        let at = record.header().boot_ns;
        match record {
            Record::Fork(fork) => {
                let (raw, thread) = (&fork.raw, fork.raw.flags & raw::FORK_THREAD != 0);
                self.of(raw.creator, at);
                self.of(raw.parent, at);
                if let Some(facts) = self.of(raw.child, at).filter(|_| !thread) {
                    facts.forked = true;
                }
            }
            Record::Exec(exec) => {
                let raw = &exec.raw;
                self.of(raw.parent, at);
                let before = raw::Ids { euid: raw.old_euid, egid: raw.old_egid, ..raw.ids };
                if let Some(facts) = self.of(raw.task, at).filter(|facts| !facts.forked && facts.exec.is_none()) {
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
                    if !facts.forked {
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
            // A signal may be sent to a process that exited long ago, and a reaped process needs no entry. A cgroup
            // record does not say which processes are in the cgroup.
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
            let earliest = self.earliest.entry(task.tgid).or_insert(task.start_ns);
            *earliest = task.start_ns.min(*earliest);
            Facts { first_boot_ns: at, ..Facts::default() }
        }))
    }

    /// Returns the facts about the processes that a seed may stand for. There is more than one only if a pid was used
    /// twice within a tick.
    fn facts_of(&self, seed: &Seed) -> Vec<&Facts> {
        let starts = self.by_tick.get(&ProcessId::from_ticks(seed.start_ticks, seed.process.pid));
        let pid = seed.process.pid;
        starts.into_iter().flatten().filter_map(|&start| self.facts.get(&(pid, start))).collect()
    }

    /// Returns true if the records name an earlier process with this pid. Then the seed was forked after tracing began,
    /// and its record is pending.
    fn names_earlier(&self, seed: &Seed) -> bool {
        self.earliest.get(&seed.process.pid).is_some_and(|&start_ns| start_ns / TICK_NS < seed.start_ticks)
    }
}

/// Builds a process from a record.
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

/// Adds processes that were alive when tracing began and vanished before they could be read.
fn add_missing(out: &mut Vec<Seed>, pending: &Pending) {
    let present: FxHashSet<ProcessId> = out.iter().map(|seed| seed.process.id).collect();
    let mut missing: Vec<(&(u32, u64), &Facts)> = pending
        .facts
        .iter()
        .filter(|((pid, start_ns), facts)| !facts.forked && !present.contains(&ProcessId::from_ns(*start_ns, *pid)))
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

/// Keeps only the last process of each pid. It has no pending fork, so it was alive when tracing began. The others had
/// exited by then: their records are from the time when the hooks were attached.
fn keep_last_of_each_pid(out: &mut Vec<Seed>) {
    let mut latest: FxHashMap<u32, u64> = FxHashMap::default();
    for seed in &*out {
        let start_ticks = latest.entry(seed.process.pid).or_insert(seed.start_ticks);
        *start_ticks = seed.start_ticks.max(*start_ticks);
    }
    out.retain(|seed| latest.get(&seed.process.pid) == Some(&seed.start_ticks));
}

/// Drops processes whose parent was forked after tracing began. They were forked later still, so their forks are
/// pending.
fn drop_not_yet_forked(out: &mut Vec<Seed>, pending: &Pending) {
    let mut not_yet_forked: FxHashMap<u32, u64> = pending
        .facts
        .iter()
        .filter(|(_, facts)| facts.forked)
        .map(|(&(pid, start_ns), _)| (pid, start_ns / TICK_NS))
        .collect();
    loop {
        let present: FxHashSet<u32> = out.iter().map(|seed| seed.process.pid).collect();
        let before = out.len();
        out.retain(|seed| {
            let parent = not_yet_forked.get(&seed.ppid).is_some_and(|&start_ticks| start_ticks <= seed.start_ticks);
            let keep = !parent || present.contains(&seed.ppid) || !pending.facts_of(seed).is_empty();
            if !keep {
                not_yet_forked.insert(seed.process.pid, seed.start_ticks);
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
