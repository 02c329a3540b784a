//! Programs that the kernel skips while another is preempted (Linux 7). Without preemption nothing is skipped, and
//! every skip is reported.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tracer::event::{Event, Kind};
use tracer::source::live::Live;

use crate::support::{BOUND, Case, Guarded, Need, case, deed_arguments};

pub(super) fn cases() -> Vec<Case> {
    vec![
        // Alone: a tracer that starts at the same time makes the kernel skip programs too. The tracepoint that
        // reports interpreters ahead exists since 6.9.
        case("passed_over::is_nothing", || {
            let lost = storm(true);
            assert_eq!(lost, 0, "nothing is lost");
        })
        .needs(&[Need::Alone, Need::Kernel(6, 9)]),
        // Older kernels skip nothing here.
        case("passed_over::is_told_as_lost", || {
            storm(false);
        })
        .needs(&[Need::Kernel(7, 0)]),
    ]
}

/// Number of simultaneous crowds, more than there are CPUs so that they preempt each other. Then the number of
/// children of each.
const CROWDS: usize = 4;
const MANY: u64 = 42;

/// Asserts that nothing is missing silently: of each kind, at most as many events as are reported as lost. No exited
/// process stays in the tree. Returns the number of lost events.
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
            assert!(Instant::now() < end, "the crowds do not exit");
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), tracer.next_batch(&mut events)).await {
                batch.expect("the ring can be read");
            }
        }
        tracer.stop(&mut events);
        (crowds.iter().map(Guarded::pid).collect::<BTreeSet<u32>>(), events, tracer.lost())
    });
    let losses: Vec<_> = events.iter().filter_map(|event| event.lost()).collect();
    assert_eq!(losses.iter().map(|lost| lost.total).sum::<u64>(), lost, "each loss is reported: {losses:?}");
    let reported =
        |kind: Kind| events.iter().filter(|event| event.kind() == kind && is_of(event, &crowds)).count() as u64;
    let many = CROWDS as u64 * MANY;
    for (kind, due, lost) in [
        (Kind::Fork, many, losses.iter().map(|lost| lost.forks).sum::<u64>()),
        (Kind::Exec, many / 3, losses.iter().map(|lost| lost.execs).sum()),
        (Kind::Exit, many, losses.iter().map(|lost| lost.exits).sum()),
    ] {
        let reported = reported(kind);
        eprintln!("{kind}: {reported} of {due} reported, at most {lost} lost");
        assert!(
            reported <= due && due - reported <= lost,
            "{kind}: {reported} of {due} reported, and {lost} as lost: {losses:?}"
        );
    }
    let ended = |fork: &Event| {
        let id = fork.process.as_ref().map(|process| process.id);
        events.iter().any(|event| event.kind() == Kind::Exit && event.process.as_ref().map(|process| process.id) == id)
    };
    for fork in events.iter().filter(|event| event.kind() == Kind::Fork) {
        let parent = fork.process.as_ref().and_then(|process| process.ppid);
        assert!(parent.is_none_or(|parent| !crowds.contains(&parent)) || ended(fork), "it has exited: {fork:?}");
    }
    lost
}

/// Returns true for an event that the kernel reported about a child of one of these.
fn is_of(event: &Event, parents: &BTreeSet<u32>) -> bool {
    let parent = event.process.as_ref().and_then(|process| process.ppid);
    !event.is_inferred() && parent.is_some_and(|parent| parents.contains(&parent))
}
