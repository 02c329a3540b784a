//! The library by itself: events one by one, and batch by batch.

use std::future::poll_fn;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use futures_core::Stream as _;
use tracer::Tracer;

use crate::support::{BOUND, Case, case, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![case("library::what_is_left_of_one_by_one_comes_with_the_next_batch", both_ways)]
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
