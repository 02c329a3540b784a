//! Tracing that starts in the middle of a storm: `/proc` is read while the model of the kernel continues. In the end
//! every process is reported once, with its right parent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};
use tracer::proc::Seed;
use tracer::record::Record;
use tracer::table::merge::reconcile;
use tracer::table::{Table, TableOptions};

use crate::model::deeds::{Deed, deeds};
use crate::model::{Kernel, Nr, ProcState};

/// A reading of `/proc`: one process after the other, each in two steps.
#[derive(Default)]
struct Reading {
    /// The last pid that was listed.
    cursor: u32,
    half_read: Option<(Nr, Seed)>,
    seeds: Vec<(Nr, Seed)>,
}

impl Reading {
    /// Makes one step. Returns false at the end of the list.
    fn step(&mut self, kernel: &Kernel) -> bool {
        if let Some((nr, mut seed)) = self.half_read.take() {
            let now = kernel.seed_of(nr);
            if kernel.procs[nr].state == ProcState::Reaped {
                (seed.gone, seed.exiting) = (true, true);
            } else {
                (seed.ppid, seed.exiting, seed.process.zombie) = (now.ppid, now.exiting, now.process.zombie);
            }
            seed.read_until_ns = kernel.now;
            self.seeds.push((nr, seed));
            return true;
        }
        let next = (0..kernel.procs.len())
            .filter(|&nr| kernel.procs[nr].state != ProcState::Reaped && kernel.procs[nr].pid > self.cursor)
            .min_by_key(|&nr| kernel.procs[nr].pid);
        let Some(nr) = next else { return false };
        self.cursor = kernel.procs[nr].pid;
        self.half_read = Some((nr, kernel.seed_of(nr)));
        true
    }

    /// Rechecks processes whose parent is exiting, as `seed::snapshot` does at its end.
    fn recheck(mut self, kernel: &Kernel) -> Vec<Seed> {
        let parents: BTreeMap<u32, Seed> =
            self.seeds.iter().map(|(_, seed)| (seed.process.pid, seed.clone())).collect();
        for (nr, seed) in &mut self.seeds {
            if seed.is_settled(parents.get(&seed.ppid)) {
                continue;
            }
            let now = kernel.seed_of(*nr);
            if kernel.procs[*nr].state == ProcState::Reaped {
                (seed.gone, seed.exiting) = (true, true);
            } else {
                seed.ppid = now.ppid;
            }
            seed.read_until_ns = kernel.now;
        }
        self.seeds.into_iter().map(|(_, seed)| seed).collect()
    }
}

/// Returns how often each id is reported. (A tick may hold two processes with one pid.)
fn count(ids: impl Iterator<Item = ProcessId>) -> BTreeMap<ProcessId, u32> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

fn about(events: &[Event], kinds: &[Kind]) -> BTreeMap<ProcessId, u32> {
    count(
        events
            .iter()
            .filter(|event| kinds.contains(&event.kind()))
            .filter_map(|event| Some(event.process.as_ref()?.id)),
    )
}

/// Finishes the processes that were exiting before tracing began: no record reports them.
fn finish(kernel: &mut Kernel, old: &[Nr]) {
    for &nr in old {
        if kernel.is_space_init(nr) {
            let space = kernel.procs[nr].space;
            for member in kernel.members(space) {
                if kernel.procs[member].state == ProcState::Alive {
                    if let Some(creator) = kernel.procs[member].creator {
                        kernel.submit(creator);
                    }
                    kernel.submit(member);
                    kernel.exit_begin(member, 9);
                }
            }
            for member in kernel.members(space) {
                kernel.submit(member);
            }
            while let Some(&member) = kernel
                .members(space)
                .iter()
                .find(|&&member| kernel.procs[member].state == ProcState::Exiting && kernel.exit_notify(member))
            {
                let _ = member;
            }
            for member in kernel.members(space) {
                if kernel.procs[member].state == ProcState::Zombie {
                    kernel.reap(member);
                }
            }
        }
        if kernel.procs[nr].state == ProcState::Exiting {
            kernel.exit_notify(nr);
        }
    }
}

fn run(pid_max: u32, subreapers: u16, before: Vec<Deed>, during: Vec<(Deed, u8)>, after: Vec<Deed>) {
    let mut kernel = Kernel::boot(pid_max);
    kernel.one_pid_a_tick = true;
    kernel.line(subreapers);
    for deed in before {
        kernel.partial_deed(deed);
    }
    // Tracing begins: records in progress are not received.
    for proc in &mut kernel.procs {
        proc.making = None;
    }
    kernel.ring.clear();
    let dead_before: Vec<Nr> =
        (0..kernel.procs.len()).filter(|&nr| kernel.procs[nr].state != ProcState::Alive).collect();
    let exes: Vec<Option<String>> = kernel.procs.iter().map(|proc| proc.exe.clone()).collect();

    let mut reading = Reading::default();
    for (deed, steps) in during {
        kernel.partial_deed(deed);
        for _ in 0..steps % 4 {
            reading.step(&kernel);
        }
    }
    while reading.step(&kernel) {}
    finish(&mut kernel, &dead_before);
    let seeds = reading.recheck(&kernel);
    // An exec in progress would show its image before its record: a documented limit.
    for nr in 0..kernel.procs.len() {
        if matches!(kernel.procs[nr].making, Some(Record::Exec(_))) {
            kernel.submit(nr);
        }
    }
    let pending: Vec<_> = kernel.ring.drain(..).collect();
    let mut table = Table::new(TableOptions::default());
    let mut events = Vec::new();
    table.seed(reconcile(seeds, &pending.iter().collect()), &mut events);
    for record in pending {
        table.apply(record, &mut events);
    }
    for deed in after {
        kernel.partial_deed(deed);
        for record in kernel.ring.drain(..) {
            table.apply(record, &mut events);
        }
    }
    kernel.settle();
    for record in kernel.ring.drain(..) {
        table.apply(record, &mut events);
    }
    let unsettled: Vec<u32> = table.unsettled().map(|process| process.pid()).collect();
    for pid in unsettled {
        let nr = kernel.alive().into_iter().find(|&nr| kernel.procs[nr].pid == pid).expect("it runs");
        table.settle(&kernel.seed_of(nr), &mut events);
    }

    // Every running process is there, with the right parent ...
    let alive = kernel.alive();
    for &nr in &alive {
        let proc = &kernel.procs[nr];
        let found = table.by_pid(proc.pid).expect("every running process is there");
        assert_eq!(found.id(), kernel.id(nr), "pid {}", proc.pid);
        let parent = proc.parent.map(|parent| kernel.id(parent));
        assert_eq!(found.parent_id(), parent, "parent of pid {} ({nr})", proc.pid);
        assert!(found.creator_id().is_none_or(|creator| Some(creator) == proc.creator.map(|nr| kernel.id(nr))));
        let process = found.process();
        assert!(
            process.image.exe.is_none() || process.image.exe == proc.exe.as_deref().map(Into::into),
            "exe of pid {}",
            proc.pid
        );
    }
    assert_eq!(table.len_living(), alive.len(), "and no others");

    // ... and every process was reported once: forked, found, and exited.
    let was_reported = |nr: &Nr| !dead_before.contains(nr);
    let born = about(&events, &[Kind::Process, Kind::Fork]);
    let expected = count((0..kernel.procs.len()).filter(was_reported).map(|nr| kernel.id(nr)));
    let zombies = count(dead_before.iter().map(|&nr| kernel.id(nr)));
    for (id, &times) in &born {
        let most = expected.get(id).unwrap_or(&0) + zombies.get(id).unwrap_or(&0);
        assert!(times <= most, "{id:?} is reported {times} times");
    }
    for (id, times) in &expected {
        assert!(born.get(id) >= Some(times), "{id:?} is missing");
    }
    let ended = (0..kernel.procs.len()).filter(was_reported).filter(|&nr| kernel.procs[nr].exit_recorded);
    assert_eq!(about(&events, &[Kind::Exit]), count(ended.map(|nr| kernel.id(nr))));

    // Reports about images from before are correct.
    for event in &events {
        let Some(process) = event.process.as_ref().filter(|_| event.kind() == Kind::Process) else { continue };
        let same: Vec<Nr> = (0..exes.len()).filter(|&nr| kernel.id(nr) == process.id).collect();
        if let ([nr], Some(exe)) = (&same[..], process.image.exe.as_deref()) {
            assert_eq!(exes[*nr].as_deref(), Some(exe));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 50_000, ..ProptestConfig::default() })]

    #[test]
    fn a_start_in_a_storm_reports_every_process_once(
        pid_max in 20u32..60, subreapers: u16, before in deeds(80),
        during in proptest::collection::vec(any::<(Deed, u8)>(), 1..80), after in deeds(40),
    ) {
        run(pid_max, subreapers, before, during, after);
    }
}
