//! `tracer top`: short-lived processes count in full, for the right process.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{BOUND, Case, Guarded, Need, TruthLog, case, command, deed_arguments, open_directory, truth};

pub(super) fn cases() -> Vec<Case> {
    vec![case("top::every_short_life_counts_for_who_made_it", every_life).needs(&[Need::Alone])]
}

/// Number of processes in the crowd: more than top could find in `/proc`.
const MANY: u64 = 2000;

/// Returns the figures of a process in one frame: TOTAL, and whether it is named as the culprit.
pub(super) fn figures(frame: &str, pid: u32) -> Option<(u64, bool)> {
    let row = frame.lines().find(|line| line.split_whitespace().next() == Some(&pid.to_string()))?;
    let total = row.split_whitespace().nth(7)?.replace(',', "").parse().expect("TOTAL is a number");
    Some((total, frame.lines().any(|line| line.contains(&format!(" % from {pid} ")))))
}

fn every_life() {
    let place = open_directory();
    let (frames, truth_file) = (place.path().join("pictures"), place.path().join("truth"));
    let me = std::process::id().to_string();
    let mut top =
        Guarded::spawn(command(["top", "-b", "-d", "0.1", "-p", &me, "-o"]).arg(&frames).stderr(Stdio::inherit()));
    let written = || fs::read_to_string(&frames).unwrap_or_default();
    let end = Instant::now() + BOUND;
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < end, "{what}: {}", written());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until("it counts", &|| written().contains("In all:"));
    let arguments = deed_arguments("crowd", &truth_file, &[MANY.to_string().into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    assert!(deed.wait(BOUND).success(), "the deed failed");
    let deed = TruthLog::read(&mut truth::reopen(&truth_file)).one("deed").ident().pid;
    let figures_of_deed = || {
        let written = written();
        let rows = written.split("tracer top - ").filter_map(|frame| figures(frame, deed));
        rows.fold((0, false), |(total, named), (more, again)| (total.max(more), named || again))
    };
    until("every one is reported", &|| figures_of_deed().0 >= MANY);
    assert_eq!(figures_of_deed(), (MANY, true), "each once, with the culprit named above the table");
    top.signal(Signal::SIGINT);
    assert!(top.wait(BOUND).success());
}
