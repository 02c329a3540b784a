//! Containers that are known only by a cgroup path, without a runtime. These cases run wherever cgroups exist, also
//! in a guest that has only v2 and busybox.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tracer::event::{Event, Kind, Origin};

use super::containers::{about, by_process, container, events, mark};
use crate::support::{BOUND, Case, Guarded, Need, Stream, case, check_schema, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("container::known_by_its_path_alone", by_path).needs(&[Need::Check(no_cgroups)]),
        case("container::found_by_its_path_alone", found_by_path).needs(&[Need::Check(no_cgroups)]),
    ]
}

/// Returns where the cgroup hierarchies, v1 and v2, are mounted. tracer uses one of them.
fn mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?;
        words.next().filter(|kind| kind.starts_with("cgroup")).map(|_| PathBuf::from(at))
    };
    mounts.lines().filter_map(of).collect()
}

fn no_cgroups() -> Option<String> {
    mounts().is_empty().then(|| "no cgroups are mounted".to_owned())
}

/// A cgroup in each hierarchy, named as Docker names its own. It is removed with this value.
struct Placed {
    id: String,
    at: Vec<PathBuf>,
    /// Parent directories that had to be created.
    above: Vec<PathBuf>,
}

impl Placed {
    fn new(digit: char) -> Self {
        let id: String = format!("{:08x}", std::process::id()) + &digit.to_string().repeat(56);
        let at: Vec<PathBuf> = mounts().iter().map(|mount| mount.join("docker").join(&id)).collect();
        let above = at.iter().filter_map(|directory| directory.parent()).filter(|above| !above.exists());
        let above = above.map(Path::to_owned).collect();
        let placed = Self { id, at, above };
        for directory in &placed.at {
            // Another test may remove its `docker` in between.
            let made = (0..100).map(|_| fs::create_dir_all(directory)).find(Result::is_ok);
            assert!(made.is_some(), "{} cannot be made", directory.display());
        }
        placed
    }

    /// Returns a shell that moves itself there and then runs a script. The move may fail for some controllers: cpuset
    /// refuses until it is configured.
    fn shell(&self, script: &str) -> Command {
        let join = "for at in \"$@\"; do echo $$ > \"$at/cgroup.procs\"; done 2>/dev/null; ";
        let mut shell = Command::new("sh");
        shell.args([OsString::from("-c"), format!("{join}{script}").into(), "sh".into()]);
        shell.args(&self.at).stdin(Stdio::null());
        shell
    }

    /// Removes the cgroups. A cgroup is busy until its last zombie is reaped.
    fn remove(&self) {
        for directory in &self.at {
            let end = Instant::now() + BOUND;
            while let Err(error) = fs::remove_dir(directory) {
                assert!(Instant::now() < end, "{}: {error}", directory.display());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Errors are fine: it may be removed already, or another test may use `docker` by now.
        for directory in self.at.iter().chain(&self.above) {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn inside(events: &[Event], wanted: &str, id: &str) {
    let all = by_process(events);
    let ours: Vec<_> = all.values().filter(|lines| lines.iter().any(|line| mark(line) == Some(wanted))).collect();
    assert_eq!(ours.len(), 1, "{wanted} ran once");
    let kinds: Vec<Kind> = ours[0].iter().map(|line| line.kind()).collect();
    assert_eq!(kinds, [Kind::Fork, Kind::Exec, Kind::Exit], "{wanted}");
    for line in ours[0] {
        assert_eq!(container(line), Some(id), "{line:?}");
        assert_eq!(line.process.as_ref().unwrap().origin, Some(Origin::Host), "no runtime made it: {line:?}");
    }
}

/// A process that forks there has the container's id from its first line on. A process that is moved there has it
/// from its next line on.
fn by_path() {
    let stream = Stream::start(&["--no-snapshot"]);
    let placed = Placed::new('a');
    let name = format!("by-path-{}", std::process::id());
    let script = format!("true; /bin/true {name}-1; (/bin/true {name}-2); exec /bin/true {name}-3");
    let ran = run_bounded(&mut placed.shell(&script), BOUND);
    assert!(ran.status.success(), "{}", ran.stderr);
    placed.remove();
    let trace = stream.stop();
    check_schema(&trace);
    assert_eq!(trace.bye().lost, 0);
    let events = events(&trace);
    inside(&events, &format!("{name}-1"), &placed.id);
    inside(&events, &format!("{name}-2"), &placed.id);
    let shell = by_process(&events).remove(&the(&events, &format!("{name}-3"))).unwrap();
    let seen: Vec<_> = shell.iter().map(|line| (line.kind(), container(line))).collect();
    let id = Some(&*placed.id);
    assert_eq!(seen, [(Kind::Fork, None), (Kind::Exec, None), (Kind::Exec, id), (Kind::Exit, id)]);
    let life: Vec<Kind> = about(&events, &placed.id).map(tracer::event::Event::kind).collect();
    // No process in it is its entrypoint, so it neither starts nor exits.
    assert_eq!(life, [Kind::ContainerCreate, Kind::ContainerRemove]);
    let made = about(&events, &placed.id).next().unwrap().container().unwrap();
    assert_eq!((made.engine.as_deref(), &*made.cgroup), (Some("docker"), &*format!("/docker/{}", placed.id)));
}

/// Returns the id of the process whose program had this last argument.
fn the(events: &[Event], wanted: &str) -> String {
    let one = events.iter().find(|event| mark(event) == Some(wanted)).expect("it ran");
    one.process.as_ref().unwrap().id.to_string()
}

/// A process that is there when tracing begins.
fn found_by_path() {
    let placed = Placed::new('b');
    let name = format!("found-{}", std::process::id());
    let mut waiting = placed.shell(&format!("echo there; read line; /bin/true {name}; exit 0"));
    let mut waiting = Guarded::spawn(waiting.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut said = String::new();
    BufReader::new(waiting.child().stdout.take().expect("it is a pipe")).read_line(&mut said).unwrap();
    assert_eq!(said, "there\n");
    let stream = Stream::start(&["--container", &placed.id[..12]]);
    drop(waiting.child().stdin.take());
    assert!(waiting.wait(BOUND).success());
    placed.remove();
    let events = events(&stream.stop());
    let of_shell: Vec<_> = events.iter().filter(|event| pid(event) == Some(waiting.pid())).collect();
    let kinds: Vec<Kind> = of_shell.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [Kind::Process, Kind::Exit]);
    assert!(of_shell.iter().all(|event| container(event) == Some(&placed.id)));
    let child = by_process(&events).remove(&the(&events, &name)).unwrap();
    let child: Vec<_> = child.iter().map(|line| (line.kind(), container(line))).collect();
    assert_eq!(child, [Kind::Fork, Kind::Exec, Kind::Exit].map(|kind| (kind, Some(&*placed.id))));
}

fn pid(event: &Event) -> Option<u32> {
    event.process.as_ref().map(|process| process.pid)
}
