//! Unusual machines and privileges: namespaces, mounts of `/proc`, cgroup hierarchies, users without a name, a clock
//! that is set.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use serde_json::Value;
use tracer::event::{Event, Kind};
use tracer::kernel::hierarchy::Hierarchy;

use crate::support::capabilities::{BPF, PERFMON, only};
use crate::support::{
    BOUND, Case, Finished, Guarded, Need, Stream, case, command, copy_program, open_directory, parse_lines,
    run_bounded, tracer_binary,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("users::one_that_no_file_names_is_a_number", unknown_user),
        case("users::a_name_that_nobody_has_is_wrong_usage", unknown_name),
        case("place::a_time_namespace_is_refused", time_namespace).needs(&[Need::Check(no_time_namespace)]),
        case("place::paths_in_a_cgroup_namespace_begin_at_the_root", cgroup_namespace)
            .needs(&[Need::Check(no_cgroup_namespace)]),
        case("place::proc_that_shows_processes_only", processes_only).needs(&[
            Need::Kernel(5, 8),
            Need::Tool("unshare"),
            Need::Tool("mount"),
        ]),
        case("place::proc_that_hides_processes", hidden).needs(&[
            Need::Kernel(5, 8),
            Need::Tool("unshare"),
            Need::Tool("mount"),
        ]),
        case("cli::doctor_names_what_a_user_with_capabilities_cannot_see", few_capabilities),
        case("filters::a_control_group_of_another_hierarchy_is_named", other_hierarchy)
            .needs(&[Need::Check(no_other_hierarchy)]),
        case("filters::the_number_of_a_thread_is_not_a_process", thread),
        case("stream::ends_with_the_last_descendant", ends),
        case("stream::goes_on_if_told_to", keeps_going),
        case("clock::durations_hold_and_times_follow_when_it_is_set", clock_is_set)
            .needs(&[Need::Check(no_guest), Need::Alone]),
    ]
}

/// A user id without a name.
const NOBODYS: u32 = 61234;

fn unknown_user() {
    let mut sleeps = Command::new("sleep");
    let sleeps = Guarded::spawn(sleeps.arg("1000").uid(NOBODYS).stdin(Stdio::null()));
    let pid = sleeps.pid().to_string();
    let tree = run_bounded(&mut command(["tree", "-u", "-p", &pid]), BOUND);
    assert!(tree.code() == 0 && tree.stdout().contains("61234"), "{tree:?}");
    let number = NOBODYS.to_string();
    let lines = ["stream", "--format", "text", "--uid", &number, "-n", "1"];
    let stream = run_bounded(&mut command(lines), BOUND);
    assert!(stream.code() == 0 && stream.stdout().contains("61234"), "{stream:?}");
}

fn unknown_name() {
    for arguments in [["stream", "--uid", "no-such-user", "-n", "1"], ["top", "--uid", "!no-such-user", "-n", "1"]] {
        let finished = run_bounded(&mut command(arguments), BOUND);
        assert!(finished.code() == 2 && finished.stderr.contains("no user has this name"), "{finished:?}");
    }
}

fn works(program: &str, arguments: &[&str]) -> Result<(), String> {
    let tried = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if tried.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(format!("`{program} {}` does not work here", arguments.join(" ")))
}

fn no_time_namespace() -> Option<String> {
    works("unshare", &["-T", "--boottime", "86400", "-f", "true"]).err()
}

/// The boot clock there differs from that of the kernel's records.
fn time_namespace() {
    let within = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-T", "--boottime", "86400", "-f"]).arg(tracer_binary()).args(arguments);
        run_bounded(command.stdin(Stdio::null()), BOUND)
    };
    for arguments in [&["stream", "-n", "1"][..], &["run", "--", "sh", "-c", "echo it was run"]] {
        let finished = within(arguments);
        let line = finished.assert_one_line_failure();
        assert!(line.contains("time namespace") && line.contains("nsenter -t 1 -T"), "{line}");
        assert_eq!(finished.stdout(), "", "nothing was run");
    }
    let check = check(&within(&["doctor", "--json"]), "time namespace");
    assert_eq!(check["status"], "failed", "{check}");
    // A time namespace whose clock is not moved is harmless.
    let mut same = Command::new("unshare");
    same.args(["-T", "-f"]).arg(tracer_binary()).args(["run", "-o", "/dev/null", "--", "sh", "-c", "exit 3"]);
    assert_eq!(run_bounded(same.stdin(Stdio::null()), BOUND).code(), 3);
}

/// Returns one of doctor's checks.
fn check(doctor: &Finished, name: &str) -> Value {
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap_or_else(|_| panic!("JSON: {doctor:?}"));
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}")).clone()
}

/// A cgroup. Dropping it removes it.
struct Group(PathBuf);

impl Group {
    fn new(above: &Path, name: &str) -> Self {
        let at = above.join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        Self(at)
    }

    fn name(&self) -> String {
        self.0.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned()
    }

    /// Returns a script in this cgroup, with tracer as `$0`.
    fn script(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let script = format!("echo $$ >{}/cgroup.procs; {script}", self.0.display());
        command.args(["-c", &script]).arg(tracer_binary()).stdin(Stdio::null());
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that have just exited may still be in it.
        let end = std::time::Instant::now() + BOUND;
        while fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns where the hierarchy that tracer uses is mounted as a whole.
fn mounted() -> Option<PathBuf> {
    Hierarchy::of_proc().mount.filter(|mount| mount.root == "/").map(|mount| mount.at)
}

fn no_cgroup_namespace() -> Option<String> {
    let Some(at) = mounted() else { return Some("no cgroup hierarchy is mounted".to_owned()) };
    let tried = at.join(format!("tracer-try-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried)) {
        return Some(format!("cannot make a cgroup: {error}"));
    }
    works("unshare", &["-C", "true"]).err()
}

fn cgroup_namespace() {
    let at = mounted().expect("the case needs it");
    let (ours, others) = (Group::new(&at, "tracer-inside"), Group::new(&at, "tracer-outside"));
    let inner = Group::new(&ours.0, "inner");
    let mut sleeps = others.script("exec sleep 1000");
    let mut sleeps = Guarded::spawn(&mut sleeps);
    let traced = run_bounded(&mut inner.script("exec unshare -C \"$0\" stream --duration 300ms"), BOUND);
    assert_eq!(traced.code(), 0, "{traced:?}");
    let lines = parse_lines(&traced.stdout);
    let path = |pid: u32| {
        let mut of = lines.iter().filter_map(|line| line.event.process.as_ref()).filter(|process| process.pid == pid);
        of.next().and_then(|process| process.cgroup.clone())
    };
    assert_eq!(path(traced.pid).as_deref(), Some(&*format!("/{}/{}", ours.name(), inner.name())));
    assert_eq!(path(sleeps.pid()).as_deref(), Some(&*format!("/{}", others.name())));
    for line in &lines {
        let cgroup = line.event.process.as_ref().and_then(|process| process.cgroup.as_deref());
        assert!(!cgroup.is_some_and(|path| path.contains("..")), "{}", line.text);
    }
    sleeps.signal(Signal::SIGKILL);
    sleeps.wait(BOUND);
}

/// Runs tracer with another mount of `/proc`.
fn below_proc(options: &str, arguments: &str) -> Finished {
    let script = format!("mount -t proc -o {options} proc /proc && exec \"$0\" {arguments}");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(tracer_binary()).stdin(Stdio::null());
    run_bounded(&mut command, BOUND)
}

fn processes_only() {
    let own = Hierarchy::of_proc();
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("it is there");
    let path = own.path_in(&cgroups).map(std::borrow::Cow::into_owned);
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("it is there");
    let traced = below_proc("subset=pid", "stream --duration 300ms");
    assert_eq!(traced.code(), 0, "{traced:?}");
    let lines = parse_lines(&traced.stdout);
    let hello = lines.first().and_then(|line| line.event.hello()).expect("it says hello");
    assert_eq!(hello.boot_id, boot_id.trim());
    let of_us = lines.iter().filter_map(|line| line.event.process.as_ref());
    let of_us = of_us.clone().find(|process| process.pid == std::process::id()).expect("it is reported");
    assert_eq!(of_us.cgroup.as_deref(), path.as_deref(), "the usual hierarchy");
    let doctor = below_proc("subset=pid", "doctor --json");
    assert_eq!(doctor.code(), 0, "{doctor:?}");
    assert_eq!(check(&doctor, "/proc/sys")["status"], "fallback");
    assert_ne!(check(&doctor, "release")["detail"], "", "the release is known");
}

/// As a user with the two capabilities that are needed, with a `/proc` that shows only that user's processes.
fn hidden() {
    let place = open_directory();
    let binary = place.path().join("tracer");
    copy_program(tracer_binary(), &binary);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(arguments).stdin(Stdio::null());
        // SAFETY: only system calls, which are safe between fork and exec, with strings that end with NUL.
        unsafe {
            command.pre_exec(|| {
                use nix::mount::{MsFlags, mount};
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
                let none = None::<&std::ffi::CStr>;
                mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                mount(Some(c"proc"), c"/proc", Some(c"proc"), MsFlags::empty(), Some(c"hidepid=2"))?;
                Ok(())
            });
        }
        only(&mut command, 1000, &[BPF, PERFMON]);
        run_bounded(&mut command, BOUND)
    };
    let tree = run(&["tree"]);
    assert_eq!(tree.code(), 0, "{tree:?}");
    assert!(tree.stderr.contains("hidepid") && tree.stderr.contains("CAP_SYS_PTRACE"), "{tree:?}");
    let proc = check(&run(&["doctor", "--json"]), "/proc");
    assert_eq!(proc["status"], "missing", "{proc}");
    assert!(proc["remedy"].as_str().is_some_and(|remedy| remedy.contains("CAP_SYS_PTRACE")), "{proc}");
    let stream = run(&["stream", "--duration", "100ms"]);
    let lines = parse_lines(&stream.stdout);
    let hello = lines.first().and_then(|line| line.event.hello()).expect("it says hello");
    assert!(hello.fallbacks.iter().any(|fallback| fallback.contains("hidepid")), "{hello:?}");
}

fn few_capabilities() {
    let place = open_directory();
    let binary = place.path().join("tracer");
    copy_program(tracer_binary(), &binary);
    let mut doctor = Command::new(&binary);
    doctor.args(["doctor", "--json"]).stdin(Stdio::null());
    only(&mut doctor, 1000, &[BPF, PERFMON]);
    let doctor = run_bounded(&mut doctor, BOUND);
    assert_eq!(doctor.code(), 0, "tracing works: {doctor:?}");
    for (name, gives) in [("CAP_SYS_PTRACE", "exe and cwd"), ("CAP_DAC_READ_SEARCH", "names and images of containers")]
    {
        let check = check(&doctor, name);
        assert_eq!(check["status"], "missing", "{check}");
        assert!(check["detail"].as_str().is_some_and(|detail| detail.contains(gives)), "{check}");
        assert!(check["remedy"].as_str().is_some_and(|remedy| remedy.contains(&name.to_lowercase())), "{check}");
    }
}

/// Returns where a hierarchy is mounted that tracer does not use.
fn another() -> Option<PathBuf> {
    let own = fs::metadata(mounted()?).ok()?.dev();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_cgroups = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let at = of_cgroups.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    at.filter(|at| fs::metadata(at).is_ok_and(|meta| meta.dev() != own)).find(|at| {
        let tried = at.join(format!("tracer-try-{}", std::process::id()));
        fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried)).is_ok()
    })
}

fn no_other_hierarchy() -> Option<String> {
    another().is_none().then(|| "there is only one cgroup hierarchy".to_owned())
}

fn other_hierarchy() {
    let group = Group::new(&another().expect("the case needs it"), "tracer-elsewhere");
    let counts = Hierarchy::of_proc().name();
    let finished = run_bounded(&mut command(["stream", "-n", "1", "--cgroup", &format!("/{}", group.name())]), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("only in the hierarchy of") && line.contains(&counts), "{line}");
    let directory = group.0.display().to_string();
    let finished = run_bounded(&mut command(["stream", "-n", "1", "--cgroup", &directory]), BOUND);
    assert!(finished.code() == 2 && finished.stderr.contains(&counts), "{finished:?}");
    // The directory of the right hierarchy works as well as its path.
    let right = Group::new(&mounted().expect("the case needs it"), "tracer-here");
    let sleeps = Guarded::spawn(&mut right.script("exec sleep 1000"));
    let stream = Stream::start(&["--cgroup", &right.0.display().to_string()]);
    let pid = sleeps.pid();
    stream.events_until(&|event| event.process.as_ref().is_some_and(|process| process.pid == pid));
    stream.stop();
    drop(sleeps);
}

fn thread() {
    let (say, hear) = std::sync::mpsc::channel();
    let (stay, end) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: no arguments, cannot fail.
        say.send(unsafe { libc::gettid() }).expect("it listens");
        let _ = end.recv();
    });
    let tid = hear.recv().expect("it sends its tid").to_string();
    let wanted = format!("{tid} is a thread of process {}", std::process::id());
    for arguments in [&["stream", "--pid", &tid][..], &["tree", &tid], &["top", "--pid", &tid]] {
        let finished = run_bounded(&mut command(arguments), BOUND);
        let line = finished.assert_one_line_failure();
        assert!(line.contains(&wanted), "{line}");
    }
    drop(stay);
    thread.join().expect("it does not panic");
}

/// A shell that, once released, starts another process and one that outlives it.
fn family() -> Guarded {
    let script = "read go; (exec sleep 0.3) & /bin/true; exit 3";
    Guarded::spawn(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()))
}

fn ends() {
    let mut shell = family();
    let pid = shell.pid().to_string();
    let mut tracer = Guarded::spawn(
        Command::new(tracer_binary()).args(["stream", "--pid", &pid]).stdin(Stdio::null()).stdout(Stdio::piped()),
    );
    let mut output = std::io::BufReader::new(tracer.child().stdout.take().expect("it was piped"));
    let mut read = String::new();
    // The shell is in the snapshot, so it is traced by now.
    while !read.contains("\"event\":\"process\"") {
        assert_ne!(std::io::BufRead::read_line(&mut output, &mut read).expect("lines"), 0, "{read}");
    }
    drop(shell.child().stdin.take());
    assert!(tracer.wait(BOUND).success(), "it exits by itself");
    std::io::Read::read_to_string(&mut output, &mut read).expect("lines");
    let lines = parse_lines(read.as_bytes());
    let of = |kind: Kind| lines.iter().filter(|line| line.event.kind() == kind).count();
    assert_eq!((of(Kind::Exit), of(Kind::Bye)), (3, 1), "all of them: {read}");
    assert_eq!(lines.last().map(|line| line.event.kind()), Some(Kind::Bye));
    shell.wait(BOUND);
}

fn keeps_going() {
    let mut shell = family();
    let pid = shell.pid();
    let stream = Stream::start(&["--keep-going", "--pid", &pid.to_string()]);
    drop(shell.child().stdin.take());
    let exit = |event: &Event| event.kind() == Kind::Exit;
    stream.events_until_the(3, &exit);
    // A stream that ends with the last of them ends within milliseconds. This waits for several more reads of the
    // ring.
    std::thread::sleep(Duration::from_millis(500));
    assert!(Path::new(&format!("/proc/{}/fd/0", stream.pid())).exists(), "it continues until it is ended");
    stream.stop();
    shell.wait(BOUND);
}

/// Only a guest's clock may be set.
fn no_guest() -> Option<String> {
    let guest = Path::new("/payload/live").exists() && Path::new("/init").exists();
    (!guest).then(|| "this is not a guest, so its clock is not set".to_owned())
}

const HOUR_S: i64 = 3600;

/// Sets the clock forward or back.
fn set_clock(by_s: i64) {
    use nix::time::{ClockId, clock_gettime, clock_settime};
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("it is there");
    let then = nix::sys::time::TimeSpec::new(now.tv_sec() + by_s, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).expect("we are root in a guest");
}

fn clock_is_set() {
    for by_s in [HOUR_S, -HOUR_S] {
        let stream = Stream::start(&[]);
        let run = Command::new(tracer_binary())
            .args(["run", "--", "sh", "-c", "sleep 1; sleep 1; sleep 1"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tracer starts");
        // The first part is over: the command runs.
        let slept = |event: &Event| {
            let comm = event.process.as_ref().and_then(|process| process.image.comm.as_deref());
            event.kind() == Kind::Exit && comm == Some("sleep")
        };
        stream.events_until(&slept);
        let boot_ns = crate::support::proc::boot_ns();
        set_clock(by_s);
        let output = run.wait_with_output().expect("tracer exits");
        let trace = stream.stop();
        set_clock(-by_s);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        // `3.01s · 12ms CPU (0 %) · largest 1.2M`, or minutes where every instruction is emulated.
        let total = said.lines().find(|line| line.contains(" CPU")).unwrap_or_else(|| panic!("totals: {said}"));
        let wall = total.split_ascii_whitespace().next().unwrap_or_default();
        assert!(wall.ends_with('s') && !wall.ends_with("ms") && !wall.contains('h'), "{said}");
        let offset = |event: &Event| event.boot_ns.map(|boot_ns| event.time.0 - boot_ns as i64);
        let before: Vec<i64> =
            trace.events().filter(|event| event.boot_ns.is_some_and(|at| at < boot_ns)).filter_map(offset).collect();
        // Setting the clock takes a moment. The new time is certain a while later, long before a second has passed.
        let later = boot_ns + 200_000_000;
        let after: Vec<i64> =
            trace.events().filter(|event| event.boot_ns.is_some_and(|at| at > later)).filter_map(offset).collect();
        let (before, after) = (before.last().expect("events before"), after.first().expect("events after"));
        let off = (after - before - by_s * 1_000_000_000).abs();
        assert!(off < 50_000_000, "the first event after the step has the new time: {off} ns off");
    }
}
