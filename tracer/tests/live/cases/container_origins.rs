//! How each process entered its container, and what it does there: by the entrypoint, by `exec`, by `nsenter`; during
//! a storm.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tracer::event::{Event, Kind, Origin, StormPhase};

use super::containers::{by_process, container, events, life_of, mark};
use crate::support::engines::{Docker, Podman, Runtime, edit, no_docker, no_podman, no_runc};
use crate::support::{
    BOUND, Case, Guarded, Need, Stream, Trace, case, check_schema, command, open_directory, proc, run_bounded,
};

pub(super) fn cases() -> Vec<Case> {
    let runc = &[Need::Check(no_runc), Need::Tool("nsenter")];
    vec![
        case("container::ways_into_one_of_runc", ways_into_runc).needs(runc),
        case("container::ways_into_one_of_docker", ways_into_docker)
            .needs(&[Need::Check(no_docker), Need::Tool("nsenter")]),
        case("container::ways_into_one_of_podman", ways_into_podman)
            .needs(&[Need::Check(no_podman), Need::Tool("nsenter")]),
        case("container::who_is_in_one_already", already_inside).needs(runc),
        case("container::in_the_hosts_pid_namespace", hosts_pids).needs(runc),
        case("container::put_into_its_cgroup_from_outside", into_cgroup).needs(runc),
        case("container::storm_inside_one", storm_inside).needs(&[Need::Check(no_runc), Need::Alone]),
    ]
}

/// A runc container whose entrypoint forks a child and sleeps.
pub(super) struct Sleeping {
    runtime: Runtime,
    pub(super) name: String,
}

impl Sleeping {
    pub(super) fn start(called: &str, change: impl FnOnce(&mut Value)) -> Self {
        let runtime = Runtime::runc();
        let name = format!("{called}-{}", std::process::id());
        let bundle = runtime.bundle(&name, &["/bin/sh", "-c", &sleeps(&name)]);
        edit(&bundle, change);
        let sleeping = Self { runtime, name };
        // Two commands: the one that creates it exits before the container starts, so it is not reparented while it
        // runs.
        sleeping.run(&["create", "--bundle", &bundle.display().to_string(), &sleeping.name]);
        sleeping.run(&["start", &sleeping.name]);
        sleeping
    }

    fn run(&self, arguments: &[&str]) -> String {
        let finished = run_bounded(self.runtime.command().args(arguments).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout()
    }

    /// Returns the pid of its first process, once that process sleeps.
    pub(super) fn pid(&self) -> u32 {
        let state: Value = serde_json::from_str(&self.run(&["state", &self.name])).unwrap();
        let pid = state["pid"].as_u64().expect("a pid") as u32;
        await_sleep(pid);
        pid
    }

    pub(super) fn delete(&self) {
        self.run(&["delete", "--force", &self.name]);
    }
}

/// Returns the script of a container's first process: fork a child, then sleep. Other cases do the same at the same
/// time. So each mark contains the name of the test's own container, here and below.
fn sleeps(name: &str) -> String {
    format!("/bin/true child-{name}; exec /bin/sleep 300")
}

fn await_sleep(pid: u32) {
    let end = Instant::now() + BOUND;
    while !std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sleep")) {
        assert!(Instant::now() < end, "the entrypoint does not sleep: {}", proc::process_tree(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Options of `nsenter` for joining namespaces. The network namespace alone is missing, because a process that joins
/// only that is in no container.
pub(super) const JOINED: [&[&str]; 4] = [&["-a"], &["-m"], &["-p", "-m"], &["-p"]];

fn nsenter(pid: u32, joined: &[&str], mark: &str) {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string()]).args(joined).args(["/bin/true", mark]).stdin(Stdio::null());
    let finished = run_bounded(&mut command, BOUND);
    assert!(finished.status.success(), "{}", finished.stderr);
}

/// For each process whose last program had this last argument: container and origin on each line, from the first line
/// that shows the process in the container, and the number of lines before it.
type Seen = Vec<(Option<String>, Option<Origin>)>;

fn lines_of(events: &[Event], wanted: &str) -> Vec<Seen> {
    let ours = |lines: &&Vec<&Event>| {
        lines.iter().rfind(|line| line.kind() == Kind::Exec).and_then(|line| mark(line)) == Some(wanted)
    };
    let seen = |lines: &Vec<&Event>| {
        let own = lines.iter().filter(|line| line.container().is_none() && line.kind() != Kind::Reparent);
        own.map(|line| (container(line).map(ToOwned::to_owned), line.process.as_ref().unwrap().origin)).collect()
    };
    by_process(events).values().filter(ours).map(seen).collect()
}

/// Asserts that each process has the origin by which it entered, from its first line in the container on.
fn assert_origins(trace: &Trace, id: &str, name: &str) {
    check_schema(trace);
    let events = events(trace);
    let inside = |origin| (Some(id.to_owned()), Some(origin));
    // The command that enters has the same last argument, and stays outside.
    let all_lines = |mark: &str, origin| {
        let (outside, entered): (Vec<_>, Vec<_>) =
            lines_of(&events, mark).into_iter().partition(|seen| seen[0].0.is_none());
        assert_eq!(entered, [vec![inside(origin); 3]], "{mark}");
        assert!(outside.iter().all(|seen| seen.iter().all(|line| *line == (None, None))), "{mark}: {outside:?}");
    };
    all_lines(&format!("child-{name}"), Origin::Entrypoint);
    all_lines(&format!("by-exec-{name}"), Origin::Exec);
    for joined in JOINED {
        let mark = by_nsenter(joined, name);
        if joined == ["-m"] {
            // Without a new process: it forks and execs nsenter outside, joins, and then execs the program.
            let outside = (None, None);
            let wanted = [outside.clone(), outside, inside(Origin::Host), inside(Origin::Host)];
            assert_eq!(lines_of(&events, &mark), [wanted], "{mark}");
        } else {
            all_lines(&mark, Origin::Host);
        }
    }
    for seen in lines_of(&events, &by_nsenter(&["-n"], name)) {
        assert!(
            seen.iter().all(|line| *line == (None, None)),
            "a process that joins only the network is outside: {seen:?}"
        );
    }
    let entered = events.iter().filter(|event| event.kind() == Kind::ContainerExec);
    let entered: Vec<_> = entered.filter(|event| event.container().unwrap().id.as_ref() == id).collect();
    assert_eq!(entered.len(), 1, "only the runtime's exec: {entered:?}");
}

fn by_nsenter(joined: &[&str], name: &str) -> String {
    format!("by-nsenter{}-{name}", joined.concat())
}

fn enter(pid: u32, name: &str) {
    for joined in JOINED.iter().chain(&[&["-n"][..]]) {
        nsenter(pid, joined, &by_nsenter(joined, name));
    }
}

fn ways_into_runc() {
    let stream = Stream::start(&["--no-snapshot"]);
    let sleeping = Sleeping::start("ways", |_| {});
    enter(sleeping.pid(), &sleeping.name);
    sleeping.run(&["exec", &sleeping.name, "/bin/true", &format!("by-exec-{}", sleeping.name)]);
    sleeping.delete();
    assert_origins(&stream.stop(), &sleeping.name, &sleeping.name);
}

fn ways_into_docker() {
    let docker = Docker::start();
    let run = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let stream = Stream::start(&["--no-snapshot"]);
    let name = "ways-by-docker";
    let id = run(&["run", "-d", "--network=none", "--name", name, "tracer-test", "/bin/sh", "-c", &sleeps(name)]);
    let pid: u32 = run(&["inspect", "--format", "{{.State.Pid}}", name]).parse().expect("a pid");
    await_sleep(pid);
    enter(pid, name);
    run(&["exec", name, "/bin/true", &format!("by-exec-{name}")]);
    run(&["rm", "--force", name]);
    assert_origins(&stream.stop(), &id, name);
}

fn ways_into_podman() {
    let podman = Podman::by_runc();
    let stream = Stream::start(&["--no-snapshot"]);
    let name = "ways-by-podman";
    let id = podman.detached(name, &["/bin/sh", "-c", &sleeps(name)]);
    let pid: u32 = podman.ask(&["inspect", "--format", "{{.State.Pid}}", name]).parse().expect("a pid");
    await_sleep(pid);
    enter(pid, name);
    podman.ask(&["exec", name, "/bin/true", &format!("by-exec-{name}")]);
    podman.ask(&["rm", "--force", "--time", "0", name]);
    assert_origins(&stream.stop(), &id, name);
}

/// Runs runc with its state in the default directory.
pub(super) fn runc(arguments: &[&str]) -> String {
    let finished = run_bounded(Command::new("runc").args(arguments).stdin(Stdio::null()), BOUND);
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.stdout()
}

/// Processes that are in a container when tracing begins.
fn already_inside() {
    // tracer looks for the state in runc's default directory.
    let runtime = Runtime::runc();
    let name = format!("tracer-inside-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/sleep", "3110"]).display().to_string();
    runc(&["run", "--detach", "--bundle", &bundle, &name]);
    let state: Value = serde_json::from_str(&runc(&["state", &name])).unwrap();
    let pid = state["pid"].to_string();
    let guests = [("-m", "3111"), ("-a", "3112")].map(|(joined, mark)| {
        let mut guest = Command::new("nsenter");
        Guarded::spawn(guest.args(["-t", &pid, joined, "/bin/sleep", mark]).stdin(Stdio::null()))
    });
    runc(&["exec", "--detach", &name, "/bin/sleep", "3113"]);
    for mark in ["3110", "3111", "3112", "3113"] {
        let end = Instant::now() + BOUND;
        let line = format!("/bin/sleep\0{mark}\0");
        while !proc::all()
            .into_keys()
            .any(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|is| is == line.as_bytes()))
        {
            assert!(Instant::now() < end, "sleep {mark} does not run");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let stream = Stream::start(&[]);
    nsenter(pid.parse().unwrap(), &["-m"], "later");
    runc(&["delete", "--force", &name]);
    drop(guests);
    let trace = stream.stop();
    let events = events(&trace);
    let found: BTreeMap<&str, _> = events
        .iter()
        .filter(|event| event.kind() == Kind::Process && container(event) == Some(&name))
        .map(|event| (mark(event).unwrap(), event.process.as_ref().unwrap().origin))
        .collect();
    let wanted = [("3110", Origin::Entrypoint), ("3111", Origin::Host), ("3112", Origin::Host), ("3113", Origin::Exec)];
    assert_eq!(found, wanted.map(|(mark, origin)| (mark, Some(origin))).into());
    assert_eq!(lines_of(&events, "later")[0].last().unwrap(), &(Some(name), Some(Origin::Host)));
}

/// A container that shares the host's pid namespace starts and exits like any other.
fn hosts_pids() {
    use Kind::{ContainerCreate, ContainerExec, ContainerExit, ContainerRemove, ContainerStart};

    let stream = Stream::start(&["--no-snapshot"]);
    let sleeping = Sleeping::start("pids", |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let pid = sleeping.pid();
    let name = &sleeping.name;
    let [child, by_exec, by_nsenter] = ["child", "by-exec", "by-nsenter"].map(|mark| format!("{mark}-{name}"));
    nsenter(pid, &["-m"], &by_nsenter);
    sleeping.run(&["exec", name, "/bin/true", &by_exec]);
    sleeping.delete();
    let trace = stream.stop();
    let events = events(&trace);
    let wanted = [ContainerCreate, ContainerStart, ContainerExec, ContainerExit, ContainerRemove];
    assert_eq!(life_of(&events, &sleeping.name), wanted);
    for (mark, origin) in [(child, Origin::Entrypoint), (by_exec, Origin::Exec), (by_nsenter, Origin::Host)] {
        let last = lines_of(&events, &mark).into_iter().flatten().last();
        assert_eq!(last, Some((Some(sleeping.name.clone()), Some(origin))), "{mark}");
    }
}

/// A process that is moved to the container's cgroup, and joins nothing else.
fn into_cgroup() {
    let stream = Stream::start(&["--no-snapshot"]);
    let sleeping = Sleeping::start("cgroup", |_| {});
    let pid = sleeping.pid();
    let script = "for at in /sys/fs/cgroup/*/\"$0\" /sys/fs/cgroup/\"$0\"; do \
                  [ -e \"$at/cgroup.procs\" ] && echo $$ > \"$at/cgroup.procs\"; done; exec /bin/true put-in";
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place = place.lines().find_map(|line| line.rsplit(':').next().filter(|path| path.len() > 1)).unwrap();
    let mut put_in = Command::new("sh");
    put_in.args(["-c", script, place.trim_start_matches('/')]).stdin(Stdio::null());
    assert!(run_bounded(&mut put_in, BOUND).status.success());
    sleeping.delete();
    let events = events(&stream.stop());
    let seen = lines_of(&events, "put-in").remove(0);
    let wanted = (Some(sleeping.name.clone()), Some(Origin::Host));
    assert_eq!(seen[seen.len() - 2..], [wanted.clone(), wanted], "its last exec, and its exit");
    assert_eq!(seen[0], (None, None), "its fork");
}

/// Number of programs that run outside during the storm, and the most programs that the storm runs.
const FEW: usize = 20;
const MOST: u64 = 50_000;

/// A storm in a container is attributed to the container. Events outside are reported in full meanwhile.
fn storm_inside() {
    let runtime = Runtime::runc();
    let name = format!("storm-{}", std::process::id());
    let script = format!(
        "i=0; while [ ! -e /tmp/enough ] && [ $i -lt {MOST} ]; do /bin/true inside; i=$((i+1)); done; echo $i; exit 0"
    );
    let place = open_directory();
    let (frames, counted) = (place.path().join("pictures"), place.path().join("count"));
    let top = Top::start(&frames);
    let stream = Stream::start(&["--no-snapshot", "--collapse=200", "--ring-size=64M"]);
    let bundle = runtime.bundle(&name, &["/bin/sh", "-c", &script]);
    let mut run = runtime.command();
    run.args(["run", "--bundle"]).arg(bundle).arg(&name).stdin(Stdio::null()).stdout(File::create(&counted).unwrap());
    let mut storm = Guarded::spawn(&mut run);
    let goes_on = |event: &Event| event.storm().is_some_and(|storm| storm.phase == StormPhase::Ongoing);
    stream.events_until(&|event| goes_on(event) && container(event) == Some(&name));
    for n in 0..FEW {
        let outside = run_bounded(Command::new("/bin/true").arg(format!("outside-{n}")), BOUND);
        assert!(outside.status.success());
    }
    std::fs::write(runtime.path("rootfs/tmp/enough"), "").unwrap();
    assert!(storm.wait(BOUND).success());
    let many: u64 = std::fs::read_to_string(&counted).unwrap().trim().parse().expect("it counts");
    assert!(many < MOST, "it stopped before the others had run");
    stream.events_until(&|event| {
        event.kind() == Kind::ContainerExit && event.container().is_some_and(|of| *of.id == *name)
    });
    let trace = stream.stop();
    check_schema(&trace);
    let bye = trace.bye();
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.lost, "{bye:?}");
    assert_eq!(bye.lost, 0, "{bye:?}");
    let events = events(&trace);
    // The lines of the container and its folded lines add up to everything that happened in it. Other processes may
    // storm too.
    let own = |event: &&Event| container(event) == Some(&name);
    let storms: Vec<&Event> = events.iter().filter(own).filter(|event| event.kind() == Kind::Storm).collect();
    let inside = |event: &&Event| own(event) && event.kind() == Kind::Exec && mark(event) == Some("inside");
    let folded: u64 = storms.iter().map(|line| line.storm().unwrap().execs).sum();
    assert_eq!(events.iter().filter(inside).count() as u64 + folded, many);
    assert!(folded > many / 2, "{folded} of {many}");
    let end = events.iter().find(|event| event.kind() == Kind::ContainerExit).unwrap().container().unwrap();
    let end = end.end.as_ref().unwrap();
    assert_eq!(end.execs, many + 1, "the shell and what it runs");
    let all = by_process(&events);
    for n in 0..FEW {
        let wanted = format!("outside-{n}");
        let of = all.values().find(|lines| lines.iter().any(|line| mark(line) == Some(&wanted))).expect("it is shown");
        let kinds: Vec<Kind> = of.iter().map(|line| line.kind()).collect();
        assert_eq!(kinds, [Kind::Fork, Kind::Exec, Kind::Exit], "{wanted}");
        assert!(of.iter().all(|line| container(line).is_none()), "{of:?}");
    }
    // `tracer top` counts each fork of the storm once, for the container. The runtime may add more.
    let total = top.total_of(&name, many);
    assert!((many..=end.processes).contains(&total), "{total} forks of {} processes", end.processes);
}

/// `tracer top` by container, running beside a test.
struct Top<'a> {
    top: Guarded,
    frames: &'a Path,
}

impl<'a> Top<'a> {
    fn start(frames: &'a Path) -> Self {
        let mut arguments = command(["top", "-b", "-d", "0.2", "--group", "container", "-o"]);
        let top = Self { top: Guarded::spawn(arguments.arg(frames)), frames };
        top.until(|frames| frames.contains("In all:"));
        top
    }

    fn until(&self, holds: impl Fn(&str) -> bool) {
        let end = Instant::now() + BOUND;
        while !holds(&std::fs::read_to_string(self.frames).unwrap_or_default()) {
            assert!(Instant::now() < end, "{}", std::fs::read_to_string(self.frames).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns TOTAL of a container once it is at least `least`.
    fn total_of(mut self, name: &str, least: u64) -> u64 {
        let total = |frames: &str| {
            let rows = frames.lines().filter(|line| line.split_whitespace().last() == Some(name));
            let total = |row: &str| row.split_whitespace().rev().nth(1)?.replace(',', "").parse::<u64>().ok();
            rows.filter_map(total).max().unwrap_or_default()
        };
        self.until(|frames| total(frames) >= least);
        self.top.signal(Signal::SIGINT);
        assert!(self.top.wait(BOUND).success());
        total(&std::fs::read_to_string(self.frames).unwrap())
    }
}
