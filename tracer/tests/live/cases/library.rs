//! The library by itself: its front door, and how it finds what runs already.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracer::Filter;
use tracer::event::id::TICK_NS;
use tracer::event::{Detail, Event, Kind, Process};
use tracer::kernel::load::Kernel;
use tracer::kernel::options::{KernelOptions, Selection};
use tracer::source::live::Live;
use tracer_common::record::RUNNING_ENDED;

use crate::support::capabilities::only;
use crate::support::{
    BOUND, Case, Guarded, Need, SLOWNESS, TruthLog, case, copy_program, deed_arguments, open_directory, run_bounded,
    this_binary, truth,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("library::a_filtered_stream_balances_and_never_blocks_the_runtime", what_is_started),
        case("library::dropping_it_ends_its_thread", dropped).needs(&[Need::Alone]),
        case("library::without_privileges_the_error_names_the_remedy", not_permitted),
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
        let mut tracer =
            Live::builder().kernel(|options| options.iterate = Some(iterate)).start().expect("tracing begins");
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

/// The front door: a filter, what it starts, and totals that balance. The caller's only thread never waits.
fn what_is_started() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clock = Ticks::start();
        let filter = Filter::tree(std::process::id()).with(!Filter::kind(Kind::Reparent));
        let before = clock.count();
        let mut tracer = tracer::Tracer::builder().filter(filter).start().await.expect("tracing begins");
        assert!(clock.count() > before, "the start does not block the runtime");
        eprintln!("start: {} ticks, largest gap {:?}", clock.count() - before, clock.take_gap());

        let mut truth = Guarded::spawn(Command::new("/bin/true").stdin(Stdio::null()));
        let mut shell = Guarded::spawn(Command::new("sh").args(["-c", "/bin/true; exit 3"]).stdin(Stdio::null()));
        let pids = [truth.pid(), shell.pid()];
        let mut events: Vec<Event> = Vec::new();
        let ends = |events: &[Event]| pids.into_iter().all(|pid| of(events, pid, Kind::Exit).count() == 1);
        while !ends(&events) {
            let next = tokio::time::timeout(BOUND, tracer.next()).await.expect("both end");
            events.push(next.expect("the stream goes on"));
        }
        let before = clock.count();
        clock.take_gap();
        let bye = tracer.stop().await.expect("tracing ends");
        eprintln!("stop: {} ticks, largest gap {:?}", clock.count() - before, clock.take_gap());
        while let Some(event) = tracer.next().await {
            events.push(event);
        }

        let hello = events[0].hello().expect("it begins with hello");
        let filtering = hello.filter.as_ref().expect("there is a filter");
        assert_eq!((&*filtering.kernel, &*filtering.user), (&["pid".to_owned()][..], &["!event".to_owned()][..]));
        assert!(events[0].seq == 0 && events.is_sorted_by(|a, b| a.seq < b.seq), "numbers rise");
        assert!(events.iter().all(|event| event.kind() != Kind::Reparent));
        for (pid, code) in pids.into_iter().zip([0, 3]) {
            assert_eq!(of(&events, pid, Kind::Fork).count(), 1);
            assert!(of(&events, pid, Kind::Exec).count() >= 1);
            let exit = of(&events, pid, Kind::Exit).next().and_then(Event::exit).expect("it ended");
            assert_eq!(exit.code, Some(code));
        }
        let child = |event: &Event| event.process.as_ref().is_some_and(|process| process.ppid == Some(pids[1]));
        assert!(events.iter().any(|event| event.kind() == Kind::Exec && child(event)), "the shell's child");
        assert_eq!(events.last().and_then(Event::bye), Some(&bye), "the totals are those of bye");
        assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.dropped + bye.lost, "{bye:?}");
        let emitted = events.iter().filter(|event| !event.kind().is_framing()).count() as u64;
        assert_eq!(emitted, bye.emitted);
        for child in [&mut truth, &mut shell] {
            child.wait(BOUND);
        }
    });
}

fn of(events: &[Event], pid: u32, kind: Kind) -> impl Iterator<Item = &Event> {
    let is_of = move |event: &&Event| event.process.as_ref().is_some_and(|process| process.pid == pid);
    events.iter().filter(is_of).filter(move |event| event.kind() == kind)
}

/// A task that ticks, on the runtime's only thread.
#[derive(Clone, Default)]
struct Ticks(Arc<Mutex<(u64, Duration)>>);

impl Ticks {
    fn start() -> Self {
        let ticks = Self::default();
        let shared = ticks.clone();
        tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let (count, gap) = &mut *shared.0.lock().expect("nobody panics");
                *count += 1;
                *gap = (*gap).max(last.elapsed());
                last = Instant::now();
            }
        });
        ticks
    }

    fn count(&self) -> u64 {
        self.0.lock().expect("nobody panics").0
    }

    /// The largest time between two ticks since it was taken last.
    fn take_gap(&self) -> Duration {
        std::mem::take(&mut self.0.lock().expect("nobody panics").1)
    }
}

/// Dropped in the middle, it detaches and ends its thread.
fn dropped() {
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten();
        tasks.filter(|task| fs::read(task.path().join("comm")).is_ok_and(|comm| comm == b"tracer\n")).count()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let tracer = runtime.block_on(tracer::Tracer::builder().start()).expect("tracing begins");
    assert_ne!(threads(), 0);
    drop(tracer);
    let end = Instant::now() + BOUND;
    while threads() > 0 {
        assert!(Instant::now() < end, "a thread is left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Without privileges the error names what is lacking and the remedy.
fn not_permitted() {
    let place = open_directory();
    let truth = place.path().join("truth");
    let binary = place.path().join("live");
    copy_program(this_binary(), &binary);
    let arguments = deed_arguments("library-start", &truth, &[]);
    let mut command = Command::new(&binary);
    command.args(&arguments[1..]).stdin(Stdio::null());
    only(&mut command, 65534, &[]);
    let finished = run_bounded(&mut command, BOUND);
    assert!(finished.status.success(), "{finished:?}");
    let refused = TruthLog::read(&mut truth::reopen(&truth));
    let refused = refused.one("refused");
    let [kind, remedy, text] = ["kind", "remedy", "text"].map(|key| refused.get::<String>(key));
    assert_eq!(kind, "NotPermitted");
    assert!(remedy.starts_with("run as root") && remedy.contains("cap_bpf,cap_perfmon+ep"), "{remedy}");
    assert!(text.contains("CAP_BPF") && text.ends_with(&remedy), "{text}");
}
