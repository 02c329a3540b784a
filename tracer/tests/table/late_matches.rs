//! Late matches: when only some processes are reported, a process that starts to match later was not lost.

use rustc_hash::FxHashSet;
use tracer::event::{Event, Kind, Provenance};
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{IDS, INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, header, kinds, moves, task};
use crate::model::{INIT, Kernel, padded};

/// Returns a table that knows only init, and that receives few processes.
fn narrowed() -> (Seen, Kernel) {
    let (mut seen, kernel) = Seen::booted();
    seen.table.forget_unmatched(|process| process.pid() == 1);
    (seen, kernel)
}

fn is_inferred(event: &Event) -> bool {
    event.process.as_ref().unwrap().inferred
}

#[test]
fn others_are_forgotten_and_the_kept_ones_keep_their_parent() {
    let mut seen = Seen::with(TableOptions::default());
    let kernel = Kernel::boot(1000);
    seen.table.seed(vec![kernel.seed_of(INIT)], &mut seen.events);
    let (late, kept, child) = (task(40, 10 * MS), task(50, 20 * MS), task(51, 30 * MS));
    for (process, parent) in [(late, INIT_TASK), (kept, late), (child, kept)] {
        seen.apply(forked(fork(process, parent)));
    }
    seen.table.forget_unmatched(|process| process.pid() != 40);
    assert_eq!((seen.table.len_living(), seen.table.len_dead()), (3, 0));
    assert!(seen.table.by_pid(40).is_none());
    assert_eq!((seen.parent(50), seen.parent(51)), (Some(40), Some(50)), "its parent's id is still known");
    let events = seen.apply(exited(exit(kept, late, 100 * MS)));
    assert_eq!(kinds(&events), [Kind::Exit, Kind::Reparent]);
    assert_eq!(moves(&events)[0].2, 1);
}

#[test]
fn a_late_match_has_no_earlier_line_and_was_not_lost() {
    let (mut seen, _) = narrowed();
    let (late, parent) = (task(50, 100 * MS), task(40, 90 * MS));
    let events = seen.apply(execed(exec(late, parent, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec]);
    assert!(!is_inferred(&events[0]));
    assert_eq!((seen.parent(50), seen.table.stats().inferred), (Some(40), 0));
    let events = seen.apply(exited(exit(task(60, 100 * MS), parent, 120 * MS)));
    assert_eq!(kinds(&events), [Kind::Exit]);
    assert!(!is_inferred(&events[0]));
}

#[test]
fn a_late_match_is_looked_up_before_its_child_is_reported() {
    let (mut seen, mut kernel) = narrowed();
    let nr = kernel.fork(INIT);
    let creator = kernel.task(nr);
    let fork_record = forked(fork(task(70, 900 * MS), creator));
    let late = seen.table.late_match(&fork_record).expect("it is unknown");
    assert_eq!((late.pid, late.comm), (creator.tgid, Some(padded("sh"))));
    let mut seed = kernel.seed_of(nr);
    seed.process.image_mut().exe = Some("/bin/su".into());
    seed.process.source = Provenance::Procfs;
    seen.table.add_late_match(seed);
    assert!(
        seen.events.is_empty() && seen.table.late_match(&fork_record).is_none(),
        "it is known now, and nothing was reported"
    );
    let events = seen.apply(fork_record);
    assert_eq!(kinds(&events), [Kind::Fork]);
    assert_eq!(events[0].process.as_ref().unwrap().image.exe.as_deref(), Some("/bin/su"));
}

#[test]
fn nothing_is_looked_up_for_a_late_match_that_execs() {
    let (mut seen, _) = narrowed();
    let record = execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS));
    assert_eq!(seen.table.late_match(&record).map(|late| late.comm), Some(None));
    seen.apply(record);
    // By then it is known.
    assert_eq!(seen.table.late_match(&forked(fork(task(51, 120 * MS), task(50, 100 * MS)))), None);
    let (all, _) = Seen::booted();
    assert_eq!(all.table.late_match(&execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS))), None, "all are reported");
}

#[test]
fn the_killer_of_a_late_match_is_known() {
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
    let cause = events[0].exit().unwrap().cause.as_ref().expect("its signal was reported before");
    assert_eq!((cause.sender_pid, cause.sender_comm.as_deref()), (Some(40), Some("killer")));
}

#[test]
fn after_a_loss_an_unknown_process_may_have_been_lost() {
    let (mut seen, kernel) = narrowed();
    seen.table.note_loss();
    let events = seen.apply(execed(exec(task(50, 100 * MS), INIT_TASK, 110 * MS)));
    assert_eq!(kinds(&events), [Kind::Process, Kind::Exec]);
    assert!(events.iter().all(is_inferred));
    seen.table.resync(vec![kernel.seed_of(INIT)], &FxHashSet::default(), 120 * MS, &mut seen.events);
    seen.events.clear();
    let events = seen.apply(execed(exec(task(60, 130 * MS), INIT_TASK, 140 * MS)));
    assert_eq!(kinds(&events), [Kind::Exec], "all running processes were found");
}
