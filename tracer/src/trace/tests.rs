use std::io::Write as _;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::*;
use crate::event::{Detail, Hello, Kind, Process, ProcessId, Provenance, Timestamp};
use crate::filter::Filter;
use crate::pipeline::backpressure::OnSlow;

/// A runtime with a single thread, and neither timers nor I/O.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn happened(detail: Detail, pid: u32, uid: u32) -> Event {
    let mut process = Process::new(ProcessId::from_ticks(7, pid), Provenance::Kernel);
    process.uid = Some(uid);
    Event { process: Some(process), boot_ns: Some(u64::from(pid)), ..Event::new(detail, Timestamp(i64::from(pid))) }
}

/// A recording in which user 1 and user 2 fork by turns.
fn recorded(forks: u32) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let hello = Event::new(Detail::Hello(Box::<Hello>::default()), Timestamp(0));
    let forks = (1..=forks).map(|pid| happened(Detail::Fork, pid, 1 + pid % 2));
    let bye = Event::new(Detail::Bye(Box::default()), Timestamp(0));
    for event in std::iter::once(hello).chain(forks).chain([bye]) {
        serde_json::to_writer(&mut file, &event).unwrap();
        writeln!(file).unwrap();
    }
    file
}

fn of(recording: &NamedTempFile) -> Builder {
    Tracer::builder().source(Source::Recording(recording.path().into()))
}

async fn rest(tracer: &mut Tracer) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = tracer.next().await {
        events.push(event);
    }
    events
}

fn is_balanced(bye: &Bye) -> bool {
    bye.seen == bye.emitted + bye.filtered + bye.folded + bye.dropped + bye.lost
}

#[test]
fn events_are_numbered_and_the_totals_are_those_of_bye() {
    let recording = recorded(100);
    block_on(async {
        let mut tracer = of(&recording).filter(Filter::uid(1)).start().await.unwrap();
        let events = rest(&mut tracer).await;
        assert!(tracer.next().await.is_none(), "the end stays the end");
        let bye = tracer.stop().await.unwrap();
        assert_eq!(tracer.stop().await.unwrap(), bye, "it may be asked again");
        assert_eq!((events[0].kind(), events[0].seq), (Kind::Hello, 0));
        assert!(events.is_sorted_by(|a, b| a.seq < b.seq));
        let last = events.last().unwrap();
        assert_eq!((last.bye(), last.seq), (Some(&bye), 101));
        assert_eq!((bye.seen, bye.emitted, bye.filtered), (100, 50, 50));
        assert!(is_balanced(&bye));
    });
}

#[test]
fn a_trace_that_is_stopped_still_hands_out_what_had_happened() {
    // More than may wait: the rest stays in the recording.
    let recording = recorded(100_000);
    block_on(async {
        let mut tracer = of(&recording).max_memory(1 << 20).start().await.unwrap();
        assert_eq!(tracer.next().await.unwrap().kind(), Kind::Hello);
        let bye = tracer.stop().await.unwrap();
        let events = rest(&mut tracer).await;
        assert_eq!(events.len() as u64, bye.emitted + 1, "and bye");
        assert!(bye.seen < 100_000 && is_balanced(&bye), "{bye:?}");
        assert_eq!(events.last().unwrap().bye(), Some(&bye));
    });
}

#[test]
fn what_runs_is_read_from_proc_without_privileges() {
    block_on(async {
        let own = std::process::id();
        let mut tracer = Tracer::builder().source(Source::Proc).filter(Filter::pid(own)).start().await.unwrap();
        let events = rest(&mut tracer).await;
        assert_eq!(events.iter().map(Event::kind).collect::<Vec<_>>(), [Kind::Hello, Kind::Process, Kind::Bye]);
        assert_eq!(events[1].process.as_ref().unwrap().pid, own);
        assert!(is_balanced(&tracer.stop().await.unwrap()));
    });
}

#[test]
fn errors_are_reported_by_the_start() {
    let recording = recorded(1);
    let kind = |builder: Builder| block_on(builder.start()).map(drop).unwrap_err().kind();
    for filter in [
        Filter::comm("[a"),
        Filter::tree(0),
        Filter::cgroup("system.slice"),
        Filter::user("no such user"),
        !Filter::default(),
        !Filter::uid(1).with(Filter::comm("x")),
    ] {
        assert_eq!(kind(of(&recording).filter(filter.clone())), ErrorKind::Filter, "{filter:?}");
    }
    assert_eq!(kind(of(&recording).argv_max(0)), ErrorKind::Option);
    assert_eq!(kind(of(&recording).ring_bytes(5000)), ErrorKind::Option);
    assert_eq!(kind(of(&recording).on_slow(OnSlow::Collapse).report_storms(9)), ErrorKind::Option);
    let none = Tracer::builder().source(Source::Recording("/no/such/file".into()));
    assert_eq!(kind(none), ErrorKind::Recording);
    let mut text = NamedTempFile::new().unwrap();
    writeln!(text, "no event").unwrap();
    assert_eq!(kind(of(&text)), ErrorKind::Recording, "not only when it is opened");
}

#[test]
fn an_error_in_the_middle_ends_the_stream_and_is_returned_by_stop() {
    let mut recording = recorded(3);
    recording.as_file_mut().write_all(b"no event\n").unwrap();
    block_on(async {
        let mut tracer = of(&recording).start().await.unwrap();
        rest(&mut tracer).await;
        for _ in 0..2 {
            assert_eq!(tracer.stop().await.unwrap_err().kind(), ErrorKind::Recording);
        }
    });
}

#[test]
fn dropping_it_ends_its_thread() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks.filter(|task| std::fs::read(task.path().join("comm")).is_ok_and(|comm| comm == b"tracer\n")).count()
    };
    let recording = recorded(100_000);
    let tracer = block_on(of(&recording).max_memory(1 << 20).start()).unwrap();
    assert_ne!(threads(), 0, "it waits for its reader");
    drop(tracer);
    // Those of the other tests end too.
    let end = Instant::now() + Duration::from_mins(1);
    while threads() > 0 {
        assert!(Instant::now() < end, "a thread is left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_can_go_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let recording = recorded(1);
    is_send(&of(&recording).start());
    block_on(async {
        let mut tracer = of(&recording).start().await.unwrap();
        is_send(&tracer);
        is_send(&tracer.next());
        is_send(&tracer.stop());
    });
}
