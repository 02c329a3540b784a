//! What processes execute: arguments, scripts, threads, failures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracer::event::{ArgvInfo, Capture, Kind, Process};

use crate::support::{Case, Need, Run, Trace, case, check_sound};

use super::exit::assert_ends;

pub(super) fn cases() -> Vec<Case> {
    let argv = |kind: &'static str| move || whole(kind);
    vec![
        case("exec::argv_empty", argv("none")),
        case("exec::argv_0_is_another_name", argv("other-name")),
        case("exec::argv_not_utf8", not_utf8),
        case("exec::argv_newlines_escapes_and_empty_strings", argv("awkward")),
        case("exec::argv_64k_to_the_byte", argv("at-limit")),
        case("exec::argv_2m_whole", || whole_up_to("two-mib", "6M")),
        case("exec::argv_2m_cut_by_default", || cut("two-mib")),
        case("exec::argv_longest_string_whole", || whole_up_to("longest", "256K")),
        case("exec::argv_longest_string_cut_by_default", || cut("longest")),
        case("exec::argv_20000_strings_whole", || whole_up_to("many", "1M")),
        case("exec::argv_20000_strings_cut_by_default", || cut("many")),
        case("exec::argv_not_resident", not_resident).needs(&[Need::Path("/proc/self/pagemap")]),
        case("exec::from_a_thread", from_thread),
        case("exec::from_a_thread_ends_the_others", from_thread_ends_others),
        case("exec::script", || script("plain", "inner")),
        case("exec::script_run_by_a_script", || script("nested", "outer")),
        case("exec::again_and_again", chain),
        case("exec::failed_is_no_exec", fails),
        case("exec::failed_past_the_point_of_no_return", fails_late),
        case("exec::in_a_vfork_child", vfork_works),
        case("exec::failed_in_a_vfork_child", vfork_fails),
    ]
}

pub(super) fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|error| panic!("{text} is not base64: {error}"))
}

/// Returns the bytes of each argument as tracer reports them.
pub(super) fn argv(process: &Process) -> Vec<Vec<u8>> {
    let texts = process.image.argv.as_ref().expect("argv is reported");
    match &process.image.argv_b64 {
        Some(encoded) => {
            let bytes: Vec<Vec<u8>> = encoded.iter().map(decode).collect();
            let shown: Vec<_> = bytes.iter().map(|argument| String::from_utf8_lossy(argument)).collect();
            assert!(shown.iter().eq(texts), "argv shows argv_b64: {texts:?}");
            assert!(bytes.iter().any(|argument| std::str::from_utf8(argument).is_err()), "argv_b64 needs a reason");
            bytes
        }
        None => texts.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
    }
}

/// Returns what the program itself received.
fn true_argv(trace: &Trace) -> Vec<Vec<u8>> {
    let argv: Vec<String> = trace.truth.one("report").get("argv");
    argv.iter().map(|argument| decode(argument)).collect()
}

fn size(argv: &[Vec<u8>]) -> u32 {
    argv.iter().map(|argument| argument.len() as u32 + 1).sum()
}

/// Asserts that the exec in the truth was reported with complete arguments.
#[track_caller]
fn assert_whole<'a>(trace: &'a Trace, truth: &[Vec<u8>]) -> &'a Process {
    let (process, _, info) = trace.exec(trace.truth.one("seen").id());
    let whole = ArgvInfo {
        argc: truth.len() as u32,
        bytes: size(truth),
        captured: size(truth),
        truncated: false,
        reason: None,
    };
    assert_eq!(info, &whole);
    // Not assert_eq, which would print two megabytes.
    assert!(argv(process) == truth, "argv differs: {:.300}", format!("{:?}", process.image.argv));
    process
}

fn whole(kind: &str) {
    let trace = Run::deed_with("exec-argv", &[kind]).trace();
    check_argv_trace(&trace);
}

fn whole_up_to(kind: &str, most: &str) {
    let trace = Run::deed_with("exec-argv", &[kind]).option(format!("--argv-max={most}")).trace();
    check_argv_trace(&trace);
}

fn check_argv_trace(trace: &Trace) {
    check_sound(trace);
    let truth = true_argv(trace);
    let process = assert_whole(trace, &truth);
    let ended = assert_ends(trace)[0];
    let last = trace.process(ended.id(), Kind::Exit);
    assert!(
        last.image.argv == process.image.argv && last.image.exe == process.image.exe,
        "an exit line repeats exe and argv"
    );
}

fn not_utf8() {
    let trace = Run::deed_with("exec-argv", &["not-utf8"]).trace();
    check_sound(&trace);
    let process = assert_whole(&trace, &true_argv(&trace));
    assert!(process.image.argv_b64.is_some(), "the bytes are reported");
    let shown: Vec<&str> = process.image.argv.iter().flatten().collect();
    assert_eq!(shown, ["prog", "\u{fffd}\u{fffd}", "caf\u{fffd}", "é"]);
}

/// The kernel faults the pages in for the exec itself. tracer reports the copy that the kernel made.
fn not_resident() {
    let trace = Run::deed_with("exec-not-resident", &["@dir"]).trace();
    let pages = trace.truth.one("pages");
    assert_eq!(pages.get::<usize>("mapped"), 0, "the deed has touched them: {pages:?}");
    assert!(true_argv(&trace).len() == 5 && size(&true_argv(&trace)) > 7000, "the program received all of it");
    check_argv_trace(&trace);
}

/// More than 64 KiB: the captured part is correct, and the missing part is reported.
fn cut(kind: &str) {
    let trace = Run::deed_with("exec-argv", &[kind]).trace();
    check_sound(&trace);
    let truth = true_argv(&trace);
    let (process, _, info) = trace.exec(trace.truth.one("seen").id());
    assert_eq!((info.argc, info.bytes), (truth.len() as u32, size(&truth)), "the full size is reported exactly");
    assert_eq!((info.truncated, info.reason), (true, Some(Capture::Cut)), "{info:?}");
    assert!(info.captured <= 64 << 10 && info.captured >= 60 << 10, "the ceiling is 64 KiB: {info:?}");
    let got = argv(process);
    let (last, before) = got.split_last().expect("64 KiB hold at least one argument");
    assert!(before == &truth[..before.len()], "what is captured is right");
    assert!(truth[before.len()].starts_with(last), "the last one may be truncated");
    assert!(size(&got).abs_diff(info.captured) <= 1, "{info:?}, but {} bytes are shown", size(&got));
}

fn from_thread() {
    let trace = Run::deed("exec-thread").trace();
    check_sound(&trace);
    assert_ends(&trace);
    let process = assert_whole(&trace, &true_argv(&trace));
    assert_eq!(process.tid, None, "the thread has become the leader");
    let (_, exec, _) = trace.exec(process.id);
    assert_eq!(exec.from_tid, Some(trace.truth.one("thread").get("tid")));
}

/// The leader and the two sleeping threads exit. The thread that called exec continues under another id.
fn from_thread_ends_others() {
    let trace = Run::deed("exec-thread").option("--threads").trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let caller: u32 = trace.truth.one("thread").get("tid");
    let tids = |kind| -> Vec<Option<u32>> {
        let mut tids: Vec<_> =
            trace.of(id, kind).iter().filter_map(|event| Some(event.process.as_ref()?.tid)).collect();
        tids.sort_unstable();
        tids
    };
    let started = tids(Kind::ThreadStart);
    assert_eq!(started.len(), 3, "{started:?}");
    let mut ended: Vec<_> = started.into_iter().filter(|tid| *tid != Some(caller)).collect();
    // The leader's tid is the pid, and therefore omitted.
    ended.insert(0, None);
    assert_eq!(tids(Kind::ThreadExit), ended);
    let last_thread = trace.about(id).iter().rposition(|event| event.kind() == Kind::ThreadExit);
    assert!(
        last_thread < trace.about(id).iter().position(|event| event.kind() == Kind::Exec),
        "before the exec is done"
    );
}

/// argv and exe are those of the interpreter, the file name is that of the script.
fn script(kind: &str, name: &str) {
    let trace = Run::deed_with("exec-script", &["@dir", kind]).trace();
    check_sound(&trace);
    assert_ends(&trace);
    let process = assert_whole(&trace, &true_argv(&trace));
    let (_, exec, _) = trace.exec(process.id);
    let (filename, interpreter) = (exec.filename.as_deref().unwrap_or(""), exec.interpreter.as_deref().unwrap_or(""));
    assert!(filename.ends_with(&format!("/place/{name}")), "{exec:?}");
    assert_eq!(interpreter.as_bytes(), true_argv(&trace)[0], "the program that runs in the end");
    assert_eq!(process.image.comm.as_deref(), Some(name), "a script gives its own name");
    let exe = decode(&trace.truth.one("seen").get::<String>("exe"));
    assert_eq!(process.image.exe.as_deref().map(str::as_bytes), Some(&*exe));
}

fn chain() {
    let trace = Run::deed_with("exec-chain", &["@dir"]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    let execs = trace.of(id, Kind::Exec);
    let counted: Vec<u32> = execs.iter().filter_map(|event| Some(event.process.as_ref()?.execs)).collect();
    assert_eq!(counted, [1, 2, 3, 4]);
    for (event, left) in execs.iter().zip(["3", "2", "1", "0"]) {
        let (process, exec) = (event.process.as_ref().expect("a process"), event.exec().expect("an exec"));
        assert_eq!(process.image.argv.as_ref().and_then(|argv| argv.last()), Some(left));
        assert_eq!(exec.previous_exe, process.image.exe, "the program is the same each time");
    }
}

fn fails() {
    let trace = Run::deed_with("exec-fails", &["@dir"]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    assert_eq!(trace.exit(id).code, Some(77), "it continued");
    assert_eq!(trace.of(id, Kind::Exec).len(), 0, "no exec succeeded");
}

fn fails_late() {
    let trace = Run::deed_with("exec-fails-late", &["@dir"]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    assert!(trace.exit(id).signal.is_some(), "the kernel kills a process after the point of no return");
    assert_eq!(trace.of(id, Kind::Exec).len(), 0, "the exec did not succeed");
}

fn vfork_works() {
    let trace = Run::deed_with("exec-vfork", &["works"]).trace();
    check_sound(&trace);
    assert_ends(&trace);
    let process = assert_whole(&trace, &true_argv(&trace));
    assert_eq!(process.parent_id, Some(trace.deed()));
    let kinds: Vec<Kind> = trace.about(process.id).iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [Kind::Fork, Kind::Exec, Kind::Exit]);
}

fn vfork_fails() {
    let trace = Run::deed_with("exec-vfork", &["fails"]).trace();
    check_sound(&trace);
    let id = assert_ends(&trace)[0].id();
    assert_eq!(trace.exit(id).code, Some(127));
    let kinds: Vec<Kind> = trace.about(id).iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [Kind::Fork, Kind::Exit]);
    let parent = trace.about(trace.deed()).last().and_then(|event| event.process.clone()).expect("the deed exited");
    assert_eq!(trace.process(id, Kind::Exit).image.exe, parent.image.exe, "it never was another program");
}
