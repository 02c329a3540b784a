//! What the kernel passes over while a program is preempted (Linux 7): nothing where none is, and what there is is told.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tracer::event::{Event, Kind};
use tracer::source::live::Live;

use crate::support::{BOUND, Case, Guarded, Need, case, deed_arguments};

pub(super) fn cases() -> Vec<Case> {
    vec![
        // Alone: what another tracer that starts has the kernel pass over is lost as well. The tracepoint that tells of
        // interpreters ahead is of 6.9.
        case("passed_over::is_nothing", || {
            let lost = storm(true);
            assert_eq!(lost, 0, "nothing is lost");
        })
        .needs(&[Need::Alone, Need::Kernel(6, 9)]),
        // Older kernels pass over nothing here.
        case("passed_over::is_told_as_lost", || {
            storm(false);
        })
        .needs(&[Need::Kernel(7, 0)]),
    ]
}

/// Crowds at the same time, each with so many children: more than there are CPUs, so that they preempt each other.
const CROWDS: usize = 4;
const MANY: u64 = 42;

/// Nothing is missing without a word: of each kind at most as many events as are told as lost. And nobody is left as
/// alive who is not. How many are told as lost.
fn storm(unpreempted: bool) -> u64 {
    let place = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (crowds, events, lost) = runtime.block_on(async {
        let mut tracer =
            Live::builder().kernel(|options| options.unpreempted = Some(unpreempted)).start().expect("tracing begins");
        let hooks = tracer.hello().hello().expect("what is in use").hooks.clone();
        for hook in ["sched:sched_process_exit", "sched:sched_process_exec", "sched_wakeup_new"] {
            assert_eq!(hooks.iter().any(|name| name == hook), unpreempted, "{hook} is one of {hooks:?}");
        }
        tracer.take_snapshot();
        let mut crowds: Vec<Guarded> = (0..CROWDS)
            .map(|n| {
                let many = MANY.to_string();
                let arguments = deed_arguments("crowd", &place.path().join(n.to_string()), &[many.into()]);
                Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()))
            })
            .collect();
        let mut events = Vec::new();
        let end = Instant::now() + BOUND;
        while crowds.iter_mut().any(Guarded::runs) {
            assert!(Instant::now() < end, "the crowds do not end");
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), tracer.next_batch(&mut events)).await {
                batch.expect("the ring can be read");
            }
        }
        tracer.stop(&mut events);
        (crowds.iter().map(Guarded::pid).collect::<BTreeSet<u32>>(), events, tracer.lost())
    });
    let losses: Vec<_> = events.iter().filter_map(|event| event.lost()).collect();
    assert_eq!(losses.iter().map(|lost| lost.total).sum::<u64>(), lost, "each loss is told: {losses:?}");
    let told = |kind: Kind| events.iter().filter(|event| event.kind() == kind && is_of(event, &crowds)).count() as u64;
    let many = CROWDS as u64 * MANY;
    for (kind, due, lost) in [
        (Kind::Fork, many, losses.iter().map(|lost| lost.forks).sum::<u64>()),
        (Kind::Exec, many / 3, losses.iter().map(|lost| lost.execs).sum()),
        (Kind::Exit, many, losses.iter().map(|lost| lost.exits).sum()),
    ] {
        let told = told(kind);
        eprintln!("{kind}: {told} of {due} told, at most {lost} lost");
        assert!(told <= due && due - told <= lost, "{kind}: {told} of {due} told, and {lost} as lost: {losses:?}");
    }
    let ended = |born: &Event| {
        let id = born.process.as_ref().map(|process| process.id);
        events.iter().any(|event| event.kind() == Kind::Exit && event.process.as_ref().map(|process| process.id) == id)
    };
    for born in events.iter().filter(|event| event.kind() == Kind::Fork) {
        let parent = born.process.as_ref().and_then(|process| process.ppid);
        assert!(parent.is_none_or(|parent| !crowds.contains(&parent)) || ended(born), "it has ended: {born:?}");
    }
    lost
}

/// About a child of one of these, and told by the kernel.
fn is_of(event: &Event, parents: &BTreeSet<u32>) -> bool {
    let parent = event.process.as_ref().and_then(|process| process.ppid);
    !event.is_inferred() && parent.is_some_and(|parent| parents.contains(&parent))
}
