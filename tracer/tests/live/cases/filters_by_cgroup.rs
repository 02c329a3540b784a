//! Filters in the kernel by cgroup, unit and container, as in `filters`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tracer::event::{Event, Kind, Origin};
use tracer::kernel::hierarchy::Hierarchy;

use crate::support::engines::{Docker, Runtime, no_docker, no_runc};
use crate::support::{BOUND, Case, Guarded, Need, Pair, case, check_schema, past_unknown, run_bounded, truth};

use super::container_origins::{JOINED, Sleeping, runc};
use super::filters::{HeldDeed, ORACLE, check_left_out, is_exit_of};
use super::stream::Storm;

pub(super) fn cases() -> Vec<Case> {
    let cgroups = &[Need::Check(no_cgroups)];
    vec![
        case("filters::those_of_a_control_group_are_the_same", of_cgroup).needs(cgroups),
        case("filters::who_moves_is_told_of_where_it_is_asked_for", moves).needs(cgroups),
        case("filters::a_unit_that_is_started_later_is_the_same", of_unit).needs(cgroups),
        case("filters::a_container_is_the_same", of_container).needs(&[Need::Check(no_runc)]),
        case("filters::who_enters_a_container_from_outside_is_told_of", entered)
            .needs(&[Need::Check(no_runc), Need::Tool("nsenter")]),
        case("filters::a_container_of_docker_is_the_same", of_docker).needs(&[Need::Check(no_docker)]),
    ]
}

/// Returns where the hierarchy of cgroups that tracer uses is mounted.
fn cgroup_mount() -> Option<PathBuf> {
    Hierarchy::of_proc().mount.filter(|mount| mount.root == "/").map(|mount| mount.at)
}

fn no_cgroups() -> Option<String> {
    let Some(mount) = cgroup_mount() else { return Some("no cgroup hierarchy is mounted".to_owned()) };
    let tried = mount.join(format!("tracer-try-{}", std::process::id()));
    let made = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried));
    made.err().map(|error| format!("cannot make a cgroup in {}: {error}", mount.display()))
}

/// Cgroups of this test, removed at its end.
struct Cgroups {
    mount: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroups {
    fn new() -> Self {
        Self { mount: cgroup_mount().expect("the case needs it"), made: Vec::new() }
    }

    /// Makes a cgroup of this path, and its missing parents.
    fn make(&mut self, path: &str) -> PathBuf {
        let mut at = self.mount.clone();
        for part in Path::new(path).components().skip(1) {
            at.push(part);
            if !at.exists() {
                fs::create_dir(&at).expect("a new cgroup");
                self.made.push(at.clone());
            }
        }
        at
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            let end = std::time::Instant::now() + BOUND;
            // Processes that have just exited may still be in it.
            while fs::remove_dir(path).is_err() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

/// A shell script that enters a cgroup and execs a command there.
const ENTER: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";

fn name(what: &str) -> String {
    format!("/tracer-test-{}-{what}", std::process::id())
}

fn of_cgroup() {
    let mut cgroups = Cgroups::new();
    let path = name("in");
    let at = cgroups.make(&path).display().to_string();
    let mut held = HeldDeed::start(&["sh", "-c", ENTER, &at], "oracle", &ORACLE);
    let pair = Pair::start(&["--cgroup", &path], &["cgroup"]);
    let storm = Storm::start();
    // One cgroup that is made later below it, and one beside it.
    let below = cgroups.make(&format!("{path}/below")).display().to_string();
    let beside = cgroups.make(&name("beside")).display().to_string();
    for at in [&below, &beside] {
        let script = "/bin/true here; (exit 4)";
        let enter = ["-c", ENTER, at, "setpriv", "sh", "-c", script];
        // A shell that has not matched before enters.
        run_bounded(Command::new("sh").args(enter).stdin(Stdio::null()), BOUND);
    }
    held.go();
    held.ends();
    storm.stop();
    let trace = pair.assert_same_except(past_unknown);
    check_left_out(&trace);
    let group = |event: &&Event, path: &str| event.process.as_ref().and_then(|p| p.cgroup.as_deref()) == Some(path);
    assert!(trace.of_kind(Kind::Fork).filter(|event| group(event, &path)).count() > 300);
    let below = format!("{path}/below");
    assert!(trace.of_kind(Kind::Exec).filter(|event| group(event, &below)).count() >= 2, "{:?}", trace.lines);
}

fn moves() {
    let mut cgroups = Cgroups::new();
    let path = name("moved");
    let (into, out) = (cgroups.make(&path), cgroups.make(&name("out")));
    let [into, out] = [into, out].map(|at| at.display().to_string());
    let mut held = HeldDeed::start(&[], "moves", &[&into, &out]);
    let pair = Pair::start(&["--cgroup", &path], &["cgroup"]);
    held.go();
    let inside = truth::await_said(&held.truth_file(), "inside").id();
    pair.wait_for_both(1, &|event| is_exit_of(event, inside));
    held.go();
    let log = held.ends();
    let mover = log.one("mover").id();
    pair.kernel().events_until(&|event| is_exit_of(event, mover));
    let trace = pair.assert_same_except(past_unknown);
    check_left_out(&trace);
    let inside = trace.process(log.one("inside").id(), Kind::Fork);
    assert!(inside.image.exe.is_some(), "what its creator ran is known: {inside:?}");
    assert!(trace.about(log.one("outside").id()).is_empty(), "it forked elsewhere");
    assert_eq!(trace.exit(mover).code, Some(7));
}

fn of_unit() {
    let pair_of = |unit: &str| Pair::start(&["--unit", unit], &["unit"]);
    let mut cgroups = Cgroups::new();
    let unit = format!("tracer-test-{}.service", std::process::id());
    let pair = pair_of(&unit);
    let storm = Storm::start();
    for named in [&*unit, "tracer-other.service"] {
        let at = cgroups.make(&format!("/system.slice/{named}")).display().to_string();
        let enter = ["-c", ENTER, &at, "sh", "-c", "/bin/true in a unit; (exit 4)"];
        run_bounded(Command::new("sh").args(enter).stdin(Stdio::null()), BOUND);
    }
    storm.stop();
    let trace = pair.assert_same_except(past_unknown);
    check_left_out(&trace);
    let of_unit: Vec<&Event> = trace.events().filter(|event| event.process.is_some()).collect();
    assert!(of_unit.len() >= 4, "{:?}", trace.lines);
    for event in of_unit {
        assert_eq!(event.process.as_ref().and_then(|process| process.unit.as_deref()), Some(&*unit), "{event:?}");
    }
}

/// By the runtime alone, where the cgroup path does not name the container: processes match from their fork on, with
/// their origin, and so do processes that enter later.
fn of_container() {
    let runtime = Runtime::runc();
    let id = format!("tracer-filter-{}", std::process::id());
    let bundle = runtime.bundle(&id, &["/bin/sh", "-c", "/bin/true first; read go </tmp/go; /bin/true last"]);
    let go = runtime.path("rootfs/tmp/go");
    mkfifo(&go, Mode::S_IRUSR | Mode::S_IWUSR).expect("a new FIFO");
    // Opened for both directions, so that it need not wait for its reader.
    let mut go = fs::File::options().read(true).write(true).open(go).expect("our own FIFO");
    let other = runtime.bundle("other", &["/bin/sh", "-c", "/bin/true other"]);
    let pair = Pair::start(&["--container", &id], &["container"]);
    let storm = Storm::start();
    let run = |id: &str, bundle: &Path| {
        let mut command = runtime.command();
        Guarded::spawn(command.arg("run").arg("--bundle").arg(bundle).arg(id).stdin(Stdio::null()))
    };
    let mut first = run(&id, &bundle);
    pair.kernel().events_until(&|event| event.kind() == Kind::ContainerStart);
    let put = run_bounded(runtime.command().args(["exec", &id, "/bin/true", "put in"]).stdin(Stdio::null()), BOUND);
    assert!(put.status.success(), "{}", put.stderr);
    go.write_all(b"go\n").expect("it is open");
    assert!(run(&format!("{id}-not"), &other).wait(BOUND).success());
    assert!(first.wait(BOUND).success());
    storm.stop();
    pair.wait_for_both(1, &|event| event.kind() == Kind::ContainerRemove);
    let trace = pair.assert_same_except_moves(|_| {});
    check_schema(&trace);
    for kind in [Kind::ContainerCreate, Kind::ContainerStart, Kind::ContainerExec, Kind::ContainerExit] {
        assert!(trace.count(kind) >= 1, "{kind}: {:?}", trace.lines);
    }
    let origins = trace.of_kind(Kind::Exec).filter_map(|event| event.process.as_ref()?.origin);
    assert!(origins.count() >= 4, "{:?}", trace.lines);
}

/// Processes that join its namespaces and keep their own cgroup. They enter a container that existed before and one
/// that came later.
fn entered() {
    // tracer looks for the state in runc's default directory.
    let (runtime, name) = (Runtime::runc(), format!("entered-{}", std::process::id()));
    let bundle = runtime.bundle(&name, &["/bin/sleep", "300"]).display().to_string();
    runc(&["run", "--detach", "--bundle", &bundle, &name]);
    let state: Value = serde_json::from_str(&runc(&["state", &name])).expect("it is JSON");
    let pair = Pair::start(&["--container", &name], &["container"]);
    let storm = Storm::start();
    enter(state["pid"].as_u64().expect("a pid") as u32);
    // Its neighbour does not match.
    let other = Sleeping::start("beside", |_| {});
    enter(other.pid());
    other.delete();
    runc(&["delete", "--force", &name]);
    let after = Sleeping::start("entered", |_| {});
    enter(after.pid());
    after.delete();
    storm.stop();
    pair.wait_for_both(2, &|event| event.kind() == Kind::ContainerRemove);
    let trace = pair.assert_same_except_moves(past_unknown);
    check_schema(&trace);
    for joined in JOINED {
        for mark in ["one", "two"] {
            let mark = format!("{mark}{}", joined.concat());
            let executed = trace.of_kind(Kind::Exec).filter_map(|event| {
                let process = event.process.as_ref()?;
                let is_it =
                    process.image.argv.as_ref()?.last()? == mark && process.image.comm.as_deref() == Some("true");
                is_it.then_some(process)
            });
            let origins: Vec<_> = executed.map(|process| process.origin).collect();
            assert_eq!(origins, [Some(Origin::Host); 2], "{mark}");
        }
    }
}

/// Runs, for each way to enter, a shell that forks a child there and execs.
fn enter(pid: u32) {
    for joined in JOINED {
        let mark = joined.concat();
        let script = format!("/bin/true one{mark}; exec /bin/true two{mark}");
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string()]).args(joined).args(["/bin/sh", "-c", &script]).stdin(Stdio::null());
        let finished = run_bounded(&mut command, BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
    }
}

fn of_docker() {
    let docker = Docker::start();
    let run = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 2 * BOUND);
        assert!(finished.status.success(), "docker {arguments:?}: {}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let script = "/bin/true first; /bin/true last; exit 0";
    let create =
        |name: &str| run(&["create", "--network=none", "--name", name, "tracer-test", "/bin/sh", "-c", script]);
    let (id, other) = (create("matching"), create("another"));
    let pair = Pair::start(&["--container", &id[..16]], &["container"]);
    for id in [&other, &id, &other, &id] {
        run(&["start", "--attach", id]);
    }
    pair.wait_for_both(2, &|event| event.kind() == Kind::ContainerRemove);
    let trace = pair.assert_same_except_moves(|_| {});
    check_schema(&trace);
    assert_eq!((trace.count(Kind::ContainerStart), trace.count(Kind::ContainerExit)), (2, 2), "{:?}", trace.lines);
    assert!(trace.of_kind(Kind::Exec).count() >= 6, "{:?}", trace.lines);
}
