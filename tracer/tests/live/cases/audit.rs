//! The start of real containers, step by step.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use tracer::audit::role::Role;
use tracer::audit::{Start, Starts};
use tracer::event::{Event, Kind};

use crate::support::engines::{Docker, Engine, Podman, Runtime, no_docker, no_podman, no_runc};
use crate::support::{BOUND, Case, Need, Stream, case, command, open_directory, parse_lines, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        // Alone: which client asked for a container is told by what it asked for, and other cases ask for the same.
        case("audit::run_of_docker", || run_docker(&Docker::start())).needs(&[Need::Alone, Need::Check(no_docker)]),
        case("audit::run_of_podman", || run_podman(&Podman::new())).needs(&[Need::Alone, Need::Check(no_podman)]),
        case("audit::run_of_runc", run_runc).needs(&[Need::Alone, Need::Check(no_runc)]),
        case("audit::two_at_a_time_of_docker", || two_at_a_time(&Docker::start()))
            .needs(&[Need::Alone, Need::Check(no_docker)]),
        case("audit::live", live).needs(&[Need::Alone, Need::Check(no_runc)]),
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

/// Steps follow each other and add up to the time between two execs that the stream tells by itself.
fn adds_up(start: &Start, events: &[Event]) {
    assert!(start.steps.is_sorted_by_key(|step| step.at_ns), "{start:?}");
    let took: u64 = start.steps.iter().filter_map(|step| step.took_ns).sum();
    assert_eq!(Some(took), start.total_ns, "{start:?}");
    let boot_ns = |process, exe: Option<&str>| {
        let exec = |event: &&Event| {
            let of = event.process.as_ref().filter(|p| event.kind == Kind::Exec && p.id == process);
            of.is_some_and(|process| process.exe.as_deref() == exe)
        };
        events.iter().find(exec).and_then(|event| event.boot_ns).expect("its exec was told")
    };
    let (first, last) = (&start.steps[0], start.step(Role::Entrypoint).expect("it was started"));
    assert_eq!(boot_ns(last.id, last.exe.as_deref()) - boot_ns(first.id, first.exe.as_deref()), took);
}

fn roles(start: &Start) -> Vec<Role> {
    let mut roles: Vec<Role> = start.steps.iter().filter_map(|step| step.role).collect();
    roles.dedup();
    roles
}

/// `tracer run -o FILE -- …` and `tracer run -- …` around a client that starts one container with this last argument.
fn run(client: &Command, arguments: &[&str], mark: &str, way: &[Role]) {
    let place = open_directory();
    let file = place.path().join("events");
    for output in [vec![], vec![OsString::from("-o"), file.clone().into()]] {
        let mut words: Vec<OsString> = vec!["run".into()];
        words.extend(output);
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
        entrypoint.and_then(|argv| argv.last()).is_some_and(|last| **last == *mark)
    };
    let start = all.iter().find(ours).expect("the start can be told from the file");
    adds_up(start, &events);
    assert_eq!(roles(start), way, "{start:?}");
    let first = start.steps[0].argv.as_ref().expect("it has arguments");
    let name = client.get_program().to_string_lossy();
    assert!(first[0].ends_with(&*name), "it begins with the client: {first:?}");
}

fn mark(what: &str) -> String {
    format!("audit-{what}-{}", std::process::id())
}

fn run_docker(docker: &Docker) {
    use Role::{Client, Daemon, Entrypoint, Init, Runtime, Shim, Start};
    let mark = mark("docker");
    let way = [Client, Daemon, Shim, Runtime, Init, Start, Entrypoint];
    run(&docker.command(), &["run", "--rm", "--network=none", "tracer-test", "/bin/true", &mark], &mark, &way);
}

fn run_podman(podman: &Podman) {
    use Role::{Client, Entrypoint, Init, Runtime, Shim, Start};
    let mark = mark("podman");
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let arguments = [&["run", "--rm", "--network=none"], &limits[..], &["tracer-test", "/bin/true", &mark]].concat();
    run(&podman.command(), &arguments, &mark, &[Client, Shim, Runtime, Init, Start, Entrypoint]);
}

fn run_runc() {
    let (runtime, mark) = (Runtime::runc(), mark("runc"));
    let bundle = runtime.bundle("bundle", &["/bin/true", &mark]).display().to_string();
    let way = [Role::Runtime, Role::Init, Role::Entrypoint];
    run(&runtime.command(), &["run", "--bundle", &bundle, &mark], &mark, &way);
}

/// Each of several at once has its own client, shim and runtime.
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
        let start = all.iter().find(|start| *start.container.id == *id).expect("each is told");
        adds_up(start, &events);
        let argv = |role| start.step(role).and_then(|step| step.argv.as_deref()).unwrap_or_default();
        assert!(argv(Role::Client).iter().any(|word| **word == *name), "its own client: {start:?}");
        for role in [Role::Shim, Role::Runtime] {
            assert!(argv(role).iter().any(|word| word.contains(&id)), "its own {role}: {start:?}");
        }
        let strange = |other: &&tracer::audit::Ran| {
            let words = other.argv.as_deref().unwrap_or_default();
            all.iter()
                .any(|s| s.container.id != start.container.id && words.iter().any(|w| w.contains(&*s.container.id)))
        };
        assert_eq!(start.others.iter().find(strange), None, "nothing that names another container");
    }
}

/// `tracer containers --audit` waits for starts, and ends after so many.
fn live() {
    let (runtime, mark) = (Runtime::runc(), mark("live"));
    let bundle = runtime.bundle("bundle", &["/bin/sh", "-c", &format!("/bin/true {mark}; :")]);
    let place = open_directory();
    let file = place.path().join("starts");
    let arguments = ["-v", "containers", "--audit", &mark, "--json", "-n", "1", "-o"];
    let mut tracer = command(arguments);
    let log = place.path().join("log");
    tracer.arg(&file).stderr(std::fs::File::create(&log).expect("a file"));
    let mut tracer = crate::support::Guarded::spawn(&mut tracer);
    let end = std::time::Instant::now() + BOUND;
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("attached within")) {
        assert!(std::time::Instant::now() < end, "it begins");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let ran = run_bounded(
        runtime.command().arg("run").arg("--bundle").arg(bundle).arg(&mark).stdin(Stdio::null()),
        3 * BOUND,
    );
    assert!(ran.status.success(), "{}", ran.stderr);
    assert!(tracer.wait(BOUND).success());
    let told = std::fs::read_to_string(&file).expect("it was written");
    let start: Start = serde_json::from_str(&told).expect("one object");
    assert_eq!(*start.container.id, *mark);
    assert_eq!(
        start.step(Role::FirstChild).and_then(|child| child.argv.as_ref()?.last().cloned()).as_deref(),
        Some(&*mark)
    );
}
