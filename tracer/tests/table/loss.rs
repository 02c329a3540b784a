//! Records that never come, in random histories, and what `/proc` puts right afterwards.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rustc_hash::FxHashSet;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};
use tracer::proc::Seed;

use crate::kit::Seen;
use crate::model::deeds::deeds;
use crate::model::{INIT, Kernel, State};

/// Who lives and whose child each is, as the lines alone tell it; and that they contradict themselves nowhere.
#[derive(Default)]
struct Story(BTreeMap<ProcessId, Option<ProcessId>>);

impl Story {
    fn tell(&mut self, events: &[Event]) {
        for event in events {
            let process = event.process.as_ref().expect("it is about a process");
            match event.kind() {
                Kind::Process | Kind::Fork => {
                    // One of which only the name was known is told again.
                    let known = self.0.insert(process.id, process.parent_id).flatten();
                    assert!(known.is_none(), "born twice: {event:?}");
                    if process.zombie {
                        self.0.remove(&process.id);
                    }
                }
                Kind::Exit => {
                    // One that was found dead has not been among the living.
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
    let there = |&nr: &usize| kernel.procs[nr].state != State::Reaped;
    let as_found = |nr| {
        let mut seed = kernel.seed_of(nr);
        // As `merge::reconcile` does: the records tell no more of one that is past its exit's.
        seed.process.zombie |= seed.exiting;
        seed
    };
    let seeds: Vec<Seed> = (0..kernel.procs.len()).filter(there).map(as_found).collect();
    seen.table.resync(seeds, &FxHashSet::default(), kernel.now, &mut seen.events);
    std::mem::take(&mut seen.events)
}

/// Looks again at those whose parent was found ending, as the live source does.
fn look_again(seen: &mut Seen, kernel: &Kernel) -> Vec<Event> {
    let unsettled: Vec<ProcessId> = seen.table.unsettled().map(|process| process.id()).collect();
    for nr in kernel.alive().into_iter().filter(|&nr| unsettled.contains(&kernel.id(nr))) {
        seen.table.settle(&kernel.seed_of(nr), &mut seen.events);
    }
    std::mem::take(&mut seen.events)
}

fn check(seen: &Seen, kernel: &Kernel, story: &Story) {
    let truth: BTreeMap<ProcessId, Option<ProcessId>> = kernel
        .alive()
        .into_iter()
        .map(|nr| (kernel.id(nr), kernel.procs[nr].parent.map(|parent| kernel.id(parent))))
        .collect();
    let table: BTreeMap<ProcessId, Option<ProcessId>> =
        seen.table.living().map(|process| (process.id(), process.parent_id())).collect();
    assert_eq!(table, truth, "the table");
    assert_eq!(story.0, truth, "the lines");
    for nr in kernel.alive() {
        let process = seen.table.by_id(kernel.id(nr)).expect("it lives").process();
        assert_eq!(process.image.exe.as_deref(), kernel.procs[nr].exe.as_deref(), "exe of {nr}");
        assert_eq!(process.image.comm.as_deref(), Some(&*kernel.procs[nr].comm), "comm of {nr}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_lost_the_tree_is_right_again(
        pid_max in 20u32..60, subreapers: u16, before in deeds(80), during in deeds(150), keep: u64, after in deeds(80),
    ) {
        let (mut seen, mut kernel) = Seen::booted_with(pid_max);
        let mut story = Story::default();
        kernel.one_pid_a_tick = true;
        kernel.line(subreapers);
        for nr in [INIT, 1] {
            story.0.insert(kernel.id(nr), None);
        }
        for deed in before {
            kernel.partial_deed(deed);
            story.tell(&seen.follow(&mut kernel));
        }
        for (n, deed) in during.into_iter().enumerate() {
            kernel.partial_deed(deed);
            if keep >> (n % 64) & 1 == 0 {
                kernel.ring.clear();
            }
            story.tell(&seen.follow(&mut kernel));
        }
        kernel.settle();
        story.tell(&seen.follow(&mut kernel));
        story.tell(&resync(&mut seen, &kernel));
        check(&seen, &kernel, &story);
        prop_assert!(resync(&mut seen, &kernel).is_empty(), "nothing more is to be put right");

        for deed in after {
            kernel.partial_deed(deed);
            story.tell(&seen.follow(&mut kernel));
        }
        kernel.settle();
        story.tell(&seen.follow(&mut kernel));
        story.tell(&look_again(&mut seen, &kernel));
        check(&seen, &kernel, &story);
    }
}

/// What is told of a process whose birth, exec and end were missed.
#[test]
fn what_was_missed_is_told_as_inferred() {
    let (mut seen, mut kernel) = Seen::booted();
    let (parent, gone) = (kernel.fork(INIT), kernel.fork(INIT));
    let orphan = kernel.fork(gone);
    seen.follow(&mut kernel);
    let newborn = kernel.fork(parent);
    kernel.exec(parent);
    kernel.exit(gone, 0);
    kernel.settle();
    kernel.ring.clear();
    let events = resync(&mut seen, &kernel);
    let told: Vec<(Kind, u32, bool)> = events
        .iter()
        .map(|event| event.process.as_ref().map(|process| (event.kind(), process.pid, process.inferred)).unwrap())
        .collect();
    let pid = |nr: usize| kernel.procs[nr].pid;
    assert_eq!(
        told,
        [
            (Kind::Process, pid(newborn), true),
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
