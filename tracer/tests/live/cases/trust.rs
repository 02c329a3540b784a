//! False claims about containers: by command lines, by files, by engines of another user. And facts that nobody
//! claims.

use std::cell::Cell;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use tracer::event::{Event, Kind};

use super::containers::{about, container, events, life_of};
use crate::support::engines::{Docker, Podman, Runtime, edit, no_docker, no_podman, no_podman_by_crun, no_runc};
use crate::support::{
    BOUND, Case, Guarded, Need, Stream, case, check_schema, command, open_directory, run_bounded, write_script,
};

pub(super) fn cases() -> Vec<Case> {
    let runc = &[Need::Check(no_runc)];
    vec![
        case("trust::files_that_block_hold_nothing_up", files_that_block),
        case("trust::a_command_line_is_no_container", command_lines).needs(&[Need::Tool("unshare")]),
        case("trust::a_failed_runtime_describes_nothing", failed_runtime).needs(runc),
        case("trust::an_unknown_capability_loses_nothing", unknown_capability).needs(runc),
        case("trust::a_container_with_its_state_elsewhere", state_elsewhere).needs(runc),
        case("trust::a_new_name_of_docker", renamed_by_docker).needs(&[Need::Check(no_docker)]),
        case("trust::a_new_name_of_podman", renamed_by_podman).needs(&[Need::Check(no_podman)]),
        case("trust::a_container_without_a_cgroup", without_cgroup).needs(&[Need::Check(no_podman_by_crun)]),
        case("trust::a_paused_container", paused).needs(&[Need::Check(no_docker)]),
    ]
}

/// An unprivileged user.
pub(super) const NOBODY: u32 = 1000;

/// Starts a process of that user.
pub(super) fn by_user(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The cgroup of a container that no engine knows, with a process in it. Dropping it removes both.
struct Unknown {
    id: String,
    directory: PathBuf,
    process: Option<Guarded>,
}

impl Unknown {
    fn start() -> Option<Self> {
        // The digits are unique to the test.
        let id = format!("{:0>64x}", (u64::from(std::process::id()) << 20) | 0xbad);
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let directory = root.join(format!("docker-{id}.scope"));
        fs::create_dir(&directory).ok()?;
        let mut unknown = Self { id, directory, process: None };
        let process = Guarded::spawn(Command::new("sleep").arg("300"));
        fs::write(unknown.directory.join("cgroup.procs"), process.pid().to_string()).ok()?;
        unknown.process = Some(process);
        Some(unknown)
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.process = None;
        let end = Instant::now() + BOUND;
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Engines of another user whose files are FIFOs, devices and links. tracer looks names of a container up while they
/// run. Neither its start nor its end waits for them.
fn files_that_block() {
    let place = open_directory();
    let at = |name: &str| place.path().join(name);
    mkfifo(&at("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
    std::os::unix::fs::symlink("fifo", at("link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
    fs::create_dir(at("bundle")).unwrap();
    mkfifo(&at("bundle/config.json"), Mode::from_bits_truncate(0o666)).unwrap();
    for name in ["dockerd", "conmon", "containerd-shim"] {
        write_script(at(name), "#!/bin/sh\nsleep 30 & wait\n");
    }
    let Some(unknown) = Unknown::start() else { return };
    let mut engines: Vec<Guarded> = Vec::new();
    for file in ["fifo", "link", "zero", "/dev/tty", "/proc/self/mem"] {
        let mut dockerd = by_user(at("dockerd"));
        engines.push(Guarded::spawn(dockerd.arg("--config-file").arg(at(file))));
    }
    let mut conmon = by_user(at("conmon"));
    engines.push(Guarded::spawn(conmon.args(["-c", &unknown.id, "-b"]).arg(at("bundle"))));
    let mut shim = by_user(at("containerd-shim"));
    engines.push(Guarded::spawn(shim.args(["-id", &unknown.id]).current_dir(at("bundle"))));
    // Also one of root, by mistake or caused by another user.
    let mut dockerd = Command::new(at("dockerd"));
    engines.push(Guarded::spawn(dockerd.arg("--config-file").arg(at("fifo")).stdin(Stdio::null())));
    let first = run_bounded(&mut command(["stream", "-n", "5"]), BOUND);
    assert!(first.status.success() && first.stdout().lines().count() >= 5, "{first:?}");
    let stream = Stream::start(&[]);
    stream.events_until(&|event| event.kind() == Kind::Process && container(event) == Some(&unknown.id));
    let trace = stream.stop_by(Signal::SIGTERM);
    let info = events(&trace).into_iter().find(|event| event.kind() == Kind::ContainerInfo && is(event, &unknown.id));
    assert!(info.is_none_or(|info| info.container().is_none_or(|container| container.name.is_none())));
}

fn is(event: &Event, id: &str) -> bool {
    event.container().is_some_and(|container| *container.id == *id)
}

/// `runc create ID` in the command line of a user's process, of a set-user-ID program, and of another program of
/// root.
fn command_lines() {
    let place = open_directory();
    let id = format!("claimed-{}", std::process::id());
    write_script(place.path().join("create"), "#!/bin/sh\n/bin/true claimed\n");
    let stream = Stream::start(&["--no-snapshot"]);
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap_or_default());
    for (uid, options) in [(NOBODY, "-Urpf"), (0, "-pf")] {
        let mut claim = Command::new("unshare");
        claim.arg0("runc").args([options, "create", &id]).env("PATH", &path).uid(uid).gid(uid).stdin(Stdio::null());
        let finished = run_bounded(&mut claim, BOUND);
        // If users may not make a namespace, there is nothing to claim.
        assert!(finished.status.success() || uid == NOBODY, "{}", finished.stderr);
    }
    let trace = stream.stop();
    let events = events(&trace);
    let claimed = |event: &&Event| {
        let argv = event.process.as_ref().and_then(|process| process.image.argv.as_ref());
        argv.is_some_and(|argv| argv.iter().any(|word| word == id || word == "claimed"))
    };
    let ours: Vec<&Event> = events.iter().filter(claimed).collect();
    assert!(ours.len() > 6, "{ours:?}");
    assert!(ours.iter().all(|event| container(event).is_none()), "{ours:?}");
    assert_eq!(about(&events, &id).count(), 0);
}

fn run(command: &mut Command) {
    let finished = run_bounded(command.stdin(Stdio::null()), 3 * BOUND);
    assert!(finished.status.success(), "{command:?}: {}", finished.stderr);
}

/// `runc run -b OTHER ID` while ID runs: runc refuses, and the content of OTHER is ignored.
fn failed_runtime() {
    let runtime = Runtime::runc();
    let name = format!("first-{}", std::process::id());
    let first = runtime.bundle(&name, &["/bin/sleep", "300"]);
    let other = runtime.bundle("other", &["/bin/sleep", "4711"]);
    edit(&first, |spec| spec["hostname"] = "first".into());
    edit(&other, |spec| spec["hostname"] = "other".into());
    let stream = Stream::start(&["--no-snapshot"]);
    run(runtime.command().args(["run", "--detach", "--bundle"]).arg(&first).arg(&name));
    let mut again = runtime.command();
    again.args(["run", "--detach", "--bundle"]).arg(&other).arg(&name).stdin(Stdio::null());
    let refused = run_bounded(&mut again, BOUND);
    assert!(!refused.status.success(), "runc refuses a second container with the same id");
    run(runtime.command().args(["delete", "--force", &name]));
    let trace = stream.stop();
    let events = events(&trace);
    let hostnames: Vec<_> = about(&events, &name).filter_map(|event| event.container()?.hostname.as_deref()).collect();
    assert!(hostnames.contains(&"first") && !hostnames.contains(&"other"), "{hostnames:?}");
}

fn unknown_capability() {
    let runtime = Runtime::runc();
    let name = format!("strange-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/true", "said"]);
    edit(&bundle, |spec| {
        spec["hostname"] = "strange".into();
        spec["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_UNKNOWN"));
    });
    let stream = Stream::start(&["--no-snapshot"]);
    let ran =
        run_bounded(runtime.command().args(["run", "--bundle"]).arg(&bundle).arg(&name).stdin(Stdio::null()), BOUND);
    // Another runc may refuse it. Then there is no container to describe.
    if ran.status.success() {
        let trace = stream.stop();
        let events = events(&trace);
        let info =
            about(&events, &name).find(|event| event.kind() == Kind::ContainerInfo).expect("its bundle was read");
        let info = info.container().unwrap();
        assert_eq!(info.hostname.as_deref(), Some("strange"));
        assert_eq!(info.args.iter().flatten().collect::<Vec<_>>(), ["/bin/true", "said"]);
    } else {
        assert!(ran.stderr.contains("CAP_UNKNOWN"), "{}", ran.stderr);
        stream.stop();
    }
}

/// A container that runs when tracing begins, and whose runc keeps its state in an unknown directory.
fn state_elsewhere() {
    let runtime = Runtime::runc();
    let name = format!("elsewhere-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/sleep", "300"]);
    run(runtime.command().args(["run", "--detach", "--bundle"]).arg(&bundle).arg(&name));
    let stream = Stream::start(&[]);
    run(runtime.command().args(["delete", "--force", &name]));
    let trace = stream.stop();
    let events = events(&trace);
    let ours: Vec<Kind> =
        events.iter().filter(|event| container(event) == Some(&name)).map(tracer::event::Event::kind).collect();
    assert!(ours.contains(&Kind::Process) && ours.contains(&Kind::Exit), "{ours:?}");
    assert_eq!(life_of(&events, &name), [Kind::ContainerExit, Kind::ContainerRemove]);
}

/// A container is renamed while its processes are traced by the new name: from then on they are shown.
fn is_followed(stream: Stream, id: &str, rename: impl FnOnce(), act: impl FnOnce(), end: impl FnOnce(), name: &str) {
    rename();
    let named = |event: &Event| {
        event.kind() == Kind::ContainerInfo
            && event.container().is_some_and(|of| *of.id == *id && of.name.as_deref() == Some(name))
    };
    stream.events_until(&named);
    act();
    end();
    let trace = stream.stop();
    check_schema(&trace);
    let events = events(&trace);
    let execs = events.iter().filter(|event| event.kind() == Kind::Exec && container(event) == Some(id));
    assert!(execs.count() > 0, "its execs are shown");
    let last = about(&events, id).find(|event| event.kind() == Kind::ContainerExit).expect("it exited");
    assert_eq!(last.container().unwrap().name.as_deref(), Some(name));
}

fn renamed_by_docker() {
    let docker = Docker::start();
    let [old, new] = ["old", "new"].map(|name| format!("{name}-{}", std::process::id()));
    let ask = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let id = ask(&["run", "-d", "--network=none", "--name", &old, "tracer-test", "/bin/sleep", "300"]);
    let stream = Stream::start(&["--container", &new]);
    let rename = || drop(ask(&["rename", &old, &new]));
    let act = || drop(ask(&["exec", &new, "/bin/true", "inside"]));
    is_followed(stream, &id, rename, act, || drop(ask(&["rm", "--force", &new])), &new);
}

fn renamed_by_podman() {
    let podman = Podman::by_runc();
    let [old, new] = ["old", "new"].map(|name| format!("{name}-{}", std::process::id()));
    let id = podman.detached(&old, &["/bin/sleep", "300"]);
    let stream = Stream::start(&["--container", &new]);
    let rename = || drop(podman.ask(&["rename", &old, &new]));
    let act = || drop(podman.ask(&["exec", &new, "/bin/true", "inside"]));
    is_followed(stream, &id, rename, act, || drop(podman.ask(&["rm", "--force", "--time", "0", &new])), &new);
    // A container that was renamed before is known by its new name.
    let id = podman.detached(&old, &["/bin/sleep", "300"]);
    podman.ask(&["rename", &old, &new]);
    let stream = Stream::start(&[]);
    podman.ask(&["rm", "--force", "--time", "0", &new]);
    let events = events(&stream.stop());
    let names: Vec<_> = about(&events, &id).map(|event| event.container().unwrap().name.as_deref()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| *name == Some(new.as_str())), "{names:?}");
}

fn without_cgroup() {
    let podman = Podman::by_crun();
    let stream = Stream::start(&["--no-snapshot"]);
    let name = format!("bare-{}", std::process::id());
    let place = open_directory();
    let file = place.path().join("id").display().to_string();
    let options = ["--rm", "--cgroups=disabled", "--name", &name, "--cidfile", &file];
    let mut bare = podman.run_with(&options, &["/bin/sh", "-c", "/bin/true inside; /bin/true inside"]);
    run(&mut bare);
    let id = fs::read_to_string(&file).unwrap().trim().to_owned();
    let trace = stream.stop();
    check_schema(&trace);
    let events = events(&trace);
    let wanted = [Kind::ContainerCreate, Kind::ContainerStart, Kind::ContainerExit, Kind::ContainerRemove];
    assert_eq!(life_of(&events, &id), wanted);
    let end = about(&events, &id).find(|event| event.kind() == Kind::ContainerExit).unwrap();
    let end = end.container().unwrap();
    assert_eq!(end.name.as_deref(), Some(name.as_str()));
    assert_eq!(end.end.as_ref().unwrap().peak_memory_bytes, None);
    assert!(about(&events, &id).any(|event| event.kind() == Kind::ContainerInfo));
}

/// `docker pause` and `unpause`, in the stream and in the table.
fn paused() {
    let docker = Docker::start();
    let name = format!("paused-{}", std::process::id());
    let ask = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let id = ask(&["run", "-d", "--network=none", "--name", &name, "tracer-test", "/bin/sleep", "300"]);
    let stream = Stream::start(&[]);
    let is = |event: &Event, paused: bool| {
        event.kind() == Kind::ContainerInfo && event.container().is_some_and(|of| *of.id == *id && of.paused == paused)
    };
    stream.events_until(&|event| is(event, false));
    ask(&["pause", &name]);
    let seen = stream.events_until(&|event| is(event, true));
    let mut roster = tracer::analysis::roster::Roster::default();
    for event in &seen {
        roster.apply(event);
    }
    let state = |roster: &tracer::analysis::roster::Roster| {
        roster.last().containers.iter().find(|one| *one.container.id == *id).map(|one| one.state.name())
    };
    assert_eq!(state(&roster), Some("paused"));
    ask(&["unpause", &name]);
    let since = seen.len();
    let looked_at = Cell::new(0);
    let all = stream.events_until(&|event| {
        looked_at.set(looked_at.get() + 1);
        looked_at.get() > since && is(event, false)
    });
    all[since..].iter().for_each(|event| roster.apply(event));
    assert_eq!(state(&roster), Some("running"));
    ask(&["rm", "--force", &name]);
    check_schema(&stream.stop());
}
