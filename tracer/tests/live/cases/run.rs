//! `tracer run`: the command behaves as if it were started by hand.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tracer::event::Kind;

use crate::support::{
    BOUND, Case, Guarded, Run, TruthLine, TruthLog, case, check_sound, command, deed_arguments, open_directory,
    parse_lines, run_bounded, truth, write_script,
};

use super::stream::Storm;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run::exit_status_of_the_command", exit_status),
        case("run::command_killed", killed),
        case("run::command_not_found", || cannot(&["no-such-command-anywhere"], 127)),
        case("run::path_not_found", || cannot(&["/nonexistent/command"], 127)),
        case("run::not_executable", || cannot(&["/proc/self/status"], 126)),
        case("run::a_directory", || cannot(&["/"], 126)),
        case("run::input_and_output_untouched", input_and_output),
        case("run::starts_as_by_hand", starts_as_by_hand),
        case("run::first_exec_is_the_command", first_exec),
        case("run::sigint_to_the_process_group", sigint_to_group),
        case("run::sigterm_to_tracer_is_passed_on", sigterm_to_tracer),
        case("run::daemon_left_behind", daemon_left_behind),
        case("run::daemon_left_behind_is_waited_for_on_request", daemon_waited_for),
        case("run::nothing_but_descendants", nothing_but_descendants),
        case("run::summary_tree", summary_tree),
        case("run::found_on_path", found_on_path),
        case("run::full_disk", full_disk),
    ]
}

fn sh(script: &str) -> Run {
    Run::of(["sh", "-c", script])
}

fn exit_status() {
    for code in [0, 1, 7, 42, 255] {
        let trace = sh(&format!("exit {code}")).trace();
        assert_eq!(trace.finished.code(), code);
        check_sound(&trace);
    }
}

fn killed() {
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let trace = sh(&format!("kill -{signal} $$")).trace();
        assert_eq!(trace.finished.code(), code, "128 and the signal: {}", trace.finished.stderr);
        check_sound(&trace);
    }
}

/// Like a shell: 127 if there is no such command, 126 if it cannot be executed, and one line about it.
fn cannot(cmd: &[&str], code: i32) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let output = place.path().join("events");
    let mut arguments: Vec<OsString> = vec!["run".into(), "-o".into(), output.into(), "--".into()];
    arguments.extend(cmd.iter().map(Into::into));
    let finished = run_bounded(&mut command(&arguments), BOUND);
    assert_eq!(finished.code(), code, "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "one line: {}", finished.stderr);
    assert!(finished.stderr.contains(cmd[0]), "it names the command: {}", finished.stderr);
}

fn input_and_output() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (input, output) = (place.path().join("input"), place.path().join("events"));
    let bytes: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    fs::write(&input, &bytes).expect("a new file");
    let arguments: [OsString; 7] =
        ["run".into(), "-o".into(), output.into(), "--".into(), "sh".into(), "-c".into(), "cat; echo words >&2".into()];
    let finished = run_bounded(command(&arguments).stdin(fs::File::open(&input).expect("it was just written")), BOUND);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    assert!(finished.stdout == bytes, "every byte, and no other");
    assert_eq!(finished.stderr, "words\n", "and no output of tracer");
}

/// The same deed by hand and under tracer: it observes no difference in its own start.
fn starts_as_by_hand() {
    let place = open_directory();
    let look = |traced: bool| -> TruthLine {
        let truth_file = place.path().join(if traced { "traced-truth" } else { "truth" });
        let deed = deed_arguments("tell-start", &truth_file, &[]);
        let mut arguments: Vec<OsString> =
            vec!["run".into(), "-o".into(), place.path().join("events").into(), "--".into()];
        arguments.extend(deed.iter().cloned());
        let mut command = if traced { command(&arguments) } else { Command::new(&deed[0]) };
        if !traced {
            command.args(&deed[1..]).stdin(Stdio::null());
        }
        // A separate group, and a mask and a disposition that it must keep.
        command.process_group(0).env("SOME_VARIABLE", "some value");
        // SAFETY: these set masks and dispositions of the child only; they are safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // The first as nohup does, the second as a script's shell does for background jobs.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR2] {
                    libc::signal(signal, libc::SIG_IGN);
                }
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, libc::SIGVTALRM);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
                libc::setpriority(libc::PRIO_PROCESS, 0, 3);
                Ok(())
            });
        }
        let finished = run_bounded(&mut command, BOUND);
        assert_eq!(finished.code(), 0, "{}", finished.stderr);
        let mut said = TruthLog::read(&mut truth::reopen(&truth_file)).one("start").clone();
        // Its own group is that of the first process: tracer, or itself.
        assert_eq!(said.get::<u32>("pgid"), finished.pid, "in the group of what was started");
        said.facts["pgid"] = 0.into();
        // The descriptor of the output differs between the two calls.
        let fds: Vec<String> = said.get("fds");
        said.facts["fds"] = fds.iter().map(|fd| fd.split(' ').next().unwrap_or_default()).collect::<Vec<_>>().into();
        said
    };
    let (traced, by_hand) = (look(true), look(false));
    for (key, value) in by_hand.facts.as_object().expect("facts have names") {
        // The environment may contain secrets, so do not print it.
        let shown = if key == "environment" {
            "…".to_owned()
        } else {
            format!("{} traced, {value} by hand", traced.facts[key])
        };
        assert!(traced.facts[key] == *value, "{key} differs: {shown}");
    }
}

fn first_exec() {
    let trace = Run::of(["/bin/sh", "-c", "exec /bin/true x"]).trace();
    check_sound(&trace);
    let execs: Vec<_> = trace.of_kind(Kind::Exec).collect();
    let shown: Vec<(u32, Vec<&str>)> = execs
        .iter()
        .filter_map(|event| event.process.as_ref())
        .map(|process| (process.execs, process.image.argv.iter().flatten().collect()))
        .collect();
    assert_eq!(shown, [(1, vec!["/bin/sh", "-c", "exec /bin/true x"]), (2, vec!["/bin/true", "x"])]);
    let ids: Vec<_> = execs.iter().filter_map(|event| event.process.as_ref()).map(|process| process.id).collect();
    assert_eq!(ids[0], ids[1], "one process");
    assert_eq!(trace.exit(ids[0]).code, Some(0));
}

/// Starts `tracer run` around the deed that waits for a signal, in a separate group, and waits until it is ready.
pub(super) fn await_signal(place: &std::path::Path) -> Guarded {
    let mut arguments: Vec<OsString> = vec!["run".into(), "-o".into(), place.join("events").into(), "--".into()];
    arguments.extend(deed_arguments("await-signal", &place.join("truth"), &[]));
    let mut tracer =
        Guarded::spawn(command(&arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::inherit()));
    let mut line = String::new();
    BufReader::new(tracer.child().stdout.take().expect("it was piped")).read_line(&mut line).expect("UTF-8");
    assert_eq!(line, "ready\n");
    tracer
}

/// Checks, after the command has exited by a signal that it caught, its status, its exit in the trace, and the rest
/// of the trace.
pub(super) fn check_caught(mut tracer: Guarded, place: &std::path::Path, signal: Signal) {
    let status = tracer.wait(BOUND);
    assert_eq!(status.code(), Some(40 + signal as i32), "the command's own status");
    let log = TruthLog::read(&mut truth::reopen(&place.join("truth")));
    assert_eq!(log.one("caught").get::<i32>("signal"), signal as i32);
    let lines = parse_lines(&fs::read(place.join("events")).expect("it was written"));
    assert_eq!(lines.last().map(|line| line.event.kind()), Some(Kind::Bye), "tracer still reports");
    let id = log.one("deed").id();
    let exits: Vec<_> = lines
        .iter()
        .filter(|line| {
            line.event.kind() == Kind::Exit && line.event.process.as_ref().is_some_and(|process| process.id == id)
        })
        .collect();
    assert_eq!(exits.len(), 1, "its exit is in the trace");
}

/// Like Ctrl-C in a terminal.
fn sigint_to_group() {
    let place = open_directory();
    let tracer = await_signal(place.path());
    killpg(Pid::from_raw(tracer.pid() as i32), Signal::SIGINT).expect("our own group");
    check_caught(tracer, place.path(), Signal::SIGINT);
}

fn sigterm_to_tracer() {
    let place = open_directory();
    let tracer = await_signal(place.path());
    tracer.signal(Signal::SIGTERM);
    check_caught(tracer, place.path(), Signal::SIGTERM);
}

/// The daemon of the deed. Dropping it ends the daemon.
struct Flag(std::path::PathBuf);

impl Drop for Flag {
    fn drop(&mut self) {
        // The test may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

fn daemon_left_behind() {
    let place = open_directory();
    let flag = Flag(place.path().join("flag"));
    let truth_file = place.path().join("truth");
    let mut arguments: Vec<OsString> = vec!["run".into(), "--".into()];
    arguments.extend(deed_arguments("tree-left-behind", &truth_file, &[flag.0.clone().into()]));
    let finished = run_bounded(&mut command(&arguments), BOUND);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    let daemon = TruthLog::read(&mut truth::reopen(&truth_file)).one("daemon").ident();
    assert!(crate::support::proc::stat(daemon.pid).is_some_and(|stat| stat.start == daemon.start), "it still runs");
    let running = finished.stderr.lines().filter(|line| line.contains(" running ")).count();
    assert_eq!(running, 1, "one of its lines is of a process that still runs: {}", finished.stderr);
}

fn daemon_waited_for() {
    let place = open_directory();
    let flag = Flag(place.path().join("flag"));
    let (truth_file, output) = (place.path().join("truth"), place.path().join("events"));
    let mut arguments: Vec<OsString> =
        vec!["run".into(), "--wait".into(), "-o".into(), output.clone().into(), "--".into()];
    arguments.extend(deed_arguments("tree-left-behind", &truth_file, &[flag.0.clone().into()]));
    let mut tracer = Guarded::spawn(command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()));
    let exits = || {
        let bytes = fs::read(&output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches("\"event\":\"exit\"").count()
    };
    let end = std::time::Instant::now() + BOUND;
    // The command and the process in the middle have exited.
    while exits() < 2 {
        assert!(std::time::Instant::now() < end, "the command did not exit");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(tracer.runs(), "it waits for the daemon");
    drop(flag);
    assert_eq!(tracer.wait(BOUND).code(), Some(0), "the command's status");
    assert_eq!(exits(), 3, "the daemon's exit too");
}

/// Events of other processes are not in it, and never leave the kernel.
fn nothing_but_descendants() {
    let storm = Storm::start();
    let trace = sh("for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true $i; done; exit 3").trace();
    storm.stop();
    assert_eq!(trace.finished.code(), 3);
    check_sound(&trace);
    assert_eq!(trace.count(Kind::Exit), 11, "the shell and its ten children");
    assert_eq!(trace.count(Kind::Exec), 11);
    assert_eq!(trace.bye().filtered, 0, "others' events never leave the kernel: {:?}", trace.bye());
}

/// Without `-o`: a tree on standard error, nothing on standard output.
fn summary_tree() {
    let finished = run_bounded(
        &mut command([
            "run",
            "--",
            "sh",
            "-c",
            "echo out; for i in 1 2 3; do /bin/true $i; done; (exit 9); kill -9 $$",
        ]),
        BOUND,
    );
    assert_eq!(finished.code(), 137, "{}", finished.stderr);
    assert_eq!(finished.stdout(), "out\n");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    for n in 1..=3 {
        assert!(at(&format!("true {n}")).is_some(), "each process has a line: {}", finished.stderr);
    }
    assert!(at("true 1") < at("true 2") && at("true 2") < at("true 3"), "in order: {}", finished.stderr);
    assert!(
        lines.iter().any(|line| line.contains("SIGKILL") || line.contains("KILL")),
        "how each exited: {}",
        finished.stderr
    );
    // The subshell that exited with 9: the status is in a separate column, before the command.
    let status_9 = |line: &&&str| line.split_whitespace().nth(3) == Some("9");
    assert_eq!(lines.iter().filter(status_9).count(), 1, "its status, once: {}", finished.stderr);
}

/// The command still runs to its exit.
fn full_disk() {
    let place = open_directory();
    let mark = place.path().join("mark");
    let script = "for i in 1 2 3 4 5; do /bin/true $i; done; sleep 0.3; echo done > \"$0\"; exit 3";
    let mut arguments: Vec<OsString> =
        ["run", "-o", "/dev/full", "--", "sh", "-c", script].into_iter().map(Into::into).collect();
    arguments.push(mark.clone().into());
    let finished = run_bounded(&mut command(&arguments), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("/dev/full") && line.contains("No space left on device"), "{line}");
    assert_eq!(fs::read_to_string(&mark).ok().as_deref(), Some("done\n"), "it was not interrupted");
}

fn found_on_path() {
    let place = open_directory();
    let program = place.path().join("some-program");
    write_script(&program, "#!/bin/sh\nexit 23\n");
    let path = std::env::join_paths(
        [place.path().join("nothing-here"), place.path().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .expect("no colon in it");
    let trace = Run::of(["some-program"])
        .setup(move |command| {
            command.env("PATH", path);
        })
        .trace();
    assert_eq!(trace.finished.code(), 23);
    check_sound(&trace);
    let first = trace.of_kind(Kind::Exec).next().and_then(|event| event.exec()).expect("it was executed");
    assert_eq!(first.filename.as_deref(), program.to_str());
}
