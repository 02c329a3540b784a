//! Execs that fail.

use tracer::event::{ArgvInfo, Capture, Kind};
use tracer::record::text::Text;
use tracer::record::{Captured, Record};
use tracer_common::record as raw;

use crate::kit::{INIT_TASK, MS, Seen, exec, exec_failed, execed, exit, exited, fork, forked, kinds, task};

#[test]
fn a_failed_exec_reports_the_request_and_changes_nothing() {
    let mut seen = Seen::new();
    let shell = task(50, 100 * MS);
    seen.apply(forked(fork(shell, INIT_TASK)));
    seen.apply(execed(exec(shell, INIT_TASK, 101 * MS)));
    let events = seen.apply(Record::ExecFailed(exec_failed(shell, INIT_TASK, 102 * MS).into()));
    assert_eq!(kinds(&events), [Kind::ExecFailed]);
    let (process, failed) = (events[0].process.as_ref().unwrap(), events[0].exec_failed().unwrap());
    assert_eq!((process.pid, process.execs, process.image.exe.as_deref()), (50, 1, Some("/bin/ls")), "it is unchanged");
    assert_eq!((failed.errno.as_str(), failed.code, failed.filename.as_deref()), ("ENOENT", 2, Some("/bin/nothing")));
    assert_eq!(failed.argv, Some(["nothing", "-x"].iter().collect()));
    assert_eq!((failed.dirfd, failed.from_tid, failed.attempts), (None, None, None));
    let whole = ArgvInfo { argc: 2, bytes: 11, captured: 11, truncated: false, reason: None };
    assert_eq!(events[0].argv_info(), Some(&whole));
    assert_eq!((events[0].boot_ns, events[0].cpu), (Some(102 * MS), Some(2)));
}

#[test]
fn its_unusual_values_are_reported() {
    let mut seen = Seen::new();
    let shell = task(50, 100 * MS);
    seen.apply(forked(fork(shell, INIT_TASK)));
    let mut failed = exec_failed(raw::TaskRef { tid: 52, ..shell }, INIT_TASK, 102 * MS);
    failed.raw.header.kind = raw::KIND_EXECAT_FAILED;
    (failed.raw.dirfd, failed.raw.errno, failed.raw.euid) = (7, 511, 0);
    failed.argv.capture = Some(Capture::Cut);
    failed.filename = Captured { value: Some(Text::new(b"\xff")), capture: Some(Capture::Cut) };
    let event = seen.apply(Record::ExecFailed(failed.into())).remove(0);
    let failed = event.exec_failed().unwrap();
    assert_eq!((failed.dirfd, failed.from_tid, &*failed.errno), (Some(7), Some(52), "E511"));
    assert_eq!((failed.filename.as_deref(), failed.filename_b64.as_deref()), (Some("\u{fffd}"), Some("/w==")));
    assert_eq!(failed.filename_capture, Some(Capture::Cut));
    assert!(event.argv_info().is_some_and(|info| info.truncated && info.reason == Some(Capture::Cut)));
    assert_eq!(event.process.as_ref().unwrap().euid, None, "the ids of another thread are not the process's");
}

#[test]
fn an_unknown_process_becomes_known() {
    let mut seen = Seen::new();
    let father = task(40, 90 * MS);
    seen.apply(forked(fork(father, INIT_TASK)));
    let events = seen.apply(Record::ExecFailed(exec_failed(task(50, 100 * MS), father, 102 * MS).into()));
    assert_eq!(kinds(&events), [Kind::Process, Kind::ExecFailed]);
    let process = events[1].process.as_ref().unwrap();
    assert!(process.inferred && process.ppid == Some(40) && process.uid == Some(1000), "{process:?}");
    assert!(process.sid.is_none() && process.loginuid.is_none(), "not reported");
}

#[test]
fn an_exited_process_has_no_failed_exec() {
    let mut seen = Seen::new();
    let shell = task(50, 100 * MS);
    seen.apply(forked(fork(shell, INIT_TASK)));
    seen.apply(exited(exit(shell, INIT_TASK, 101 * MS)));
    assert!(seen.apply(Record::ExecFailed(exec_failed(shell, INIT_TASK, 102 * MS).into())).is_empty());
}
