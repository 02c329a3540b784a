//! To which container a process belongs: real runtimes and engines at full speed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use tracer::event::{Event, Kind, Origin};

use crate::support::engines::{
    Containerd, Docker, Engine, Podman, Runtime, no_containerd, no_crun, no_docker, no_podman, no_podman_by_crun,
    no_runc,
};
use crate::support::{BOUND, Case, Need, Stream, Trace, case, check_schema, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    let runc = &[Need::Check(no_runc)];
    vec![
        case("container::two_hundred_of_runc", || all_are_known("runc", &Runtime::runc(), 200)).needs(runc),
        case("container::fifty_of_crun", || all_are_known("crun", &Runtime::crun(), 50)).needs(&[Need::Check(no_crun)]),
        case("container::fifty_of_podman", || all_are_known("podman", &Podman::by_runc(), 50))
            .needs(&[Need::Check(no_podman)]),
        case("container::fifty_of_podman_by_crun", || all_are_known("podman-crun", &Podman::by_crun(), 50))
            .needs(&[Need::Check(no_podman_by_crun)]),
        case("container::fifty_of_docker", || all_are_known("docker", &Docker::start(), 50))
            .needs(&[Need::Check(no_docker)]),
        case("container::twenty_of_containerd", || all_are_known("ctr", &Containerd::start(), 20))
            .needs(&[Need::Check(no_containerd)]),
        case("container::what_an_entrypoint_starts", children).needs(runc),
        case("container::one_that_is_there_already", found).needs(runc),
        case("container::program_put_into_one", entered_by_exec).needs(runc),
        case("container::filters", filters).needs(runc),
        case("container::run_follows_into_one", run_follows).needs(runc),
    ]
}

/// Returns the lines of each process, in order.
pub(super) fn by_process(events: &[Event]) -> BTreeMap<String, Vec<&Event>> {
    let mut out = BTreeMap::<String, Vec<&Event>>::new();
    for event in events {
        if let Some(process) = &event.process {
            out.entry(process.id.to_string()).or_default().push(event);
        }
    }
    out
}

pub(super) fn container(event: &Event) -> Option<&str> {
    Some(event.process.as_ref()?.container_id()?)
}

/// Returns the last argument of a process. The tests give each container a separate one.
pub(super) fn mark(event: &Event) -> Option<&str> {
    event.process.as_ref()?.image.argv.as_ref()?.last()
}

pub(super) fn events(trace: &Trace) -> Vec<Event> {
    trace.lines.iter().map(|line| line.event.clone()).collect()
}

/// Runs `count` containers of `/bin/true`, two at a time. Every line of every process in them has the id that the
/// engine gave the container, from the first line on.
fn all_are_known(called: &str, engine: &dyn Engine, count: usize) {
    // The ring is large enough for everything else on the machine.
    let stream = Stream::start(&["--no-snapshot", "--ring-size", "64M"]);
    let tag = format!("{called}-{}", std::process::id());
    let one_in_two = |first: usize| {
        let names = (first..count).step_by(2).map(|n| format!("{tag}-{n}"));
        names.map(|name| (engine.run(&name, &["/bin/true", &name]), name)).collect::<Vec<_>>()
    };
    let ids: BTreeMap<String, String> = std::thread::scope(|scope| {
        let other = scope.spawn(|| one_in_two(1));
        let mine = one_in_two(0);
        let both = mine.into_iter().chain(other.join().expect("it does not panic"));
        both.map(|(id, name)| (name, id)).collect()
    });
    assert_eq!(ids.len(), count);
    let trace = stream.stop();
    check_schema(&trace);
    assert_eq!(trace.bye().lost, 0, "nothing was lost");
    let events = events(&trace);
    let mut seen = BTreeSet::new();
    for lines in by_process(&events).values() {
        let Some(id) = lines.iter().filter(|line| line.kind() == Kind::Exec).find_map(|line| ids.get(mark(line)?))
        else {
            continue;
        };
        // The command line that starts the container ends like that too, but is outside.
        if !is_inside(lines) {
            continue;
        }
        assert_eq!(lines[0].kind(), Kind::Fork, "its fork was recorded");
        for line in lines {
            assert_eq!(container(line), Some(id.as_str()), "{line:?}");
            assert_eq!(line.process.as_ref().unwrap().origin, Some(Origin::Entrypoint), "{line:?}");
        }
        seen.insert(id.clone());
    }
    assert_eq!(seen, ids.values().cloned().collect::<BTreeSet<_>>(), "each container's entrypoint was recorded");
    for (name, id) in &ids {
        assert_eq!(life_of(&events, id), WHOLE_LIFE, "of {id}");
        is_named(&events, id, engine.image().map(|image| (name.as_str(), image)));
    }
    all_have_a_container(&events, &ids.values().map(String::as_str).collect());
}

/// The events of a container that is created, runs to its exit, and is removed.
const WHOLE_LIFE: [Kind; 4] = [Kind::ContainerCreate, Kind::ContainerStart, Kind::ContainerExit, Kind::ContainerRemove];

/// Returns the lines about the container itself.
pub(super) fn about<'a>(events: &'a [Event], id: &str) -> impl Iterator<Item = &'a Event> {
    events.iter().filter(move |event| event.container().is_some_and(|container| *container.id == *id))
}

/// Returns the kinds of its events. `container_info` is left out, because its time depends on when the files are
/// read.
pub(super) fn life_of(events: &[Event], id: &str) -> Vec<Kind> {
    about(events, id).map(tracer::event::Event::kind).filter(|kind| *kind != Kind::ContainerInfo).collect()
}

/// Asserts that the exit of a container has the name and image from its engine. The content of its files must be
/// reported before.
pub(super) fn is_named(events: &[Event], id: &str, wanted: Option<(&str, &str)>) {
    let lines: Vec<&Event> = about(events, id).collect();
    let end = lines.iter().find(|line| line.kind() == Kind::ContainerExit).expect("it exited");
    let known = end.container().unwrap();
    let (name, image) = wanted.unzip();
    assert_eq!((known.name.as_deref(), known.image.as_deref()), (name, image), "{known:?}");
    assert!(known.runtime.as_deref().is_some_and(|runtime| ["runc", "crun"].contains(&runtime)), "{known:?}");
    let info = lines.iter().take_while(|line| line.kind() != Kind::ContainerExit);
    let info = info.filter(|line| line.kind() == Kind::ContainerInfo).last().expect("its files were read");
    let info = info.container().unwrap();
    assert!(info.args.as_ref().is_some_and(|args| !args.is_empty()) && info.bundle.is_some(), "{info:?}");
}

/// Returns true if it forked into a nested pid namespace.
pub(super) fn is_inside(lines: &[&Event]) -> bool {
    lines[0].process.as_ref().is_some_and(|process| process.ns_pids.is_some())
}

/// Asserts that all processes that forked in a nested pid namespace below one of ours have a container, and that it
/// is one of ours.
fn all_have_a_container(events: &[Event], ids: &BTreeSet<&str>) {
    let mut inside = 0;
    let all = by_process(events);
    let born = |id: String| all.get(&id).is_some_and(|lines| lines[0].kind() == Kind::Fork);
    for lines in all.values().filter(|lines| lines[0].kind() == Kind::Fork && is_inside(lines)) {
        // Skip containers that another test was creating when tracing began (docs/limits.md).
        let parent = lines[0].process.as_ref().and_then(|process| process.parent_id);
        if !parent.is_some_and(|parent| born(parent.to_string())) {
            continue;
        }
        // Other tests and users may use pid namespaces too. Only processes that runc or crun made count.
        let made_by_runtime = lines[0]
            .process
            .as_ref()
            .and_then(|process| process.image.comm.as_deref())
            .is_some_and(|comm| comm.starts_with("runc") || comm.starts_with("crun"));
        if made_by_runtime {
            inside += 1;
            let known = lines.iter().map(|line| container(line)).collect::<Vec<_>>();
            assert!(known.iter().all(Option::is_some), "unknown: {lines:?}");
            // A process that belongs to none of ours belongs to another test.
            assert!(known.iter().all(|id| *id == known[0]), "it does not change: {known:?}");
        }
    }
    assert!(inside >= ids.len(), "{inside} processes in {} containers", ids.len());
}

/// Descendants of the entrypoint are in the container from their fork on.
fn children() {
    let runtime = Runtime::runc();
    let stream = Stream::start(&["--no-snapshot"]);
    let name = format!("children-{}", std::process::id());
    let script = format!("/bin/sh -c '/bin/true {name}; /bin/true {name}' ; /bin/true {name}");
    runtime.run(&name, &["/bin/sh", "-c", &script]);
    let trace = stream.stop();
    let events = events(&trace);
    let all = by_process(&events);
    let ours: Vec<_> =
        all.values().filter(|lines| lines.iter().any(|line| mark(line) == Some(&name) && is_inside(lines))).collect();
    let trues =
        ours.iter().filter(|lines| lines.iter().any(|line| line.kind() == Kind::Exec && mark(line) == Some(&name)));
    assert!(trues.count() >= 3, "three programs ran");
    for line in ours.iter().copied().flatten() {
        assert_eq!(container(line), Some(name.as_str()), "{line:?}");
        assert_eq!(line.process.as_ref().unwrap().origin, Some(Origin::Entrypoint), "{line:?}");
    }
}

/// A container that runs when tracing begins: its processes are found with it, and their children have it.
fn found() {
    let runtime = Runtime::runc();
    let name = format!("tracer-found-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/sleep", "300"]);
    // tracer looks for the state in runc's default directory.
    let run = |arguments: &[&str]| {
        let finished = run_bounded(Command::new("runc").args(arguments).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
    };
    run(&["run", "--detach", "--bundle", &bundle.display().to_string(), &name]);
    let stream = Stream::start(&[]);
    run(&["delete", "--force", &name]);
    let trace = stream.stop();
    let events = events(&trace);
    let sleeps: Vec<&Event> = events
        .iter()
        .filter(|event| {
            event.process.as_ref().and_then(|process| process.cgroup.as_deref()) == Some(&format!("/{name}"))
        })
        .collect();
    let kinds: Vec<Kind> = sleeps.iter().map(|event| event.kind()).collect();
    assert!(kinds.contains(&Kind::Process) && kinds.contains(&Kind::Exit), "{kinds:?}");
    for line in sleeps {
        assert_eq!(container(line), Some(name.as_str()), "{line:?}");
    }
}

/// `runc exec`: its process is in the container from its first line on.
fn entered_by_exec() {
    let runtime = Runtime::runc();
    let name = format!("into-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/sleep", "300"]);
    let stream = Stream::start(&["--no-snapshot"]);
    let run = |arguments: &[&str]| {
        let finished = run_bounded(runtime.command().args(arguments).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
    };
    run(&["run", "--detach", "--bundle", &bundle.display().to_string(), &name]);
    let mark_of_it = format!("put-{name}");
    run(&["exec", &name, "/bin/true", &mark_of_it]);
    run(&["delete", "--force", &name]);
    let trace = stream.stop();
    let events = events(&trace);
    let all = by_process(&events);
    let ours: Vec<_> = all
        .values()
        .filter(|lines| is_inside(lines) && lines.iter().any(|line| mark(line) == Some(&mark_of_it)))
        .collect();
    assert_eq!(ours.len(), 1, "one program entered it");
    for line in ours.into_iter().flatten() {
        assert_eq!(container(line), Some(name.as_str()), "{line:?}");
        assert_eq!(line.process.as_ref().unwrap().origin, Some(Origin::Exec), "{line:?}");
    }
    let [create, start, exit, remove] = WHOLE_LIFE;
    assert_eq!(life_of(&events, &name), [create, start, Kind::ContainerExec, exit, remove]);
    let ended = events.iter().filter_map(|event| event.container()?.end.as_ref());
    let ended: Vec<_> = ended.filter(|end| end.execs == 2).map(|end| end.signal.as_deref()).collect();
    assert!(ended.contains(&Some("SIGKILL")), "`delete --force` kills the entrypoint: {ended:?}");
}

/// `tracer run -- runc run …`, where the kernel filter drops everything else.
fn run_follows() {
    let runtime = Runtime::runc();
    let name = format!("follow-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/true", &name]);
    let mut words = vec![runtime.command().get_program().to_owned()];
    words.extend(runtime.command().get_args().map(ToOwned::to_owned));
    words.extend(["run".into(), "--bundle".into(), bundle.into(), name.clone().into()]);
    let trace = crate::support::Run::of(words).trace();
    let events = events(&trace);
    let all = by_process(&events);
    let inside: Vec<_> = all.values().filter(|lines| is_inside(lines)).collect();
    assert_eq!(inside.len(), 1, "the entrypoint");
    for line in inside.into_iter().flatten() {
        assert_eq!(container(line), Some(name.as_str()), "{line:?}");
    }
}

/// `--container` shows everything in the container and nothing else. So does `--cgroup`.
fn filters() {
    let runtime = Runtime::runc();
    let (wanted, other) = (format!("wanted-{}", std::process::id()), format!("other-{}", std::process::id()));
    let path = format!("/{wanted}");
    for filter in [["--container", &wanted[..wanted.len() - 1]], ["--cgroup", &path]] {
        let stream = Stream::start(&filter);
        for name in [&other, &wanted] {
            fs::remove_dir_all(runtime.path(name)).unwrap_or_default();
            runtime.run(name, &["/bin/sh", "-c", &format!("/bin/true {name}; :")]);
        }
        let trace = stream.stop();
        let lines: Vec<&Event> = trace
            .lines
            .iter()
            .map(|line| &line.event)
            .filter(|event| event.process.is_some() && event.container().is_none())
            .collect();
        for line in &lines {
            assert_eq!(container(line), Some(wanted.as_str()), "{line:?}");
        }
        let child = lines.iter().filter(|line| mark(line) == Some(&wanted)).map(|line| line.kind()).collect::<Vec<_>>();
        assert_eq!(child, [Kind::Exec, Kind::Exit], "the child of the shell");
        assert!(trace.bye().filtered > 0);
    }
}
