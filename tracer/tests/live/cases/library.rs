//! The library by itself: events one by one, and batch by batch.

use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use tracer::Tracer;
use tracer::kernel::hierarchy::Hierarchy;
use tracer::proc;

use crate::support::{BOUND, Case, Guarded, SLOWNESS, case, deed_arguments, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("library::what_is_left_of_one_by_one_comes_with_the_next_batch", both_ways),
        case("library::one_that_execs_from_threads_is_found_alive", found_alive),
    ]
}

/// While a thread execs, its process is seen in `/proc` by way of a leader that ends, is dead, and is replaced.
fn found_alive() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let truth = place.path().join("truth");
    let execs = (1500 / SLOWNESS).to_string();
    let arguments = deed_arguments("exec-threads", &truth, &[execs.into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()));
    let (hierarchy, end) = (Hierarchy::of_proc(), Instant::now() + 3 * BOUND);
    let mut looks = 0;
    while !fs::read_to_string(&truth).is_ok_and(|said| said.contains("done")) {
        assert!(Instant::now() < end, "it does not come to its end");
        for _ in 0..200 {
            let seed = proc::read(deed.pid(), 0, &hierarchy);
            let seed = seed.unwrap_or_else(|| panic!("look {looks}: it is not found"));
            let alive = !seed.gone && !seed.exiting && !seed.process.zombie;
            assert!(alive && seed.ppid == std::process::id(), "look {looks}: {seed:?}");
            looks += 1;
        }
    }
    eprintln!("{looks} looks");
    drop(deed.child().stdin.take());
    assert!(deed.wait(BOUND).success(), "the deed failed");
}

fn both_ways() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tracer = Tracer::builder().start().expect("tracing begins");
        tracer.take_snapshot();
        // Many, so that the first comes out of the ring with others.
        for _ in 0..20 {
            assert!(run_bounded(&mut Command::new("true"), BOUND).status.success());
        }
        let first = poll_fn(|cx| Pin::new(&mut tracer).poll_next(cx)).await.expect("it goes on");
        first.expect("the ring can be read");
        let mut rest = Vec::new();
        let batch = tokio::time::timeout(Duration::ZERO, tracer.next_batch(&mut rest)).await;
        batch.expect("they are there, and nothing is waited for").expect("the ring can be read");
        assert!(!rest.is_empty());
        tracer.stop(&mut rest).expect("tracing ends");
    });
}
