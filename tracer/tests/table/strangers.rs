//! When only some are told of: who comes to be asked for later was not lost.

use rustc_hash::FxHashSet;
use tracer::event::{Event, Kind, Provenance};
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{IDS, INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, header, kinds, moves, task};
use crate::model::{INIT, Kernel, padded};

/// A table that knows init only, and is told of few.
fn narrowed() -> (Seen, Kernel) {
    let (mut seen, kernel) = Seen::booted();
    seen.table.leave_out(|process| process.pid() == 1);
    (seen, kernel)
}

fn is_inferred(event: &Event) -> bool {
    event.process.as_ref().unwrap().inferred
}

#[test]
fn others_are_forgotten_and_those_that_are_kept_stay_whose_they_are() {
    let mut seen = Seen::with(TableOptions::default());
    let kernel = Kernel::boot(1000);
    seen.table.seed(vec![kernel.seed_of(INIT)], &mut seen.events);
    let (stranger, kept, child) = (task(40, 10 * MS), task(50, 20 * MS), task(51, 30 * MS));
    for (process, parent) in [(stranger, INIT_TASK), (kept, stranger), (child, kept)] {
        seen.apply(forked(fork(process, parent)));
    }
    seen.table.leave_out(|process| process.pid() != 40);
    assert_eq!((seen.table.len_living(), seen.table.len_dead()), (3, 0));
    assert!(seen.table.by_pid(40).is_none());
    assert_eq!((seen.parent(50), seen.parent(51)), (Some(40), Some(50)), "its parent's id is still known");
    let events = seen.apply(exited(exit(kept, stranger, 100 * MS)));
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent]);
    assert_eq!(moves(&events)[0].2, 1);
}

#[test]
fn a_stranger_has_no_line_before_its_first_and_was_not_lost() {
    let (mut seen, _) = narrowed();
    let (stranger, parent) = (task(50, 100 * MS), task(40, 90 * MS));
    let events = seen.apply(execed(exec(stranger, parent, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec]);
    assert!(!is_inferred(&events[0]));
    assert_eq!((seen.parent(50), seen.table.stats().inferred), (Some(40), 0));
    let events = seen.apply(exited(exit(task(60, 100 * MS), parent, 120 * MS)));
    assert_eq!(kinds(&events), [Kind::Exit]);
    assert!(!is_inferred(&events[0]));
}

#[test]
fn what_a_stranger_was_is_looked_up_before_its_child_is_told() {
    let (mut seen, mut kernel) = narrowed();
    let nr = kernel.fork(INIT);
    let creator = kernel.task(nr);
    let birth = forked(fork(task(70, 900 * MS), creator));
    let stranger = seen.table.stranger(&birth).expect("nobody knows it");
    assert_eq!((stranger.pid, stranger.comm), (creator.tgid, Some(padded("sh"))));
    let mut seed = kernel.seed_of(nr);
    seed.process.image_mut().exe = Some("/bin/su".into());
    seed.process.source = Provenance::Procfs;
    seen.table.introduce(seed);
    assert!(seen.events.is_empty() && seen.table.stranger(&birth).is_none(), "it is known now, and nothing was told");
    let events = seen.apply(birth);
    assert_eq!(kinds(&events), [Kind::Fork]);
    assert_eq!(events[0].process.as_ref().unwrap().image.exe.as_deref(), Some("/bin/su"));
}

#[test]
fn of_one_that_becomes_another_program_nothing_before_is_looked_for() {
    let (mut seen, _) = narrowed();
    let record = execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS));
    assert_eq!(seen.table.stranger(&record).map(|stranger| stranger.comm), Some(None));
    seen.apply(record);
    // By then it is no stranger.
    assert_eq!(seen.table.stranger(&forked(fork(task(51, 120 * MS), task(50, 100 * MS)))), None);
    let (all, _) = Seen::booted();
    assert_eq!(all.table.stranger(&execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS))), None, "all are told of");
}

#[test]
fn who_killed_a_stranger_is_known() {
    let (mut seen, _) = narrowed();
    let victim = task(50, 100 * MS);
    let signal = raw::Signal {
        header: header(raw::KIND_SIGNAL, 110 * MS),
        target: victim,
        sender: task(40, 90 * MS),
        sender_comm: padded("killer"),
        signal: 15,
        code: 0,
        flags: 0,
        sender_uid: IDS.uid,
    };
    assert!(seen.apply(tracer::record::Record::Signal(signal)).is_empty());
    let events = seen.apply(exited(raw::Exit { status: 15, ..exit(victim, INIT_TASK, 120 * MS) }));
    let cause = events[0].exit().unwrap().cause.as_ref().expect("it was told before");
    assert_eq!((cause.sender_pid, cause.sender_comm.as_deref()), (Some(40), Some("killer")));
}

#[test]
fn after_a_loss_whoever_nobody_knows_may_have_been_lost() {
    let (mut seen, kernel) = narrowed();
    seen.table.note_loss();
    let events = seen.apply(execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Exec]);
    assert!(events.iter().all(is_inferred));
    seen.table.resync(vec![kernel.seed_of(INIT)], &FxHashSet::default(), 120 * MS, &mut seen.events);
    seen.events.clear();
    let events = seen.apply(execed(exec(task(60, 130 * MS), INIT_TASK, 140 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec], "all that live were found");
}
