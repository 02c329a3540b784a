//! `tracer containers`: the table of real containers, compared with the containers and their engine.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tracer::analysis::roster::{ContainerState, Listed};

use crate::support::engines::{Docker, Engine as _, Runtime, no_docker, no_runc};
use crate::support::{BOUND, Case, Guarded, Need, Stream, case, command, open_directory, proc, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("container::table_of_runc", of_runc).needs(&[Need::Check(no_runc)]),
        case("container::table_of_docker", of_docker).needs(&[Need::Check(no_docker)]),
    ]
}

/// `tracer containers --json` running beside a test, with its lines about one container so far.
struct Table<'a> {
    tracer: Guarded,
    /// Its stderr, kept open so that it can be written to.
    _says: BufReader<ChildStderr>,
    output: &'a Path,
}

impl<'a> Table<'a> {
    fn start(output: &'a Path) -> Self {
        let mut arguments = command(["containers", "-v", "--json", "-d", "0.1", "-o"]);
        let mut tracer = Guarded::spawn(arguments.arg(output).stderr(Stdio::piped()));
        // A runtime that execs before all hooks are attached is missed.
        let mut says = BufReader::new(tracer.child().stderr.take().expect("it is a pipe"));
        let mut line = String::new();
        while !line.contains("attached within") {
            line.clear();
            assert!(says.read_line(&mut line).unwrap() > 0, "it ended before it traced");
        }
        Self { tracer, _says: says, output }
    }

    fn lines_of(&self, id: &str) -> Vec<Listed> {
        let text = fs::read_to_string(self.output).unwrap_or_default();
        // The last line may be incomplete.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let all = whole.lines().map(|line| serde_json::from_str::<Listed>(line).expect("it is as the schema says"));
        all.filter(|one| *one.container.id == *id).collect()
    }

    /// Waits for a line about a container.
    fn until(&self, id: &str, holds: impl Fn(&Listed) -> bool) -> Listed {
        let end = Instant::now() + BOUND;
        loop {
            let lines = self.lines_of(id);
            if let Some(one) = lines.iter().find(|one| holds(one)) {
                return one.clone();
            }
            assert!(Instant::now() < end, "of {id}: {:?}", lines.last());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(mut self) {
        self.tracer.signal(Signal::SIGINT);
        assert!(self.tracer.wait(BOUND).success());
    }
}

/// Returns when a process started, to the tick, in nanoseconds since boot.
fn started_ns_of(pid: u32) -> u64 {
    proc::stat(pid).expect("it runs").start * 10_000_000
}

/// Returns the milliseconds between the boot clock and the same moment on a line. The two clocks are read one after
/// the other.
fn ms_apart(line: &Listed, started_ns: u64) -> u64 {
    let started = line.started.expect("it was started").0;
    let boot = line.time.0 - i64::try_from(line.up_ns.unwrap()).unwrap();
    // The start is in UTC, and the uptime uses the boot clock. Both are known to a tick.
    assert!(boot.abs_diff(started) <= 20_000_000, "up is the time since it was started: {boot} {started}");
    let offset = || {
        let before = proc::boot_ns();
        let now = jiff::Timestamp::now().as_nanosecond() as i64 - before as i64;
        (proc::boot_ns() - before, now)
    };
    // Uses the one of several readings in which this process kept the CPU.
    let (_, now) = (0..10).map(|_| offset()).min().unwrap();
    (started - now).abs_diff(started_ns as i64) / 1_000_000
}

fn of_runc() {
    let runtime = Runtime::runc();
    let [there, other] = ["there", "other"].map(|name| format!("{name}-{}", std::process::id()));
    let run = |arguments: &[&str], code: i32| {
        let finished = run_bounded(runtime.command().args(arguments).stdin(Stdio::null()), BOUND);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
        finished.stdout()
    };
    let place = open_directory();
    let output = place.path().join("table");
    // Its cgroup path names no container. It is known by the exec of its runtime, so that exec must be recorded.
    let table = Table::start(&output);
    let stream = Stream::start(&[]);
    let bundle = runtime.bundle(&there, &["/bin/sleep", "300"]).display().to_string();
    run(&["run", "--detach", "--bundle", &bundle, &there], 0);
    let state: Value = serde_json::from_str(&run(&["state", &there], 0)).unwrap();
    let pid = state["pid"].as_u64().unwrap() as u32;
    let running = table.until(&there, |one| one.state == ContainerState::Running && one.processes == 1);
    assert!(ms_apart(&running, started_ns_of(pid)) < 20, "{running:?}");
    assert_eq!((running.runtime().as_deref(), running.execs_ever), (Some("runc"), 1));
    let script = "/bin/true; /bin/true; /bin/true; exit 3";
    let bundle = runtime.bundle(&other, &["/bin/sh", "-c", script]).display().to_string();
    run(&["run", "--bundle", &bundle, &other], 3);
    let ended = table.until(&other, |one| one.state == ContainerState::Exited && one.removed);
    assert_eq!((ended.status().as_deref(), ended.failed(), ended.processes), (Some("3"), true, 0));
    assert_eq!(ended.execs_ever, 4, "the shell and what it runs");
    let lines = table.lines_of(&other);
    let total: f64 = lines.iter().map(|one| one.execs_per_second * one.interval_ns as f64 / 1e9).sum();
    assert!((total - 4.0).abs() < 0.1, "each exec is in the rate of one interval: {total}");
    run(&["delete", "--force", &there], 0);
    let killed = table.until(&there, |one| one.state == ContainerState::Exited && one.removed);
    assert_eq!(killed.status().as_deref(), Some("SIGKILL"));
    table.until(&other, |one| one.time >= killed.time);
    table.stop();
    // The same comes from a recording.
    let trace = stream.stop();
    let file = place.path().join("events");
    let lines: Vec<&str> = trace.lines.iter().map(|line| &*line.text).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let mut again = command(["containers", "--json", "--container", &other, "--from"]);
    let again = run_bounded(again.arg(&file), BOUND).stdout();
    let again: Listed = serde_json::from_str(&again).expect("one container");
    // The two tracers read the clock separately, but they count the same.
    let counted = |one: &Listed| {
        one.container.end.clone().map(|end| (end.code, end.signal, end.init_id, end.processes, end.execs))
    };
    assert_eq!(counted(&again), counted(&ended));
    assert_eq!((again.state, again.execs_ever), (ended.state, ended.execs_ever));
    let [again, ended] = [again, ended].map(|one| one.started.expect("it was started").0);
    assert!(again.abs_diff(ended) < 1_000_000, "{again} {ended}");
}

/// A running container has name, image and age. Its earlier events are not known.
fn of_docker() {
    let docker = Docker::start();
    let run = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let id = run(&["run", "-d", "--network=none", "--name", "is-there", "tracer-test", "/bin/sleep", "300"]);
    let pid: u32 = run(&["inspect", "--format", "{{.State.Pid}}", "is-there"]).parse().unwrap();
    let place = open_directory();
    let output = place.path().join("table");
    let table = Table::start(&output);
    let first = table.until(&id, |one| one.state == ContainerState::Running && one.processes == 1);
    let called = (first.container.name.as_deref(), first.container.image.as_deref());
    assert_eq!(called, (Some("is-there"), docker.image()), "in its first line");
    assert_eq!(first.runtime().as_deref(), Some("docker"));
    assert!(ms_apart(&first, started_ns_of(pid)) < 20, "{first:?}");
    // As text, by name.
    let text = run_bounded(&mut command(["containers", "-n1", "-d2", "--container", "is-there"]), BOUND).stdout();
    let row: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3], row[4]), (&id[..12], "running", "1", "1"), "{text}");
    assert!(row.contains(&"is-there") && row.contains(&"tracer-test"), "{text}");
    run(&["exec", "is-there", "/bin/true"]);
    assert_eq!(table.until(&id, |one| one.execs_ever == 1 && one.processes == 1).state, ContainerState::Running);
    run(&["stop", "--time", "0", "is-there"]);
    let stopped = table.until(&id, |one| one.state == ContainerState::Exited);
    assert_eq!(stopped.status().as_deref(), Some("SIGKILL"));
    // The same container again.
    run(&["start", "is-there"]);
    let again = table.until(&id, |one| one.state == ContainerState::Running && one.time > stopped.time);
    assert!(again.started > stopped.started && again.container.end.is_none(), "{again:?}");
    assert_eq!(again.container.name.as_deref(), Some("is-there"));
    run(&["rm", "--force", "is-there"]);
    table.until(&id, |one| one.removed && one.time > again.time);
    table.stop();
}
