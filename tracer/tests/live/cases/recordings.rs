//! Views and filters of a recording give the same as live ones, for the same workload.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};

use crate::support::{
    BOUND, Case, Guarded, Need, Pair, STORM_RING, Stream, Trace, case, check_schema, command, open_directory, proc,
    run_bounded, truth,
};

use super::filters::{HeldDeed, ORACLE, is_exit_of};
use super::top::figures;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("recordings::filters_choose_the_same_as_live", filters),
        case("recordings::the_tree_at_the_end_is_that_of_proc", tree),
        case("recordings::top_counts_the_same_as_live", top).needs(&[Need::Alone]),
        case("recordings::the_summary_of_a_run_is_that_of_its_recording", summary),
    ]
}

/// Writes the lines of a trace to a file.
fn written(trace: &Trace) -> (TempDir, PathBuf) {
    let place = open_directory();
    let file = place.path().join("events.jsonl");
    let text: String = trace.lines.iter().flat_map(|line| [&line.text, "\n"]).collect();
    fs::write(&file, text).unwrap();
    (place, file)
}

fn filters() {
    let mut held = HeldDeed::start(&[], "oracle", &ORACLE);
    let pid = held.pid();
    let recorder = Stream::start(&[STORM_RING]);
    let filters: [&[&str]; 4] = [
        &["--pid", &pid],
        &["--pid", &pid, "--event", "exec,exit"],
        &["--pid", &pid, "--comm", "deed"],
        &["--pid", &pid, "--exe", "*/deed", "--no-snapshot"],
    ];
    let live = filters.map(|filter| Stream::start(&[filter, &[STORM_RING, "--filter-in=user"]].concat()));
    held.go();
    held.ends();
    let deed = truth::await_said(&held.truth_file(), "deed").id();
    // Each has everything when it has the last event. The exit of the last process passes the first three filters and
    // is in all of the others.
    for stream in live.iter().chain([&recorder]) {
        stream.events_until(&|event| is_exit_of(event, deed));
    }
    let live = live.map(Stream::stop);
    let (_place, file) = written(&recorder.stop());
    for (filter, live) in filters.iter().zip(&live) {
        let mut replay = command(["stream", "--from"]);
        let replayed = Trace::printed_by(run_bounded(replay.arg(&file).args(*filter), BOUND));
        check_schema(&replayed);
        Pair::assert_same_lines(&replayed, live);
        assert!(replayed.events().filter(|event| !event.kind().is_framing()).count() > 50, "{filter:?}");
        let bye = replayed.bye();
        assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
    }
}

fn tree() {
    let recorder = Stream::start(&[]);
    // They all exit with the pipe that they read from.
    let script = "exec 3<&0; cat <&3 & cat <&3 & (cat <&3; :) & wait";
    let mut shell = Guarded::spawn(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()));
    let pid = shell.pid();
    let root = ProcessId::from_ticks(proc::stat(pid).expect("it runs").start, pid);
    let of_cat = |event: &Event| {
        let process = event.process.as_ref();
        event.kind() == Kind::Exec && process.is_some_and(|process| process.image.comm.as_deref() == Some("cat"))
            || process.is_some_and(|process| event.kind() == Kind::Fork && process.parent_id == Some(root))
    };
    // Three children of the shell; each execs or forks a cat.
    recorder.events_until_the(6, &of_cat);
    let pid = pid.to_string();
    let shown = |more: &[&str]| {
        let finished = run_bounded(command(["tree", "-p", "-U", &pid]).args(more), BOUND);
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout()
    };
    let options: [&[&str]; 4] = [&[], &["-a"], &["-u"], &["-n", "-l", "-s"]];
    let live = options.map(shown);
    let (_place, file) = written(&recorder.stop());
    let file = file.to_str().unwrap();
    for (more, live) in options.iter().zip(&live) {
        assert_eq!(&shown(&[*more, &["--from", file]].concat()), live, "{more:?}");
        assert!(live.matches("cat").count() >= 3, "{live}");
    }
    drop(shell.child().stdin.take());
    assert!(shell.wait(BOUND).success());
}

/// Number of processes in a crowd.
const MANY: u64 = 500;

fn top() {
    let place = open_directory();
    let (frames, truth_file) = (place.path().join("frames"), place.path().join("truth"));
    let me = std::process::id().to_string();
    let mut live =
        Guarded::spawn(command(["top", "-b", "-d", "0.1", "-p", &me, "-o"]).arg(&frames).stderr(Stdio::inherit()));
    let recorder = Stream::start(&[STORM_RING]);
    let end = Instant::now() + BOUND;
    let until = |what: &str, holds: &dyn Fn(&str) -> bool| {
        while !holds(&fs::read_to_string(&frames).unwrap_or_default()) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until("it counts", &|text| text.contains("In all:"));
    let arguments = crate::support::deed_arguments("crowd", &truth_file, &[MANY.to_string().into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    assert!(deed.wait(BOUND).success(), "the deed failed");
    let deed = truth::await_said(&truth_file, "deed");
    let most = |text: &str| {
        let totals = text.split("tracer top - ").filter_map(|frame| figures(frame, deed.ident().pid));
        totals.map(|(total, _)| total).max().unwrap_or(0)
    };
    until("every one is counted", &|text| most(text) >= MANY);
    recorder.events_until(&|event| is_exit_of(event, deed.id()));
    live.signal(Signal::SIGINT);
    assert!(live.wait(BOUND).success());
    let (_place, file) = written(&recorder.stop());
    let finished = run_bounded(command(["top", "-b", "-p", &me, "--from"]).arg(&file), BOUND);
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(most(&finished.stdout()), most(&fs::read_to_string(&frames).unwrap()), "{}", finished.stdout());
    // With another process, nothing counts.
    let other = run_bounded(command(["top", "-b", "-p", "1", "--comm", "no-such-name", "--from"]).arg(&file), BOUND);
    assert_eq!(most(&other.stdout()), 0);
}

fn summary() {
    let place = open_directory();
    let file = place.path().join("run.jsonl");
    let script = "true; (exit 3); sh -c 'true; true' & wait; exit 7";
    let mut run = command(["run", "-o"]);
    let finished = run_bounded(run.arg(&file).args(["--", "sh", "-c", script]), BOUND);
    assert_eq!(finished.status.code(), Some(7), "{finished:?}");
    let live = run_bounded(&mut command(["run", "--", "sh", "-c", script]), BOUND);
    let again = run_bounded(command(["tree", "--summary", "--from"]).arg(&file), BOUND);
    assert!(again.status.success(), "{again:?}");
    // Times differ between two runs. The programs and their exit statuses do not.
    let stable_parts = |text: &str| {
        let counts = text.lines().find(|line| line.contains(" exec")).expect("the totals").to_owned();
        (counts, text.lines().filter(|line| line.contains("sh -c") || line.contains("exit")).count())
    };
    assert_eq!(stable_parts(&again.stdout()), stable_parts(&live.stderr), "{}\n{}", again.stdout(), live.stderr);
}
