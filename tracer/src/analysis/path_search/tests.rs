use super::*;
use crate::event::time::Timestamp;
use crate::event::{Detail, Kind, Process, Provenance};

const MS: u64 = 1_000_000;

fn event(kind: Kind, pid: u32, ms: u64) -> Event {
    let mut event = Event::new(kind.into(), Timestamp((ms * MS) as i64));
    event.boot_ns = Some(ms * MS);
    event.process = Some(Process::new(ProcessId::from_ticks(1, pid), Provenance::Kernel));
    event
}

fn failed(pid: u32, ms: u64, code: i32, path: &str, argv0: &str) -> Event {
    let mut event = event(Kind::ExecFailed, pid, ms);
    event.detail = Detail::ExecFailed(Box::new(ExecFailed {
        errno: errno::name(code),
        code,
        filename: Some(path.into()),
        argv: Some([argv0, "-x"].iter().collect()),
        ..ExecFailed::default()
    }));
    event
}

fn pass(searches: &mut Searches, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut out = Vec::new();
    events.into_iter().for_each(|event| searches.pass(event, &mut out));
    out
}

/// Returns kind, pid, attempts and paths of each event.
fn summary(events: &[Event]) -> Vec<(Kind, u32, Option<u64>, Vec<&str>)> {
    let of = |event: &Event| event.process.as_ref().unwrap().pid;
    let paths = |failed: &ExecFailed| failed.paths.is_some();
    events
        .iter()
        .map(|event| {
            let failed = event.exec_failed();
            let all = failed.filter(|failed| paths(failed)).and_then(|failed| failed.paths.as_deref());
            (
                event.kind(),
                of(event),
                failed.and_then(|failed| failed.attempts),
                all.into_iter().flatten().map(|path| &**path).collect(),
            )
        })
        .collect()
}

#[test]
fn a_search_is_one_event_before_the_one_that_ends_it() {
    let mut searches = Searches::default();
    let attempts = ["/a/x", "/b/x", "/c/x"].map(|path| failed(7, 1, errno::ENOENT, path, "x"));
    assert!(pass(&mut searches, attempts).is_empty());
    assert!(pass(&mut searches, [event(Kind::Fork, 8, 2)]).len() == 1, "others' events are not held up");
    let out = pass(&mut searches, [event(Kind::Exec, 7, 3)]);
    assert_eq!(
        summary(&out),
        [(Kind::ExecFailed, 7, Some(3), vec!["/a/x", "/b/x", "/c/x"]), (Kind::Exec, 7, None, vec![])]
    );
    assert_eq!(searches.deadline_ns().map(|ns| ns / MS), Some(1001), "an old deadline causes one needless tick");
    searches.tick(1002 * MS, &mut Vec::new());
    assert_eq!(searches.deadline_ns(), None);
}

#[test]
fn another_error_another_name_or_another_thread_ends_it() {
    let mut searches = Searches::default();
    let mut by_thread = failed(7, 4, errno::ENOENT, "/a/z", "y");
    let Detail::ExecFailed(attempt) = &mut by_thread.detail else { panic!("{by_thread:?}") };
    attempt.from_tid = Some(9);
    let out = pass(
        &mut searches,
        [
            failed(7, 1, errno::ENOENT, "/a/x", "x"),
            failed(7, 1, errno::ENOTDIR, "/b/x", "x"),
            failed(7, 2, 13, "/c/x", "x"),
            failed(7, 3, errno::ENOENT, "/a/y", "y"),
            by_thread,
            event(Kind::Exit, 7, 5),
        ],
    );
    assert_eq!(
        summary(&out),
        [
            (Kind::ExecFailed, 7, Some(2), vec!["/a/x", "/b/x"]),
            (Kind::ExecFailed, 7, None, vec![]),
            (Kind::ExecFailed, 7, None, vec![]),
            (Kind::ExecFailed, 7, None, vec![]),
            (Kind::Exit, 7, None, vec![]),
        ]
    );
    assert_eq!(out[1].exec_failed().unwrap().code, 13, "another error is reported at once, unchanged");
}

#[test]
fn an_abandoned_search_is_reported_in_time() {
    let mut searches = Searches::default();
    pass(&mut searches, [failed(7, 10, errno::ENOENT, "/a/x", "x"), failed(8, 500, errno::ENOENT, "/a/y", "y")]);
    let mut out = Vec::new();
    searches.tick(1009 * MS, &mut out);
    assert!(out.is_empty());
    searches.tick(1010 * MS, &mut out);
    assert_eq!(summary(&out), [(Kind::ExecFailed, 7, None, vec![])]);
    assert_eq!(searches.deadline_ns(), Some(1500 * MS));
    searches.end(&mut out);
    assert_eq!(out.len(), 2);
    assert_eq!(searches.deadline_ns(), None);
}

#[test]
fn nothing_is_lost_and_bounds_hold() {
    let mut searches = Searches::default();
    let many = (0..200).map(|n| failed(7, 1, errno::ENOENT, &format!("/{n}/x"), "x"));
    let mut out = pass(&mut searches, many);
    out.extend(pass(
        &mut searches,
        (0..2 * MAX_HELD as u32).map(|pid| failed(1000 + pid, 2, errno::ENOENT, "/a", "x")),
    ));
    assert!(searches.held.len() <= MAX_HELD);
    searches.end(&mut out);
    let attempts: u64 = out.iter().map(|event| event.exec_failed().unwrap().attempts.unwrap_or(1)).sum();
    assert_eq!(attempts, 200 + 2 * MAX_HELD as u64);
    assert!(out.iter().all(|event| event.exec_failed().unwrap().paths.as_ref().is_none_or(|p| p.len() <= MAX_PATHS)));
}
