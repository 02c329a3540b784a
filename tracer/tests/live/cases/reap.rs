//! Which process reaps a zombie, with `--reap`.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};

use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind, Reap};

use crate::support::truth::await_said;
use crate::support::{
    BOUND, Case, Guarded, Ident, Run, Stream, TruthLine, case, check_sound, deed_arguments, open_directory,
};

use super::stream::Storm;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("reap::a_parent_that_never_waits_is_named", || neglect(false)),
        case("reap::of_zombies_found_at_the_start", || neglect(true)),
        case("reap::by_the_subreaper_that_inherited", adopted),
        case("reap::of_children_that_nobody_waits_for", ignored),
        case("reap::of_a_parent_that_is_gone_as_well", gone),
        case("reap::only_descendants_of_the_command", of_a_run),
        case("reap::only_on_request", only_on_request),
    ]
}

fn is(event: &Event, kind: Kind, id: ProcessId) -> bool {
    event.kind() == kind && event.process.as_ref().is_some_and(|process| process.id == id)
}

/// Returns true if the parent reaped it, as far as that is known. A kernel that hides its own tasks from all programs
/// reports nothing while it interrupts such a task. Then `/proc` reports the reap later, when the parent may be gone.
fn is_by(reap: &Reap, parent: ProcessId) -> bool {
    reap.by_id.map_or(reap.inferred, |by| by == parent)
}

/// Three children stay zombies for a while; then they are reaped.
fn neglect(before: bool) {
    let place = open_directory();
    let (truth, release) = (place.path().join("truth"), place.path().join("release"));
    let deed = deed_arguments("reap-neglect", &truth, &[release.clone().into()]);
    let options = ["--reap", "--zombie-after=300ms", "--event=process,fork,exit,reap,zombie"];
    let spawn = || Guarded::spawn(Command::new(&deed[0]).args(&deed[1..]).stdin(Stdio::null()));
    let (mut parent, stream) = if before {
        let parent = spawn();
        await_said(&truth, "ready");
        (parent, Stream::start(&options))
    } else {
        let stream = Stream::start(&options);
        (spawn(), stream)
    };
    await_said(&truth, "ready");
    let stream = stream.with_truth(&truth);
    let me = stream.truth().one("deed").id();
    let left: Vec<ProcessId> = stream.truth().all("left").into_iter().map(TruthLine::id).collect();
    let mut unreaped = Vec::new();
    for &id in &left {
        let events = stream.events_until(&|event| is(event, Kind::Zombie, id));
        let event = events.last().expect("the expected event");
        let zombie = event.zombie().expect("a zombie line has `zombie`");
        assert_eq!((zombie.parent_pid, zombie.parent_id), (Some(me.pid()), Some(me)), "{zombie:?}");
        assert!(zombie.parent_comm.is_some());
        assert!(zombie.zombie_ns >= 300_000_000, "not too early: {zombie:?}");
        unreaped.push(zombie.unreaped);
    }
    // When the last is reported, all three are zombies.
    assert_eq!(unreaped.iter().max(), Some(&(left.len() as u64)), "{unreaped:?}");
    fs::write(&release, "").expect("a new file");
    assert!(parent.wait(BOUND).success());
    for &id in &left {
        let events = stream.events_until(&|event| is(event, Kind::Reap, id));
        let reap = events.last().and_then(|event| event.reap()).expect("a reap line has `reap`");
        if reap.inferred {
            continue;
        }
        assert_eq!((reap.by_pid, reap.by_id), (Some(me.pid()), Some(me)), "{reap:?}");
        assert_eq!(reap.zombie_ns.is_some(), !before, "the exit time of a zombie that was found is unknown: {reap:?}");
        assert!(reap.zombie_ns.is_none_or(|ns| ns >= 300_000_000), "{reap:?}");
    }
    let trace = stream.stop();
    for id in left {
        assert_eq!((trace.of(id, Kind::Zombie).len(), trace.of(id, Kind::Reap).len()), (1, 1), "each once");
    }
    assert_eq!(trace.bye().reaps, trace.count(Kind::Reap));
    assert_eq!(trace.bye().lost, 0);
}

fn adopted() {
    let mut stream = Stream::start(&["--reap", "--no-snapshot"]);
    stream.deed("reap-adopted", &[]);
    let (me, grandchild) = (stream.truth().one("deed").id(), stream.truth().one("adopted").id());
    let events = stream.events_until(&|event| is(event, Kind::Reap, grandchild));
    let event = events.last().expect("the expected event");
    assert!(event.reap().is_some_and(|reap| is_by(reap, me)), "its new parent reaped it: {event:?}");
    assert_ne!(event.process.as_ref().and_then(|process| process.creator_id), Some(me));
    stream.stop();
}

fn ignored() {
    let mut stream = Stream::start(&["--reap", "--no-snapshot"]);
    stream.deed("reap-ignored", &[]);
    let me = stream.truth().one("deed").id();
    let children: Vec<ProcessId> = stream.truth().all("child").into_iter().map(TruthLine::id).collect();
    assert_eq!(children.len(), 3);
    for id in children {
        let events = stream.events_until(&|event| is(event, Kind::Reap, id));
        let reap = events.last().and_then(|event| event.reap()).expect("a reap line has `reap`");
        assert!(is_by(reap, me), "reaped by {me}: {reap:?}");
    }
    stream.stop();
}

/// When the kernel reports the child, the memory of its parent may be that of a fork in progress. For a while that is
/// a copy of the forking process.
fn gone() {
    let mut stream = Stream::start(&["--reap", "--zombie-after=1s", "--no-snapshot", "--event=reap"]);
    stream.deed("reap-gone", &[]);
    let parents: HashMap<ProcessId, ProcessId> = stream
        .truth()
        .all("child")
        .into_iter()
        .map(|said| (said.get::<Ident>("child").id(), said.get::<Ident>("parent").id()))
        .collect();
    assert!(!parents.is_empty());
    let parent_of = |event: &Event| parents.get(&event.process.as_ref()?.id);
    let events = stream.events_until_the(parents.len(), &|event| parent_of(event).is_some());
    let wrong: Vec<String> = events
        .iter()
        .filter_map(|event| Some((event.reap()?, parent_of(event)?)))
        .filter(|(reap, parent)| !is_by(reap, **parent))
        .map(|(reap, parent)| format!("{parent}: {reap:?}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}, their parent and what is reported:\n{}",
        wrong.len(),
        parents.len(),
        wrong.join("\n")
    );
    stream.stop();
}

/// Exits of other processes never leave the kernel.
fn of_a_run() {
    let storm = Storm::start();
    let trace = Run::deed_with("reap-reported", &["@events"]).option("--reap").trace();
    storm.stop();
    check_sound(&trace);
    assert_eq!(trace.bye().filtered, 0, "{:?}", trace.bye());
    let reap = trace.one(trace.truth.one("child").id(), Kind::Reap).reap().cloned().expect("a reap line has `reap`");
    assert_eq!(reap.by_id, Some(trace.deed()));
}

fn only_on_request() {
    let trace = Run::deed_with("exit-codes", &[]).trace();
    assert_eq!(trace.count(Kind::Reap) + trace.count(Kind::Zombie), 0);
    assert!(!trace.hello().hooks.iter().any(|hook| hook.contains("free")), "{:?}", trace.hello().hooks);
}
