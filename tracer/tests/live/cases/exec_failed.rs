//! Execs that fail, with `--exec-failed`.

use std::fs;
use std::process::Command;

use tracer::event::{Capture, Event, ExecFailed, Kind};
use tracer::source::live::ExecFailures;
use tracer::source::live::Live;
use tracer::sys::errno;

use crate::support::{
    BOUND, Case, Guarded, Need, Run, Stream, Trace, TruthLine, TruthLog, case, check_sound, command, deed_arguments,
    run_bounded, truth,
};

use super::exec_argv::decode;
use super::exit::assert_ends;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("exec_failed::names_path_argv_and_errno", reasons),
        case("exec_failed::of_strange_arguments", strange),
        case("exec_failed::of_arguments_not_resident", not_resident).needs(&[Need::Path("/proc/self/pagemap")]),
        // The arguments of a finished system call are available since `bpf_task_pt_regs`.
        case("exec_failed::by_the_tracepoint_of_the_system_call", by_tracepoint).needs(&[Need::Kernel(5, 15)]),
        case("exec_failed::from_a_thread", from_thread),
        case("exec_failed::in_a_spawned_child", spawned),
        case("exec_failed::each_of_a_storm", storm),
        case("exec_failed::only_on_request", only_on_request),
        case("exec_failed::on_the_whole_machine", whole_machine),
        case("exec_failed::nothing_but_descendants", nothing_but_descendants),
        case("exec_failed::a_search_along_path_is_one", search),
        case("exec_failed::summary_names_each", summary),
        case("exec_failed::of_a_shell", shell).needs(&[Need::Path("/etc/passwd"), Need::Tool("env")]),
    ]
}

fn run(name: &str, arguments: &[&str]) -> Trace {
    let trace = Run::deed_with(name, arguments).option("--exec-failed").trace();
    check_sound(&trace);
    trace
}

fn failure(event: &Event) -> &ExecFailed {
    event.exec_failed().expect("an exec_failed line has `exec_failed`")
}

/// Decodes a text that tracer reports to bytes.
fn decoded(text: Option<&str>, encoded: Option<&str>) -> Option<Vec<u8>> {
    encoded.map(decode).or_else(|| text.map(|text| text.as_bytes().to_vec()))
}

fn arguments(failed: &ExecFailed) -> Option<Vec<Vec<u8>>> {
    match (&failed.argv_b64, &failed.argv) {
        (Some(encoded), _) => Some(encoded.iter().map(decode).collect()),
        (None, argv) => argv.as_ref().map(|argv| argv.iter().map(|argument| argument.as_bytes().to_vec()).collect()),
    }
}

/// Asserts that a line matches the truth about the attempt.
#[track_caller]
fn assert_reports(event: &Event, tried: &TruthLine) {
    let failed = failure(event);
    let code: i32 = tried.get("errno");
    assert_eq!((failed.code, failed.errno.as_str()), (code, errno::name(code).as_str()));
    assert_eq!(decoded(failed.filename.as_deref(), failed.filename_b64.as_deref()).unwrap_or_default(), path(tried));
    assert_eq!(failed.dirfd, tried.get::<Option<i32>>("fd"));
    let process = event.process.as_ref().expect("it has a process");
    assert_eq!(failed.from_tid, Some(tried.get::<u32>("tid")).filter(|&tid| tid != process.pid));
}

fn path(tried: &TruthLine) -> Vec<u8> {
    decode(&tried.get::<String>("path"))
}

fn argv(tried: &TruthLine) -> Vec<Vec<u8>> {
    tried.get::<Vec<String>>("argv").iter().map(|argument| decode(argument)).collect()
}

fn reasons() {
    let trace = run("exec-failed-reasons", &["@dir"]);
    assert_ends(&trace);
    let tried = trace.truth.all("tried");
    assert_reports_all(&trace.of(trace.truth.one("ended").id(), Kind::ExecFailed), &tried);
    assert_eq!(trace.bye().exec_failures, trace.count(Kind::ExecFailed), "bye counts them");
}

/// Asserts that each line matches the truth about its attempt, and is complete. Together they have many reasons.
#[track_caller]
fn assert_reports_all(events: &[&Event], tried: &[&TruthLine]) {
    assert_eq!(events.len(), tried.len(), "{events:#?}");
    let mut errors = Vec::new();
    for (event, tried) in events.iter().zip(tried) {
        assert_reports(event, tried);
        assert_eq!(arguments(failure(event)), Some(argv(tried)));
        let info = event.argv_info().expect("it reports the size");
        assert_eq!((info.argc as usize, info.truncated), (argv(tried).len(), false));
        errors.push(failure(event).errno.as_str());
    }
    for reason in ["ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP"] {
        assert!(errors.contains(&reason), "the deed meets {reason}: {errors:?}");
    }
}

/// Uses the tracepoint, which serves kernels where BPF cannot attach to functions, also on other kernels.
fn by_tracepoint() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let log = place.path().join("truth");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let events = runtime.block_on(async {
        let builder = Live::builder()
            .exec_failures(ExecFailures::All)
            .kernel(|options| options.exec_failed_by_function = Some(false));
        let mut tracer = builder.start().expect("tracing begins");
        let hooks = tracer.hello().hello().expect("what is in use").hooks.clone();
        for hook in ["syscalls:sys_exit_execve", "syscalls:sys_exit_execveat"] {
            assert!(hooks.iter().any(|name| name == hook), "{hook} is one of {hooks:?}");
        }
        let arguments = deed_arguments("exec-failed-reasons", &log, &[place.path().into()]);
        let finished = run_bounded(Command::new(&arguments[0]).args(&arguments[1..]), BOUND);
        assert!(finished.status.success(), "{finished:?}");
        let mut events = Vec::new();
        tracer.stop(&mut events);
        assert_eq!(tracer.lost(), 0, "nothing is lost");
        events
    });
    let truth = TruthLog::read(&mut truth::reopen(&log));
    let id = truth.one("ended").id();
    let is_of = |event: &&Event| event.process.as_ref().is_some_and(|process| process.id == id);
    let failures: Vec<&Event> = events.iter().filter(|event| event.kind() == Kind::ExecFailed).filter(is_of).collect();
    assert_reports_all(&failures, &truth.all("tried"));
}

fn strange() {
    let trace = run("exec-failed-strange", &[]);
    let id = trace.truth.one("ended").id();
    let events = trace.of(id, Kind::ExecFailed);
    let [bad_path, no_argv, bad_argument, bad_list, many, long, large] = events[..] else { panic!("{events:#?}") };
    let info = |event: &Event| event.argv_info().cloned().expect("it reports the size");
    for (event, what) in
        [(bad_path, "bad path"), (no_argv, "no argv"), (bad_argument, "bad argument"), (bad_list, "bad list")]
    {
        assert_eq!(failure(event).code, trace.truth.one(what).get::<i32>("errno"), "{what}");
    }
    assert_eq!((&failure(bad_path).filename, failure(bad_path).filename_capture), (&None, Some(Capture::Unreadable)));
    assert_eq!((arguments(failure(no_argv)), info(no_argv).truncated), (Some(vec![]), false), "null is an empty list");
    assert_eq!(arguments(failure(bad_argument)), Some(vec![b"good".to_vec()]), "the readable part");
    assert_eq!(info(bad_argument).reason, Some(Capture::Unreadable));
    assert_eq!((arguments(failure(bad_list)), info(bad_list).reason), (None, Some(Capture::Unreadable)));
    let tried = trace.truth.all("tried");
    for (event, tried) in [many, long, large].into_iter().zip(tried) {
        assert_reports(event, tried);
        let (info, truth) = (info(event), argv(tried));
        assert_eq!((info.truncated, info.reason), (true, Some(Capture::Cut)), "{info:?}");
        let shown = arguments(failure(event)).expect("a part of it is there");
        let (last, before) = shown.split_last().expect("an argument at least");
        assert_eq!(before, &truth[..before.len()], "the captured part is correct");
        assert!(truth[before.len()].starts_with(last) && before.len() < truth.len());
        let bytes = shown.iter().map(|argument| argument.len() as u32 + 1).sum::<u32>();
        assert!(
            bytes == info.captured || bytes == info.captured + 1,
            "truncated within an argument or after it: {info:?}"
        );
    }
}

/// A BPF program in the kernel cannot wait for a page. Unreadable arguments are reported as unreadable, and never
/// invented.
fn not_resident() {
    let trace = run("exec-failed-not-resident", &["@dir"]);
    let tried = trace.truth.all("tried");
    let events = trace.of(trace.truth.one("ended").id(), Kind::ExecFailed);
    assert_eq!((events.len(), tried.len()), (2, 2), "{events:#?}");
    let count = |said: &TruthLine, when: &str, what: &str| said.facts[when][what].as_u64().expect("a number");
    for (event, tried) in events.into_iter().zip(tried) {
        assert_eq!(count(tried, "before", "mapped"), 0, "the deed has touched them: {tried:?}");
        assert_reports(event, tried);
        let info = event.argv_info().expect("it reports the size");
        let (truth, decoded) = (argv(tried), arguments(failure(event)));
        if info.truncated {
            assert_eq!(info.reason, Some(Capture::Unreadable), "{info:?}");
            let decoded = decoded.unwrap_or_default();
            let whole = decoded.len().saturating_sub(1);
            assert!(decoded.len() <= truth.len() && decoded[..whole] == truth[..whole], "the captured part is correct");
            assert!(decoded.last().is_none_or(|last| truth[whole].starts_with(last)), "the captured part is correct");
        } else {
            assert_eq!(decoded.as_ref(), Some(&truth));
        }
        // The kernel has read all of the pages or none, or has read ahead.
        match count(tried, "after", "mapped") {
            0 => assert!(info.truncated, "it was not readable: {info:?}"),
            all if all == count(tried, "after", "pages") => assert!(!info.truncated, "all was there: {info:?}"),
            _ => {}
        }
    }
}

fn from_thread() {
    let trace = run("exec-failed-thread", &[]);
    let event = trace.one(trace.deed(), Kind::ExecFailed);
    assert_reports(event, trace.truth.one("tried"));
    assert!(failure(event).from_tid.is_some());
}

fn spawned() {
    let trace = run("exec-failed-spawn", &[]);
    let code: i32 = trace.truth.one("spawned").get("errno");
    let failed: Vec<&Event> = trace
        .of_kind(Kind::ExecFailed)
        .filter(|event| failure(event).filename.as_deref() == Some("/no/such/program"))
        .collect();
    let [event] = failed[..] else { panic!("one attempt: {failed:#?}") };
    let process = event.process.as_ref().expect("it has a process");
    assert_eq!(failure(event).code, code);
    assert_eq!(process.parent_id, Some(trace.deed()), "a separate child tried it");
    assert_eq!(trace.exit(process.id).code, Some(127), "the status that posix_spawn gives such a child");
}

fn storm() {
    let trace = run("exec-failed-storm", &["20000"]);
    let said = trace.truth.one("storm");
    assert_eq!(trace.of(said.id(), Kind::ExecFailed).len() as u64, said.get::<u64>("times"));
}

fn only_on_request() {
    let trace = Run::deed_with("exec-failed-reasons", &["@dir"]).trace();
    check_sound(&trace);
    assert_eq!(trace.count(Kind::ExecFailed), 0);
    assert!(!trace.hello().hooks.iter().any(|hook| hook.contains("execve")), "{:?}", trace.hello().hooks);
    let asked_for = Run::deed_with("exec-failed-reasons", &["@dir"]).option("--event=exec_failed").trace();
    assert!(asked_for.count(Kind::ExecFailed) > 0, "asking for the events is a request");
    assert!(asked_for.hello().hooks.iter().any(|hook| hook.contains("execve")), "{:?}", asked_for.hello().hooks);
}

fn whole_machine() {
    let mut stream = Stream::start(&["--exec-failed", "--no-snapshot"]);
    stream.deed("exec-failed-storm", &["500"]);
    let trace = stream.stop();
    let said = trace.truth.one("storm");
    assert_eq!(trace.of(said.id(), Kind::ExecFailed).len() as u64, said.get::<u64>("times"));
    assert_eq!(trace.bye().lost, 0);
}

/// Failed execs of other processes never leave the kernel.
fn nothing_but_descendants() {
    let script = "for i in 1 2 3; do sh -c '/no/such/inside; true'; done 2>/dev/null";
    let outside = "while :; do env /no/such/outside; done 2>/dev/null";
    let mut other = Guarded::spawn(std::process::Command::new("sh").args(["-c", outside]));
    let trace = Run::of(["sh", "-c", script]).option("--exec-failed").trace();
    assert!(other.runs(), "the other process still runs");
    check_sound(&trace);
    assert_eq!(trace.bye().filtered, 0, "{:?}", trace.bye());
    let text = |event: &Event| failure(event).filename.as_deref().unwrap_or_default().to_owned();
    let of = |what: &str| trace.of_kind(Kind::ExecFailed).filter(|event| text(event).contains(what)).count();
    assert_eq!((of("inside"), of("outside")), (3, 0));
}

fn search() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let directories: Vec<_> = (0..5).map(|n| place.path().join(n.to_string())).collect();
    for directory in &directories {
        fs::create_dir(directory).expect("a new directory");
    }
    let path = std::env::join_paths(&directories).expect("no colon in it");
    let arguments = [path.to_str().expect("UTF-8"), "no-such-program"];
    let trace = Run::deed_with("exec-failed-search", &arguments).option("--exec-failed=summary").trace();
    check_sound(&trace);
    let events: Vec<&Event> = trace.of_kind(Kind::ExecFailed).collect();
    // One line for all, unless it takes a second.
    let decoded = |event: &&Event| {
        failure(event).paths.clone().unwrap_or_else(|| failure(event).filename.iter().cloned().collect())
    };
    let all: Vec<String> = events.iter().flat_map(decoded).map(|path| path.to_string()).collect();
    let attempts: u64 = events.iter().map(|event| failure(event).attempts.unwrap_or(1)).sum();
    let slow = events.last().unwrap().boot_ns.unwrap() - events[0].boot_ns.unwrap() >= 500_000_000;
    assert!(events.len() == 1 || slow, "one line for all: {events:#?}");
    let paths: Vec<String> =
        directories.iter().map(|directory| directory.join("no-such-program").display().to_string()).collect();
    assert_eq!((attempts, all), (5, paths));
    let id = trace.truth.one("ended").id();
    for event in events {
        assert_eq!(failure(event).errno, "ENOENT");
        assert_eq!(event.process.as_ref().map(|process| process.id), Some(id), "the process that searched");
    }
    assert_eq!(trace.about(id).last().map(|event| event.kind()), Some(Kind::Exit), "reported before its exit");
}

/// Without `-o`: the failed execs follow the tree.
fn summary() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let plain = place.path().join("plain");
    fs::write(&plain, "").expect("a new file");
    let deed = deed_arguments("exec-failed-search", &place.path().join("truth"), &[place.path().into()]);
    let mut all = [deed, vec!["no-such-program".into(), plain.clone().into()]].concat();
    // Shells differ in their own searches. They exec a path directly.
    let script = r#""$0" "$1" "$2" "$3" "$4" "$5"; "$6"; true"#;
    all.splice(0..0, ["run", "--exec-failed=summary", "--", "sh", "-c", script].map(Into::into));
    let finished = run_bounded(&mut command(all), BOUND);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    let all = &finished.stderr;
    assert!(all.lines().any(|line| line.contains("ENOENT") && line.contains("no-such-program")), "{all}");
    let refused = ["EACCES", plain.to_str().expect("UTF-8"), "Permission denied"];
    assert!(all.lines().any(|line| refused.iter().all(|part| line.contains(part))), "{all}");
}

/// What a shell cannot run. A file that the shell looked for by `stat` was never passed to exec, and is not reported.
/// A file that it tried to exec is reported, with the reason.
fn shell() {
    let script = "nosuchcommand; /etc/passwd; env nosuchcommand; true";
    let finished = run_bounded(&mut command(["run", "--exec-failed", "--", "sh", "-c", script]), BOUND);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    let entries: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("  E")).collect();
    let about = |what: &str| entries.iter().filter(|line| line.contains(what)).copied().collect::<Vec<&str>>();
    let refused = about("/etc/passwd");
    assert!(refused.len() == 1 && refused[0].contains("EACCES"), "{entries:?}");
    let absent = about("/nosuchcommand");
    assert!(!absent.is_empty() && absent.iter().all(|line| line.contains("ENOENT")), "{entries:?}");
    assert_eq!(entries.len(), absent.len() + 1, "{entries:?}");
}
