//! The library alone: event by event, and batch by batch.

use std::collections::BTreeSet;
use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use tracer::Tracer;
use tracer::event::id::TICK_NS;
use tracer::event::{Detail, Process};
use tracer::kernel::load::Kernel;
use tracer::kernel::options::{KernelOptions, Selection};
use tracer_common::record::RUNNING_ENDED;

use crate::support::{BOUND, Case, Guarded, SLOWNESS, case, deed_arguments, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("library::what_is_left_of_one_by_one_comes_with_the_next_batch", both_ways),
        case("snapshot::every_process_is_found_once_while_threads_exec", || exact("stays")),
        case("snapshot::every_process_is_found_once_while_threads_exec_without_a_leader", || exact("gone")),
        case("snapshot::the_iterator_and_proc_show_the_same", same_either_way),
    ]
}

/// However threads exec, the iterator reports each process once, and reports the process that execs as running.
fn exact(leader: &'static str) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let truth = place.path().join("truth");
    let execs = (1000 / SLOWNESS).to_string();
    let arguments = deed_arguments("exec-threads", &truth, &[leader.into(), execs.into()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let options = KernelOptions { selection: Selection::Only, iterate: Some(true), ..KernelOptions::default() };
    let (mut kernel, _ring) = Kernel::start(&options).expect("the BPF programs load");
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()));
    let end = Instant::now() + 3 * BOUND;
    let mut passes = 0;
    while !fs::read_to_string(&truth).is_ok_and(|said| said.contains("done")) {
        assert!(Instant::now() < end, "the iterator does not end");
        let before = listed();
        let running = kernel.running().unwrap_or_else(|| panic!("{:?}", kernel.fallbacks));
        let after = listed();
        let mut found = BTreeSet::new();
        for running in &running {
            assert!(found.insert(running.raw.task.tgid), "pass {passes}: twice: {running:?}");
        }
        let of_deed = running.iter().find(|running| running.raw.task.tgid == deed.pid());
        let raw = &of_deed.unwrap_or_else(|| panic!("pass {passes}: not found")).raw;
        assert_eq!((raw.flags & RUNNING_ENDED, raw.parent.tgid), (0, std::process::id()), "pass {passes}: {raw:?}");
        // In a container the first process may be hidden from the iterator, while `/proc` shows it.
        let missed: Vec<&u32> = before.intersection(&after).filter(|&pid| *pid != 1 && !found.contains(pid)).collect();
        assert!(missed.is_empty(), "pass {passes}: {missed:?} are missing");
        passes += 1;
    }
    eprintln!("{passes} passes");
    drop(deed.child().stdin.take());
    assert!(deed.wait(BOUND).success(), "the deed failed");
}

/// Returns the processes that `/proc` lists.
fn listed() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Both ways to find running processes agree.
fn same_either_way() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut child = Guarded::spawn(Command::new("sh").args(["-c", "read line", "", "x"]).stdin(Stdio::piped()));
    let of_child = |iterate: bool| {
        let mut tracer = Tracer::builder().iterate(iterate).start().expect("tracing begins");
        let Detail::Hello(hello) = tracer.hello().detail else { panic!("it says hello first") };
        assert!(hello.fallbacks.iter().all(|text| !text.contains("iterator")), "{:?}", hello.fallbacks);
        let snapshot = tracer.take_snapshot();
        let of_child =
            snapshot.into_iter().filter_map(|event| event.process).find(|process| process.pid == child.pid());
        let process = of_child.expect("it runs");
        // `/proc` reports the tick, the iterator the nanosecond.
        let start = process.start_time.expect("it has started").0 / TICK_NS as i64;
        (Process { start_time: None, ..process }, start)
    };
    let end = Instant::now() + BOUND;
    // It may not have exec'd yet.
    while fs::read(format!("/proc/{}/cmdline", child.pid())).is_ok_and(|line| !line.starts_with(b"sh")) {
        assert!(Instant::now() < end, "it did not exec");
    }
    let ((by_iterator, start), (by_proc, start_by_proc)) = (of_child(true), of_child(false));
    assert_eq!(by_iterator, by_proc);
    assert!(start.abs_diff(start_by_proc) <= 1, "{start} and {start_by_proc}");
    drop(child.child().stdin.take());
    child.wait(BOUND);
}

fn both_ways() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tracer = Tracer::builder().start().expect("tracing begins");
        tracer.take_snapshot();
        // Many, so that the first one leaves the ring together with others.
        for _ in 0..20 {
            assert!(run_bounded(&mut Command::new("true"), BOUND).status.success());
        }
        let first = poll_fn(|cx| Pin::new(&mut tracer).poll_next(cx)).await.expect("it continues");
        first.expect("the ring can be read");
        let mut rest = Vec::new();
        let batch = tokio::time::timeout(Duration::ZERO, tracer.next_batch(&mut rest)).await;
        batch.expect("the events are there without waiting").expect("the ring can be read");
        assert!(!rest.is_empty());
        tracer.stop(&mut rest).expect("tracing ends");
    });
}
