//! Lost records in random histories, and how `/proc` repairs the table afterwards.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rustc_hash::FxHashSet;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};
use tracer::proc::Seed;

use crate::kit::Seen;
use crate::model::deeds::deeds;
use crate::model::{INIT, Kernel, ProcState};

/// The running processes and their parents, from the lines alone. Asserts that the lines never contradict each other.
#[derive(Default)]
struct Reconstruction(BTreeMap<ProcessId, Option<ProcessId>>);

impl Reconstruction {
    fn add(&mut self, events: &[Event]) {
        for event in events {
            let process = event.process.as_ref().expect("it has a process");
            match event.kind() {
                Kind::Process | Kind::Fork => {
                    // A process of which only the name was known is reported again.
                    let known = self.0.insert(process.id, process.parent_id).flatten();
                    assert!(known.is_none(), "forked twice: {event:?}");
                    if process.zombie {
                        self.0.remove(&process.id);
                    }
                }
                Kind::Exit => {
                    // A process that was found as a zombie was never running.
                    self.0.remove(&process.id);
                }
                _ => {
                    if let Some(parent) = self.0.get_mut(&process.id) {
                        *parent = process.parent_id;
                    }
                }
            }
        }
    }
}

fn resync(seen: &mut Seen, kernel: &Kernel) -> Vec<Event> {
    let there = |&nr: &usize| kernel.procs[nr].state != ProcState::Reaped;
    let as_found = |nr| {
        let mut seed = kernel.seed_of(nr);
        // Like `merge::reconcile`: the records report nothing about a process after its exit.
        seed.process.zombie |= seed.exiting;
        seed
    };
    let seeds: Vec<Seed> = (0..kernel.procs.len()).filter(there).map(as_found).collect();
    seen.table.resync(seeds, &FxHashSet::default(), kernel.now, &mut seen.events);
    std::mem::take(&mut seen.events)
}

/// Rechecks processes whose parent was found exiting, as the live source does.
fn recheck(seen: &mut Seen, kernel: &Kernel) -> Vec<Event> {
    let unsettled: Vec<ProcessId> = seen.table.unsettled().map(|process| process.id()).collect();
    for nr in kernel.alive().into_iter().filter(|&nr| unsettled.contains(&kernel.id(nr))) {
        seen.table.settle(&kernel.seed_of(nr), &mut seen.events);
    }
    std::mem::take(&mut seen.events)
}

fn check(seen: &Seen, kernel: &Kernel, reconstruction: &Reconstruction) {
    let truth: BTreeMap<ProcessId, Option<ProcessId>> = kernel
        .alive()
        .into_iter()
        .map(|nr| (kernel.id(nr), kernel.procs[nr].parent.map(|parent| kernel.id(parent))))
        .collect();
    let table: BTreeMap<ProcessId, Option<ProcessId>> =
        seen.table.living().map(|process| (process.id(), process.parent_id())).collect();
    assert_eq!(table, truth, "the table");
    assert_eq!(reconstruction.0, truth, "the lines");
    for nr in kernel.alive() {
        let process = seen.table.by_id(kernel.id(nr)).expect("it runs").process();
        assert_eq!(process.image.exe.as_deref(), kernel.procs[nr].exe.as_deref(), "exe of {nr}");
        assert_eq!(process.image.comm.as_deref(), Some(&*kernel.procs[nr].comm), "comm of {nr}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn after_any_loss_the_tree_is_repaired(
        pid_max in 20u32..60, subreapers: u16, before in deeds(80), during in deeds(150), keep: u64, after in deeds(80),
    ) {
        let (mut seen, mut kernel) = Seen::booted_with(pid_max);
        let mut reconstruction = Reconstruction::default();
        kernel.one_pid_a_tick = true;
        kernel.line(subreapers);
        for nr in [INIT, 1] {
            reconstruction.0.insert(kernel.id(nr), None);
        }
        for deed in before {
            kernel.partial_deed(deed);
            reconstruction.add(&seen.follow(&mut kernel));
        }
        for (n, deed) in during.into_iter().enumerate() {
            kernel.partial_deed(deed);
            if keep >> (n % 64) & 1 == 0 {
                kernel.ring.clear();
            }
            reconstruction.add(&seen.follow(&mut kernel));
        }
        kernel.settle();
        reconstruction.add(&seen.follow(&mut kernel));
        reconstruction.add(&resync(&mut seen, &kernel));
        check(&seen, &kernel, &reconstruction);
        prop_assert!(resync(&mut seen, &kernel).is_empty(), "nothing more to repair");

        for deed in after {
            kernel.partial_deed(deed);
            reconstruction.add(&seen.follow(&mut kernel));
        }
        kernel.settle();
        reconstruction.add(&seen.follow(&mut kernel));
        reconstruction.add(&recheck(&mut seen, &kernel));
        check(&seen, &kernel, &reconstruction);
    }
}

/// How a process is reported whose fork, exec and exit were missed.
#[test]
fn what_was_missed_is_reported_as_inferred() {
    let (mut seen, mut kernel) = Seen::booted();
    let (parent, gone) = (kernel.fork(INIT), kernel.fork(INIT));
    let orphan = kernel.fork(gone);
    seen.follow(&mut kernel);
    let forked_child = kernel.fork(parent);
    kernel.exec(parent);
    kernel.exit(gone, 0);
    kernel.settle();
    kernel.ring.clear();
    let events = resync(&mut seen, &kernel);
    let reported: Vec<(Kind, u32, bool)> = events
        .iter()
        .map(|event| event.process.as_ref().map(|process| (event.kind(), process.pid, process.inferred)).unwrap())
        .collect();
    let pid = |nr: usize| kernel.procs[nr].pid;
    assert_eq!(
        reported,
        [
            (Kind::Process, pid(forked_child), true),
            (Kind::Reparent, pid(orphan), false),
            (Kind::Exit, pid(gone), true),
            (Kind::Exec, pid(parent), true),
        ]
    );
    let exit = events[2].exit().unwrap();
    assert_eq!((exit.code, exit.signal.clone(), exit.duration_ns), (None, None, None));
    assert_eq!(events[3].process.as_ref().unwrap().image.exe.as_deref(), kernel.procs[parent].exe.as_deref());
    assert_eq!((events[3].exec().is_some(), events[3].boot_ns), (false, None));
}
