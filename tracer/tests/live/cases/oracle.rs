//! Randomised workloads: the stream must equal the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use tracer::event::Kind;
use tracer::event::id::ProcessId;

use crate::support::{
    Case, Guarded, Ident, Run, SLOWNESS, Stream, Trace, TruthLine, case, check_sound, deed_arguments,
};

use super::exec_argv::{argv, decode};
use super::exit::assert_status;
use super::tree::{check_adoptions, check_forks};

/// Approximate number of processes of a run.
const BUDGET: &str = "2500";

/// Time limit on a busy machine.
const LONG: Duration = Duration::from_secs(150 * SLOWNESS as u64);

pub(super) fn cases() -> Vec<Case> {
    // Any number works. These ten run every time.
    let seeds: Vec<u64> = match std::env::var("TRACER_SEED") {
        Ok(seeds) => seeds.split(',').map(|seed| seed.parse().expect("TRACER_SEED holds numbers")).collect(),
        Err(_) => (1..=10).map(|n: u64| n * 7919).collect(),
    };
    seeds
        .into_iter()
        .map(|seed| {
            // Most are traced in isolation, some among all events of the machine.
            case(format!("oracle::seed_{seed}"), move || if seed % 3 == 2 { among_all(seed) } else { isolated(seed) })
        })
        .collect()
}

fn isolated(seed: u64) {
    let trace = Run::deed_with("oracle", &[&seed.to_string(), BUDGET]).bound(LONG).trace();
    check(seed, &trace);
}

/// A machine-wide tracer that shows only this subtree. It starts after the root of the subtree.
fn among_all(seed: u64) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let truth_file = place.path().join("truth");
    let arguments = deed_arguments("oracle", &truth_file, &[seed.to_string().into(), BUDGET.into(), "held".into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()));
    let stream = Stream::start(&["--pid", &deed.pid().to_string()]);
    let mut go = deed.child().stdin.take().expect("it was piped");
    go.write_all(b"go\n").expect("it reads");
    let status = deed.wait(LONG);
    assert!(status.success(), "the deed failed");
    let trace = stream.with_truth(&truth_file).stop();
    check(seed, &trace);
}

/// Compares every event with the log, and the log with every event.
fn check(seed: u64, trace: &Trace) {
    eprintln!("seed {seed}: {} lines in the log, {} in the stream", trace.truth.lines.len(), trace.lines.len());
    check_sound(trace);
    let born: BTreeSet<ProcessId> = trace.truth.all("born").iter().map(|said| said.id()).collect();
    let reported: BTreeSet<ProcessId> = ids(trace, Kind::Fork).collect();
    if let Some(extra) = reported.difference(&born).find(|id| **id != trace.deed()) {
        // A child that failed before it could write a line is still reaped.
        let ended: Vec<_> = trace.truth.all("ended").into_iter().filter(|said| said.id() == *extra).collect();
        panic!("seed {seed}: never forked: {:?}, which exited so: {ended:?}", trace.process(*extra, Kind::Fork));
    }
    check_forks(trace);
    check_adoptions(trace);
    check_execs(trace);
    let ended: BTreeMap<ProcessId, &TruthLine> =
        trace.truth.all("ended").into_iter().map(|said| (said.id(), said)).collect();
    assert!(born.iter().all(|id| ended.contains_key(id)), "seed {seed}: the log is incomplete");
    for (id, said) in &ended {
        assert_status(trace.exit(*id), said.get("status"));
        let by: Ident = said.get("by");
        assert_eq!(trace.process(*id, Kind::Exit).parent_id, Some(by.id()), "its last parent reaped it: {said:?}");
    }
    let exits: BTreeSet<ProcessId> = ids(trace, Kind::Exit).filter(|id| *id != trace.deed()).collect();
    assert!(exits.iter().all(|id| ended.contains_key(id)), "seed {seed}: exited only in the stream");
    for said in trace.truth.all("killed") {
        let by: Ident = said.get("by");
        let cause = trace.exit(said.id()).cause.as_ref().unwrap_or_else(|| panic!("no cause: {said:?}"));
        assert_eq!((cause.sender_id, cause.kernel, cause.oom), (Some(by.id()), false, false), "{said:?}");
    }
}

fn ids(trace: &Trace, kind: Kind) -> impl Iterator<Item = ProcessId> {
    trace.of_kind(kind).filter_map(|event| Some(event.process.as_ref()?.id))
}

/// Compares the execs of each process, in order, with their arguments byte by byte.
fn check_execs(trace: &Trace) {
    let mut truth: BTreeMap<ProcessId, Vec<&TruthLine>> = BTreeMap::new();
    for said in trace.truth.all("exec") {
        truth.entry(said.id()).or_default().push(said);
    }
    let by_exec: BTreeSet<ProcessId> = ids(trace, Kind::Exec).filter(|id| *id != trace.deed()).collect();
    assert!(by_exec.iter().all(|id| truth.contains_key(id)), "an exec that did not happen: {by_exec:?}");
    for (id, execs) in truth {
        let reported = trace.of(id, Kind::Exec);
        assert_eq!(reported.len(), execs.len(), "{id:?}: {execs:?}");
        for (event, said) in reported.into_iter().zip(execs) {
            let (process, exec, info) = crate::support::parts(event);
            let true_argv: Vec<Vec<u8>> = said.get::<Vec<String>>("argv").iter().map(|text| decode(text)).collect();
            assert_eq!(argv(process), true_argv, "{said:?}");
            assert_eq!((info.argc as usize, info.truncated), (true_argv.len(), false), "{said:?}");
            // A vfork child cannot name its thread; it is the only one.
            let from_tid: Option<u32> = said.get::<Option<u32>>("from_tid").filter(|tid| *tid != 0);
            assert_eq!(exec.from_tid, from_tid, "{said:?}");
        }
    }
}
