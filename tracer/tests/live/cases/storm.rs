//! `tracer stream --collapse` and `--storm-alert`: shown plus folded equals everything that happened.

use std::collections::BTreeMap;
use std::path::Path;

use tracer::event::{Kind, Storm, StormPhase};

use crate::support::{Case, Need, Stream, Trace, case, check_schema};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("storm::collapse_counts_every_event_once", collapse).needs(&[Need::Alone]),
        case("storm::alert_folds_nothing", alert).needs(&[Need::Alone]),
        case("storm::calm_is_no_storm", calm).needs(&[Need::Alone]),
    ]
}

/// Number of processes in the crowd.
const MANY: u64 = 3000;

/// Runs the crowd beside a stream of this test and its descendants.
fn crowd(many: u64, option: &str) -> Trace {
    let me = std::process::id().to_string();
    let mut stream = Stream::start(&["--no-snapshot", "--pid", &me, option]);
    stream.deed("crowd", &[&many.to_string()]);
    if many >= MANY {
        // It is reported even without a new event.
        stream.events_until(&|event| event.storm().is_some_and(|storm| storm.phase == StormPhase::End));
    }
    let trace = stream.stop();
    check_schema(&trace);
    let bye = trace.bye();
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.lost, "{bye:?}");
    assert_eq!(bye.lost, 0, "{bye:?}");
    assert_eq!(bye.emitted + trace.count(Kind::Storm), trace.lines.len() as u64 - 2, "{bye:?}");
    assert_eq!(bye.folded, storms(&trace).map(|storm| storm.folded).sum::<u64>());
    trace
}

fn storms(trace: &Trace) -> impl Iterator<Item = &Storm> {
    trace.events().filter_map(|event| event.storm())
}

/// Returns how often each exit code was shown.
fn codes(trace: &Trace) -> BTreeMap<u8, u64> {
    let mut codes = BTreeMap::new();
    for exit in trace.events().filter_map(|event| event.exit()) {
        *codes.entry(exit.code.expect("no process is killed")).or_default() += 1;
    }
    codes
}

/// Returns how often the crowd itself observed each. The deed's own exit is one more.
fn true_codes(trace: &Trace) -> BTreeMap<u8, u64> {
    let mut codes: BTreeMap<u8, u64> = trace.truth.one("crowd").get("codes");
    *codes.entry(0).or_default() += 1;
    codes
}

fn collapse() {
    let trace = crowd(MANY, "--collapse=100");
    let sum = |of: fn(&Storm) -> u64| storms(&trace).map(of).sum::<u64>();
    let execs: u64 = trace.truth.one("crowd").get("execs");
    assert!(trace.bye().folded > MANY, "most of it is folded: {:?}", trace.bye());
    assert_eq!(trace.count(Kind::Fork) + sum(|storm| storm.forks), MANY + 1);
    assert_eq!(trace.count(Kind::Exec) + sum(|storm| storm.execs), execs + 1);
    assert_eq!(trace.count(Kind::Exit) + sum(|storm| storm.exits), MANY + 1);
    let mut seen = codes(&trace);
    for status in storms(&trace).flat_map(|storm| &storm.statuses) {
        *seen.entry(status.code.expect("no process is killed")).or_default() += status.exits;
    }
    assert_eq!(seen, true_codes(&trace));
    // If all programs are links to one, that one is executed.
    let program = std::fs::canonicalize("/bin/true").expect("the crowd ran it");
    for storm in storms(&trace) {
        assert_eq!(storm.commands.iter().map(|command| command.execs).sum::<u64>(), storm.execs, "{storm:?}");
        assert!(storm.commands.iter().all(|command| Path::new(&*command.exe) == program), "{storm:?}");
    }
    culprit_is_the_deed(&trace);
    // A process whose fork was shown also has its exit shown.
    for born in trace.of_kind(Kind::Fork).filter_map(|event| event.process.as_ref()) {
        assert_eq!(trace.of(born.id, Kind::Exit).len(), 1, "{born:?}");
    }
}

fn culprit_is_the_deed(trace: &Trace) {
    let lines: Vec<_> = trace.of_kind(Kind::Storm).collect();
    assert!(lines.len() >= 2, "{lines:?}");
    for line in lines {
        assert_eq!(line.process.as_ref().map(|process| process.id), Some(trace.deed()), "{line:?}");
        let ancestors = line.ancestors.as_ref().expect("a storm line has them");
        assert_eq!(ancestors.first().map(|parent| parent.pid), Some(std::process::id()), "{line:?}");
        assert_eq!(ancestors.last().map(|last| last.pid), Some(1), "{line:?}");
    }
}

fn alert() {
    let trace = crowd(MANY, "--storm-alert=100");
    assert_eq!(trace.bye().folded, 0);
    assert_eq!((trace.count(Kind::Fork), trace.count(Kind::Exit)), (MANY + 1, MANY + 1));
    assert_eq!(codes(&trace), true_codes(&trace));
    culprit_is_the_deed(&trace);
    let forks: u64 = storms(&trace).map(|storm| storm.forks).sum();
    assert!(forks > 0 && forks <= MANY, "{forks}");
}

fn calm() {
    let trace = crowd(20, "--collapse=1000");
    assert_eq!((trace.count(Kind::Storm), trace.bye().folded, trace.bye().storms), (0, 0, 0));
    assert_eq!(trace.count(Kind::Fork), 21);
}
