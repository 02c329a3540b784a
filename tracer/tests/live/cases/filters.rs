//! Filters in the kernel: they report what a filter in user space lets through, and drop everything else before the
//! ring.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};

use crate::support::{
    BOUND, Case, Guarded, Need, Pair, STORM_RING, Stream, Trace, TruthLog, case, check_schema, command, copy_program,
    open_directory, past_unknown, run_bounded, this_binary, truth, which,
};

use super::stream::Storm;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("filters::descendants_are_the_same", descendants),
        case("filters::who_loses_its_parents_is_told_of", orphaned),
        case("filters::orphans_of_a_pid_namespace_come_in", adopted).needs(&[
            Need::Tool("unshare"),
            Need::Tool("nsenter"),
            Need::Check(no_pid_namespace),
        ]),
        case("filters::a_users_processes_are_the_same", of_user).needs(&[Need::Check(no_setpriv)]),
        case("filters::who_is_made_another_user_is_told_of_in_full", made_user).needs(&[Need::Check(no_setpriv)]),
        case("filters::who_turns_another_user_is_told_of_from_then_on", turns),
        case("filters::in_user_space_where_others_matter", in_user_space),
        case("filters::what_was_lost_is_made_right", after_a_loss),
        case("filters::starting_in_the_middle_of_a_storm", in_a_storm),
    ]
}

/// Unused user ids, one for each case.
const UID: &str = "54017";
const MADE: &str = "54018";
const TURNED: &str = "54019";

/// A deed that starts before tracing, and waits until it is traced.
pub(super) struct HeldDeed {
    deed: Guarded,
    place: TempDir,
}

impl HeldDeed {
    /// Starts the deed through `before`, a command that execs it.
    pub(super) fn start(before: &[&str], name: &str, arguments: &[&str]) -> Self {
        let place = open_directory();
        // This program may be in a directory that not every user can enter.
        let program = place.path().join("deed");
        copy_program(this_binary(), &program);
        let mut words: Vec<std::ffi::OsString> = before.iter().map(Into::into).collect();
        words.extend([program.into(), "--deed".into(), name.into(), place.path().join("truth").into()]);
        words.extend(arguments.iter().map(Into::into));
        let mut command = Command::new(&words[0]);
        let deed = Guarded::spawn(command.args(&words[1..]).stdin(Stdio::piped()));
        let held = Self { deed, place };
        // By now it has exec'd the deed.
        truth::await_said(&held.truth_file(), "deed");
        held
    }

    pub(super) fn truth_file(&self) -> PathBuf {
        self.place.path().join("truth")
    }

    pub(super) fn pid(&self) -> String {
        self.deed.pid().to_string()
    }

    pub(super) fn go(&mut self) {
        self.deed.child().stdin.as_mut().expect("it was piped").write_all(b"go\n").expect("it reads");
    }

    pub(super) fn ends(&mut self) -> TruthLog {
        assert!(self.deed.wait(3 * BOUND).success(), "the deed failed");
        TruthLog::read(&mut truth::reopen(&self.truth_file()))
    }
}

/// A randomised workload of some hundred processes.
pub(super) const ORACLE: [&str; 3] = ["4711", "400", "held"];

/// Asserts that the kernel filter dropped the other events before they were counted.
pub(super) fn check_left_out(trace: &Trace) {
    let bye = trace.bye();
    // Until the filter was complete, everything was counted, also storms of other processes on this machine.
    let said = &trace.finished.stderr;
    let before =
        said.split_once("known to it, after ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    let before = before.unwrap_or_else(|| panic!("it reports the count until then: {said}"));
    assert!(bye.filtered < before + 500, "a storm of other processes is not counted: {before}, {bye:?}");
    check_schema(trace);
}

/// Returns the number of processes that forked after tracing began and were reported.
pub(super) fn reported_forks(trace: &Trace) -> usize {
    trace.of_kind(Kind::Fork).count()
}

fn descendants() {
    let mut held = HeldDeed::start(&[], "oracle", &ORACLE);
    let pair = Pair::start(&["--pid", &held.pid()], &["pid"]);
    let storm = Storm::start();
    held.go();
    let log = held.ends();
    storm.stop();
    let trace = pair.assert_same();
    check_left_out(&trace);
    assert!(
        reported_forks(&trace) >= log.all("born").len() && reported_forks(&trace) > 300,
        "{}",
        reported_forks(&trace)
    );
}

fn orphaned() {
    let mut held = HeldDeed::start(&[], "orphaned", &[]);
    let root = truth::await_said(&held.truth_file(), "root").ident();
    let pair = Pair::start(&["--pid", &root.pid.to_string()], &["pid"]);
    held.go();
    held.ends();
    truth::await_said(&held.truth_file(), "over");
    pair.kernel().events_until(&|event| is_exit_of(event, root.id()));
    let trace = pair.assert_same();
    check_left_out(&trace);
    let over = TruthLog::read(&mut truth::reopen(&held.truth_file()));
    let over = over.one("over");
    let moves: Vec<u32> =
        trace.of(root.id(), Kind::Reparent).iter().filter_map(|event| Some(event.reparent()?.to_pid)).collect();
    assert_eq!(moves, [over.get::<u32>("second"), over.get("last")], "each new parent is reported");
}

pub(super) fn is_exit_of(event: &Event, id: ProcessId) -> bool {
    event.kind() == Kind::Exit && event.process.as_ref().is_some_and(|process| process.id == id)
}

/// busybox has a setpriv that cannot change the user.
fn no_setpriv() -> Option<String> {
    if !which("setpriv") {
        return Some("setpriv is not installed".to_owned());
    }
    let change = ["--reuid", UID, "--regid", UID, "--clear-groups", "true"];
    let tried = run_bounded(Command::new("setpriv").args(change).stdin(Stdio::null()), BOUND);
    (!tried.status.success()).then(|| format!("setpriv cannot change the user: {}", tried.stderr.trim()))
}

fn no_pid_namespace() -> Option<String> {
    let tried = run_bounded(Command::new("unshare").args(["--pid", "--fork", "true"]).stdin(Stdio::null()), BOUND);
    (!tried.status.success()).then(|| format!("cannot make a pid namespace here: {}", tried.stderr.trim()))
}

/// A process from outside enters the pid namespace of a matching process, and leaves an orphan there.
fn adopted() {
    let mut init = Guarded::spawn(
        Command::new("unshare").args(["--pid", "--fork", "sh", "-c", "read go; sleep 1; :"]).stdin(Stdio::piped()),
    );
    let mut inner = None;
    let end = std::time::Instant::now() + BOUND;
    while inner.is_none() {
        assert!(std::time::Instant::now() < end, "unshare did not fork");
        let unshare = init.pid();
        inner = crate::support::proc::all().into_values().find(|stat| stat.ppid == unshare && stat.comm == "sh");
    }
    let pid = inner.expect("it was found").pid.to_string();
    let pair = Pair::start(&["--pid", &pid], &["pid"]);
    // Nothing happens while its parent is about to exit: the two tracers could see events of two CPUs in different
    // order.
    let script = "(while kill -0 $$ 2>/dev/null; do :; done; sleep 0.3; /bin/true) & exec /bin/true";
    let entered = ["--target", &pid, "--pid", "sh", "-c", script];
    assert!(run_bounded(Command::new("nsenter").args(entered).stdin(Stdio::null()), BOUND).status.success());
    pair.kernel().events_until(&|event| {
        event.kind() == Kind::Exec
            && event.process.as_ref().is_some_and(|process| process.image.comm.as_deref() == Some("true"))
    });
    init.child().stdin.take().expect("it was piped").write_all(b"go\n").expect("it reads");
    init.wait(BOUND);
    let trace = pair.assert_same();
    check_left_out(&trace);
    assert_eq!(trace.count(Kind::Reparent), 1, "the orphan was reparented once");
}

fn of_user() {
    let set = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"];
    let mut held = HeldDeed::start(&set, "oracle", &ORACLE);
    let pair = Pair::start(&["--uid", UID], &["uid"]);
    let storm = Storm::start();
    held.go();
    held.ends();
    storm.stop();
    let trace = pair.assert_same();
    check_left_out(&trace);
    assert!(reported_forks(&trace) > 300, "{}", reported_forks(&trace));
}

/// The program execs through helper programs. Its creator and its previous program are known too.
fn made_user() {
    let pair = Pair::start(&["--uid", MADE], &["uid"]);
    let script = "/bin/true one; (/bin/true two; exit 3)";
    let set = ["--reuid", MADE, "--regid", MADE, "--clear-groups", "sh", "-c", script];
    let finished = run_bounded(Command::new("setpriv").args(set).stdin(Stdio::null()), BOUND);
    assert_eq!(finished.code(), 3);
    let trace = pair.assert_same();
    check_left_out(&trace);
    let first = trace.of_kind(Kind::Exec).next().expect("sh is executed");
    let (process, exec, _) = crate::support::parts(first);
    assert!(exec.previous_exe.as_deref().is_some_and(|exe| exe.ends_with("setpriv")), "{exec:?}");
    assert_eq!((process.pid, process.execs), (finished.pid, 2), "it was another program before: {process:?}");
}

fn turns() {
    let pair = Pair::start(&["--uid", TURNED], &["uid"]);
    let mut held = HeldDeed::start(&[], "turns", &[TURNED]);
    let child = truth::await_said(&held.truth_file(), "child").id();
    pair.kernel().events_until(&|event| is_exit_of(event, child));
    held.go();
    let log = held.ends();
    let killed = log.one("killed").id();
    pair.kernel().events_until(&|event| is_exit_of(event, killed));
    let trace = pair.assert_same_except(past_unknown);
    check_left_out(&trace);
    // The program of its child is still known.
    let child = trace.process(child, Kind::Fork);
    assert_eq!(child.image.exe.as_deref(), held.place.path().join("deed").to_str(), "{child:?}");
    assert!(child.image.argv.as_ref().is_some_and(|argv| argv.iter().any(|word| word == "turns")), "{child:?}");
    let quiet = trace.about(log.one("quiet").id());
    let [end] = quiet[..] else { panic!("nothing but its exit: {quiet:?}") };
    assert_eq!((end.exit().and_then(|exit| exit.code), end.is_inferred()), (Some(6), false), "{end:?}");
    let cause = trace.exit(killed).cause.as_ref().expect("the sender is known");
    assert_eq!(cause.sender_pid, Some(held.deed.pid()), "{cause:?}");
}

fn in_user_space() {
    for (more, why) in [
        (&["--ancestors"][..], "--ancestors"),
        (&["--collapse", "100"], "storms"),
        (&["--storm-alert", "100"], "storms"),
        (&["--on-slow", "collapse"], "storms"),
        (&["--reap"], "--reap"),
        (&["--pid", "1"], "init"),
    ] {
        let arguments = [&["stream", "--uid", UID, "--duration", "50ms"], more].concat();
        let finished = run_bounded(&mut command(&arguments), BOUND);
        let lines = crate::support::parse_lines(&finished.stdout);
        let hello = lines.first().and_then(|line| line.event.hello()).expect("it says hello");
        let filter = hello.filter.as_ref().expect("it has a filter");
        assert!(filter.kernel.is_empty() && filter.user.contains(&"uid".to_owned()), "{filter:?}");
        assert!(filter.why.as_ref().is_some_and(|text| text.contains(why)), "{filter:?}");
    }
}

/// Some events of matching processes were lost. The processes are found again, and no others are inferred.
fn after_a_loss() {
    let me = std::process::id().to_string();
    let stream = Stream::start(&["--ring-size=64K", "--argv-max=4K", "--pid", &me]);
    let tracer = Pid::from_raw(stream.pid() as i32);
    kill(tracer, Signal::SIGSTOP).expect("it is ours");
    let mut stays: Vec<Guarded> = Vec::new();
    for _ in 0..10 {
        for _ in 0..60 {
            run_bounded(Command::new("/bin/true").stdin(Stdio::null()), BOUND);
        }
        stays.push(Guarded::spawn(Command::new("sh").args(["-c", "sleep 150; :"]).stdin(Stdio::null())));
    }
    kill(tracer, Signal::SIGCONT).expect("it is ours");
    stream.wait_for("\"event\":\"lost\"");
    for stays in &stays {
        let pid = stays.pid();
        stream.events_until(&|event| {
            let process = event.process.as_ref().filter(|process| process.pid == pid);
            process.is_some_and(|process| process.ppid == Some(std::process::id()) && process.image.argv.is_some())
        });
    }
    drop(stays);
    let trace = stream.stop();
    check_schema(&trace);
    let bye = trace.bye();
    assert!(bye.lost > 0 && bye.inferred >= 10, "{bye:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
}

/// The filter is completed during a storm, and reports every process from its first event on.
fn in_a_storm() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (flag, truth_file) = (place.path().join("flag"), place.path().join("truth"));
    fs::write(&flag, "").expect("a new file");
    let arguments = crate::support::deed_arguments("storm", &truth_file, &[flag.clone().into()]);
    let mut storm = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    let pid = storm.pid().to_string();
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let stream = Stream::start(&[STORM_RING, "--pid", &pid]);
        let from = crate::support::proc::boot_ns();
        stream.events_until_the(300, &|event| event.kind() == Kind::Exit && event.boot_ns > Some(from));
        let to = crate::support::proc::boot_ns();
        rounds.push((stream.stop(), from, to));
    }
    fs::remove_file(&flag).expect("it is there");
    assert!(storm.wait(BOUND).success(), "the storm failed");
    let log = TruthLog::read(&mut truth::reopen(&truth_file));
    for (trace, from, to) in &rounds {
        super::attach::check_storm(trace, &log, *from, *to);
    }
}
