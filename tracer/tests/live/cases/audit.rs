//! The start of real containers, step by step.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use tracer::analysis::audit::role::Role;
use tracer::analysis::audit::{Start, Starts};
use tracer::event::{Event, Kind};

use crate::support::engines::{
    Containerd, Docker, Engine, Podman, Runtime, no_containerd, no_crun, no_docker, no_podman, no_podman_by_crun,
    no_runc,
};
use crate::support::{BOUND, Case, Need, Stream, case, command, open_directory, parse_lines, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        // Alone: a start is attributed to a client by its command line, and other cases run the same commands.
        case("audit::run_of_docker", || run_docker(&Docker::start())).needs(&[Need::Alone, Need::Check(no_docker)]),
        case("audit::run_of_podman", || run_podman(&Podman::by_runc())).needs(&[Need::Alone, Need::Check(no_podman)]),
        case("audit::run_of_podman_by_crun", || run_podman(&Podman::by_crun()))
            .needs(&[Need::Alone, Need::Check(no_podman_by_crun)]),
        case("audit::run_of_containerd", || run_containerd(&Containerd::start()))
            .needs(&[Need::Alone, Need::Check(no_containerd)]),
        case("audit::run_of_runc", || run_alone(&Runtime::runc(), "runc")).needs(&[Need::Alone, Need::Check(no_runc)]),
        case("audit::run_of_crun", || run_alone(&Runtime::crun(), "crun")).needs(&[Need::Alone, Need::Check(no_crun)]),
        case("audit::two_at_a_time_of_docker", || two_at_a_time(&Docker::start()))
            .needs(&[Need::Alone, Need::Check(no_docker)]),
        case("audit::live", live_of_runc).needs(&[Need::Alone, Need::Check(no_runc)]),
        case("audit::live_of_docker", live_of_docker).needs(&[Need::Alone, Need::Check(no_docker)]),
    ]
}

fn starts(events: &[Event]) -> Vec<Start> {
    let mut starts = Starts::default();
    let mut all = Vec::new();
    for event in events {
        starts.apply(event);
        all.extend(starts.take_by_events());
    }
    all.extend(starts.finish());
    all
}

/// The steps are in order and add up to the time between two execs that the stream reports separately.
fn adds_up(start: &Start, events: &[Event]) {
    assert!(start.steps.is_sorted_by_key(|step| step.at_ns), "{start:?}");
    let took: u64 = start.steps.iter().filter_map(|step| step.took_ns).sum();
    assert_eq!(Some(took), start.total_ns, "{start:?}");
    let boot_ns = |process, exe: Option<&str>| {
        let exec = |event: &&Event| {
            let of = event.process.as_ref().filter(|p| event.kind() == Kind::Exec && p.id == process);
            of.is_some_and(|process| process.image.exe.as_deref() == exe)
        };
        events.iter().find(exec).and_then(|event| event.boot_ns).expect("its exec was reported")
    };
    let (first, last) = (&start.steps[0], start.step(Role::Entrypoint).expect("it was started"));
    assert_eq!(boot_ns(last.id, last.exe.as_deref()) - boot_ns(first.id, first.exe.as_deref()), took);
}

fn roles(start: &Start) -> Vec<Role> {
    let mut roles: Vec<Role> = start.steps.iter().filter_map(|step| step.role).collect();
    roles.dedup();
    roles
}

/// Runs `tracer run -o FILE -- …` and `tracer run -- …` around a client of this name. It starts one container with
/// this last argument.
fn run(client: &Command, name: &str, arguments: &[&str], mark: &str, way: &[Role]) {
    let place = open_directory();
    let file = place.path().join("events");
    for output in [vec![], vec![OsString::from("-o"), file.clone().into()]] {
        let mut words: Vec<OsString> = vec!["run".into()];
        words.extend(output);
        if client.get_program() != name {
            // The environment of the client is not known for containers.
            words.push("--containers".into());
        }
        words.extend(["--".into(), client.get_program().to_owned()]);
        words.extend(client.get_args().map(ToOwned::to_owned));
        words.extend(arguments.iter().map(Into::into));
        let mut traced = command(words);
        for (name, value) in client.get_envs() {
            traced.env(name, value.unwrap_or_default());
        }
        let finished = run_bounded(&mut traced, 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        let heads = finished.stderr.lines().filter(|line| line.contains(": ready (its entrypoint exec'd) "));
        assert_eq!(heads.count(), 1, "one container was started: {}", finished.stderr);
        let entrypoint = |line: &str| line.contains(" entrypoint ") && line.ends_with(mark);
        assert!(finished.stderr.lines().any(entrypoint), "{}", finished.stderr);
    }
    let lines = parse_lines(&std::fs::read(&file).expect("it was written"));
    let events: Vec<Event> = lines.into_iter().map(|line| line.event).collect();
    let all = starts(&events);
    let ours = |start: &&Start| {
        let entrypoint = start.step(Role::Entrypoint).and_then(|step| step.argv.as_ref());
        entrypoint.and_then(|argv| argv.last()).is_some_and(|last| last == mark)
    };
    let start = all.iter().find(ours).expect("the start can be derived from the file");
    adds_up(start, &events);
    assert_eq!(roles(start), way, "{start:?}");
    let first = start.steps[0].argv.as_ref().expect("it has arguments");
    assert!(first.first().is_some_and(|word| word.ends_with(name)), "it begins with the client: {first:?}");
}

fn mark(what: &str) -> String {
    format!("audit-{what}-{}", std::process::id())
}

fn run_docker(docker: &Docker) {
    use Role::{Client, Daemon, Entrypoint, Init, Runtime, Shim, Start};
    let mark = mark("docker");
    let way = [Client, Daemon, Shim, Runtime, Init, Start, Entrypoint];
    let arguments = ["run", "--rm", "--network=none", "tracer-test", "/bin/true", &mark];
    run(&docker.command(), "docker", &arguments, &mark, &way);
}

fn run_podman(podman: &Podman) {
    use Role::{Client, Entrypoint, Init, Runtime, Shim, Start};
    let mark = mark("podman");
    let client = podman.run_with(&["--rm"], &["/bin/true", &mark]);
    run(&client, "podman", &[], &mark, &[Client, Shim, Runtime, Init, Start, Entrypoint]);
}

fn run_containerd(containerd: &Containerd) {
    use Role::{Client, Daemon, Entrypoint, Init, Runtime, Shim, Start};
    let mark = mark("ctr");
    let arguments = [&Containerd::run_with(&mark)[..], &["/bin/true", &mark]].concat();
    let way = [Client, Daemon, Shim, Runtime, Init, Start, Entrypoint];
    run(&containerd.command(), "ctr", &arguments, &mark, &way);
}

/// A runtime without an engine.
fn run_alone(runtime: &Runtime, name: &str) {
    let mark = mark(name);
    let bundle = runtime.bundle("bundle", &["/bin/true", &mark]).display().to_string();
    let way = [Role::Runtime, Role::Init, Role::Entrypoint];
    run(&runtime.command(), name, &["run", "--bundle", &bundle, &mark], &mark, &way);
}

/// Each of several simultaneous starts has its own client, shim and runtime.
fn two_at_a_time(docker: &Docker) {
    let stream = Stream::start(&["--ring-size", "64M"]);
    let names: Vec<String> = (0..6).map(|n| mark(&format!("two-{n}"))).collect();
    let some = |first: usize| {
        let run = |name: &String| (docker.run(name, &["/bin/true", name]), name.clone());
        names.iter().skip(first).step_by(2).map(run).collect::<Vec<_>>()
    };
    let ids = std::thread::scope(|scope| {
        let other = scope.spawn(|| some(1));
        let mine = some(0);
        [mine, other.join().expect("it does not panic")].concat()
    });
    let trace = stream.stop();
    let events: Vec<Event> = trace.lines.iter().map(|line| line.event.clone()).collect();
    let all = starts(&events);
    for (id, name) in ids {
        let start = all.iter().find(|start| *start.container.id == *id).expect("each is reported");
        adds_up(start, &events);
        let argv = |role| start.step(role).and_then(|step| step.argv.as_ref()).into_iter().flatten();
        assert!(argv(Role::Client).any(|word| word == &*name), "its own client: {start:?}");
        for role in [Role::Shim, Role::Runtime] {
            assert!(argv(role).any(|word| word.contains(&id)), "its own {role}: {start:?}");
        }
        let strange = |other: &&tracer::analysis::audit::Ran| {
            let words = other.argv.iter().flatten();
            all.iter()
                .any(|s| s.container.id != start.container.id && words.clone().any(|w| w.contains(&*s.container.id)))
        };
        assert_eq!(start.others.iter().find(strange), None, "nothing that names another container");
    }
}

/// Runs `tracer containers --audit`, which waits for starts and exits after a given number of them.
fn live(only: &str, start: impl FnOnce()) -> Start {
    let place = open_directory();
    let file = place.path().join("starts");
    let arguments = ["-v", "containers", "--audit", only, "--json", "-n", "1", "-o"];
    let mut tracer = command(arguments);
    let log = place.path().join("log");
    tracer.arg(&file).stderr(std::fs::File::create(&log).expect("a file"));
    let mut tracer = crate::support::Guarded::spawn(&mut tracer);
    let end = std::time::Instant::now() + BOUND;
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("attached within")) {
        assert!(std::time::Instant::now() < end, "it begins");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    start();
    assert!(tracer.wait(BOUND).success());
    let text = std::fs::read_to_string(&file).expect("it was written");
    serde_json::from_str(&text).expect("one object")
}

/// Returns the last argument of the first process that the entrypoint forks.
fn first_child(start: &Start) -> Option<&str> {
    start.step(Role::FirstChild)?.argv.as_ref()?.last()
}

fn live_of_runc() {
    let (runtime, mark) = (Runtime::runc(), mark("live"));
    let bundle = runtime.bundle("bundle", &["/bin/sh", "-c", &format!("/bin/true {mark}; :")]);
    let start = live(&mark, || {
        let mut run = runtime.command();
        let ran = run_bounded(run.arg("run").arg("--bundle").arg(bundle).arg(&mark).stdin(Stdio::null()), 3 * BOUND);
        assert!(ran.status.success(), "{}", ran.stderr);
    });
    assert_eq!(*start.container.id, *mark);
    assert_eq!(first_child(&start), Some(&*mark));
}

/// Filters by the container's name. The running daemon is found, and the client is reported although it is not an
/// ancestor of the container.
fn live_of_docker() {
    use Role::{Client, Daemon, Entrypoint, FirstChild, Init, Runtime, Shim};
    let (docker, mark) = (Docker::start(), mark("live-docker"));
    let mut id = String::new();
    let start = live(&mark, || id = docker.run(&mark, &["/bin/sh", "-c", &format!("/bin/true {mark}; :")]));
    assert_eq!(*start.container.id, *id);
    assert_eq!((start.container.name.as_deref(), start.container.image.as_deref()), (Some(&*mark), docker.image()));
    let way = [Client, Daemon, Shim, Runtime, Init, Role::Start, Entrypoint, FirstChild];
    assert_eq!(roles(&start), way, "{start:?}");
    let took: u64 = start.steps.iter().filter_map(|step| step.took_ns).sum();
    assert_eq!(Some(took), start.total_ns, "{start:?}");
    assert_eq!(first_child(&start), Some(&*mark));
    let client = start.step(Client).and_then(|step| step.argv.clone()).unwrap_or_default();
    assert!(client.first().is_some_and(|word| word.ends_with("docker")), "{client:?}");
    assert!(client.iter().any(|word| word == mark), "{client:?}");
}
