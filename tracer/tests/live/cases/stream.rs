//! `tracer stream`: how it starts, ends, filters, and handles failures.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::Signal;
use tracer::event::Kind;

use crate::support::{
    BOUND, Case, Guarded, Need, Run, STORM_RING, Stream, Trace, case, check_schema, check_sound, command, copy_program,
    deed_arguments, run_bounded,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("stream::sigint_in_a_storm", || signal_in_a_storm(Signal::SIGINT)),
        case("stream::sigterm_in_a_storm", || signal_in_a_storm(Signal::SIGTERM)),
        case("stream::reader_goes_away", reader_goes_away),
        case("stream::reader_goes_away_in_a_storm", reader_goes_away_in_a_storm),
        case("stream::full_disk", full_disk),
        case("stream::disk_that_fills_up_in_a_storm", disk_fills_up)
            .needs(&[Need::Tool("unshare"), Need::Tool("mount")]),
        case("stream::two_at_the_same_time", two),
        case("stream::memlock_limit_of_nothing", no_memlock),
        case("stream::without_root", || refused_without_root("stream")),
        case("run::without_root", || refused_without_root("run")),
        case("stream::without_btf", without_btf),
        case("stream::standard_output", standard_output),
        case("stream::only_some_events", only_some_events),
        case("stream::only_some_names", only_some_names),
        case("stream::only_one_user", only_one_user),
        case("stream::text_has_no_raw_escapes", text_has_no_raw_escapes),
        case("stream::ancestors", ancestors),
        case("stream::count_and_duration", count_and_duration),
    ]
}

/// A storm beside a test. Dropping it ends the storm.
pub(super) struct Storm {
    deed: Guarded,
    flag: PathBuf,
    _place: tempfile::TempDir,
}

impl Storm {
    pub(super) fn start() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let (flag, truth) = (place.path().join("flag"), place.path().join("truth"));
        fs::write(&flag, "").expect("a new file");
        let arguments = deed_arguments("quiet-storm", &truth, &[flag.clone().into()]);
        let deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
        let end = std::time::Instant::now() + BOUND;
        while !fs::read_to_string(&truth).is_ok_and(|text| text.contains("\"storm\"")) {
            assert!(std::time::Instant::now() < end, "the storm did not start");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Self { deed, flag, _place: place }
    }

    pub(super) fn stop(mut self) {
        fs::remove_file(&self.flag).expect("it is there");
        assert!(self.deed.wait(BOUND).success(), "the storm failed");
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // Its workers check the flag. `stop` may have removed it.
        let _ = fs::remove_file(&self.flag);
    }
}

fn signal_in_a_storm(signal: Signal) {
    let mut storm = Storm::start();
    let stream = Stream::start(&[STORM_RING]);
    // In the middle of it.
    stream.events_until_the(500, &|event| event.kind() == Kind::Fork);
    let trace = stream.stop_by(signal);
    // It must end while the storm continues.
    assert!(storm.deed.runs());
    storm.stop();
    check_sound(&trace);
    assert_eq!(trace.finished.stderr, "", "quietly");
}

/// `tracer stream | head -5`.
fn reader_goes_away() {
    let mut tracer = Guarded::spawn(command(["stream"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut reader = BufReader::new(tracer.child().stdout.take().expect("it was piped"));
    for _ in 0..5 {
        let mut line = String::new();
        reader.read_line(&mut line).expect("lines are UTF-8");
        assert!(line.starts_with('{') && line.ends_with("}\n"), "{line:?}");
    }
    drop(reader);
    // The machine may be idle, so cause events to write.
    let status = loop_until_ended(&mut tracer);
    let mut stderr = String::new();
    tracer.child().stderr.take().expect("it was piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!((status.code(), &*stderr), (Some(0), ""), "it ends quietly");
}

fn reader_goes_away_in_a_storm() {
    let storm = Storm::start();
    let mut tracer = Guarded::spawn(command(["stream"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut reader = BufReader::new(tracer.child().stdout.take().expect("it was piped"));
    for _ in 0..1000 {
        reader.read_line(&mut String::new()).expect("lines are UTF-8");
    }
    drop(reader);
    let status = tracer.wait(BOUND);
    storm.stop();
    let mut stderr = String::new();
    tracer.child().stderr.take().expect("it was piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!((status.code(), &*stderr), (Some(0), ""), "it ends quietly");
}

/// Starts processes until tracer has exited. It notices only when it writes that its reader is gone.
fn loop_until_ended(tracer: &mut Guarded) -> std::process::ExitStatus {
    let end = std::time::Instant::now() + BOUND;
    while tracer.runs() {
        assert!(std::time::Instant::now() < end, "it continues without a reader");
        run_bounded(Command::new("true").stdin(Stdio::null()), BOUND);
    }
    tracer.wait(BOUND)
}

fn full_disk() {
    let finished = run_bounded(&mut command(["stream", "-o", "/dev/full"]), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("/dev/full") && line.contains("No space left on device"), "{line}");
}

/// A file system of a mebibyte in a private mount namespace.
fn disk_fills_up() {
    let place = crate::support::open_directory();
    let storm = Storm::start();
    let script = "mount -t tmpfs -o size=1M tmpfs \"$1\" && exec \"$0\" stream --no-snapshot -o \"$1/events\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(crate::support::tracer_binary()).arg(place.path());
    let finished = run_bounded(command.stdin(Stdio::null()), BOUND);
    storm.stop();
    let line = finished.assert_one_line_failure();
    assert!(line.contains("/events: No space left on device") && line.contains("-o"), "{line}");
}

fn two() {
    let first = Stream::start(&[]);
    let mut second = Stream::start(&[]);
    second.deed("exit-codes", &[]);
    let log = second.truth_file();
    let first = first.with_truth(&log);
    for trace in [second.stop(), first.stop()] {
        check_sound(&trace);
        super::exit::assert_ends(&trace);
    }
}

fn no_memlock() {
    let trace = Run::deed("exit-codes")
        .setup(|command| {
            // SAFETY: setrlimit reads one rlimit; it is safe between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) {
                        0 => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    }
                });
            }
        })
        .trace();
    check_sound(&trace);
    super::exit::assert_ends(&trace);
}

fn refused_without_root(subcommand: &str) {
    let place = crate::support::open_directory();
    let output = place.path().join("events");
    // tracer may be in a directory that not every user can enter; every user can enter this one.
    let binary = place.path().join("tracer");
    copy_program(crate::support::tracer_binary(), &binary);
    let mut command = Command::new(&binary);
    command.arg(subcommand).arg("-o").arg(&output).stdin(Stdio::null()).uid(65534).gid(65534);
    if subcommand == "run" {
        command.args(["--", "true"]);
    }
    let finished = run_bounded(&mut command, BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("root") && line.contains("CAP_BPF"), "it names the remedy: {line}");
}

fn without_btf() {
    let finished = run_bounded(&mut command(["stream", "--btf", "/nonexistent"]), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("/nonexistent") && line.matches("No such file").count() == 1, "it reports it once: {line}");
}

/// Without `-o`, and with a limit that ends it.
fn standard_output() {
    let finished = run_bounded(&mut command(["stream", "--duration", "300ms"]), BOUND);
    assert_eq!((finished.code(), &*finished.stderr), (0, ""));
    let lines = crate::support::parse_lines(&finished.stdout);
    assert_eq!(lines.first().map(|line| line.event.kind()), Some(Kind::Hello));
    assert_eq!(lines.last().map(|line| line.event.kind()), Some(Kind::Bye));
}

/// Runs the deed of 256 exit codes beside a stream with options.
fn filtered(options: &[&str]) -> Trace {
    let mut stream = Stream::start(options);
    stream.deed("exit-codes", &[]);
    let trace = stream.stop();
    let (bye, hello) = (trace.bye(), trace.hello());
    assert!(!hello.hooks.is_empty());
    assert!(bye.filtered > 0, "{bye:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
    assert_eq!(bye.emitted, trace.lines.len() as u64 - 2, "{bye:?}");
    assert!(trace.lines.is_sorted_by(|a, b| a.event.seq < b.event.seq), "seq increases");
    check_schema(&trace);
    trace
}

fn only_some_events() {
    let trace = filtered(&["--event", "exit"]);
    assert!(trace.events().all(|event| matches!(event.kind(), Kind::Hello | Kind::Exit | Kind::Bye)));
    assert_eq!(super::exit::assert_ends(&trace).len(), 256);
    let deed = trace.exit(trace.deed());
    assert_eq!(deed.code, Some(0));
}

fn only_some_names() {
    let trace = filtered(&["--comm", "no-such-name-*"]);
    assert_eq!(trace.lines.len(), 2, "nothing but hello and bye");
}

fn only_one_user() {
    let trace = filtered(&["--uid", "54321"]);
    assert_eq!(trace.lines.len(), 2, "nothing but hello and bye");
    let mut stream = Stream::start(&["--uid", "1234", "--event", "exit"]);
    stream.deed("exit-killed", &["9"]);
    let trace = stream.stop();
    assert_eq!(trace.count(Kind::Exit), 2, "the victim and its killer");
    super::exit::assert_ends(&trace);
}

fn text_has_no_raw_escapes() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let output = place.path().join("text");
    let mut arguments: Vec<std::ffi::OsString> = ["run", "--format", "text", "-o"].map(Into::into).to_vec();
    arguments.extend([output.clone().into(), "--".into()]);
    arguments.extend(deed_arguments("exec-argv", &place.path().join("truth"), &["awkward".into()]));
    let finished = run_bounded(&mut command(&arguments), BOUND);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let text = fs::read_to_string(&output).expect("text is UTF-8");
    assert!(text.contains("red") && text.contains("title"), "the arguments are shown: {text}");
    let raw: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert!(raw.is_empty(), "control characters reach the terminal: {raw:?}");
    assert!(!text.contains(['\u{202e}', '\u{2028}', '\u{feff}']), "and no invisible or bidirectional ones");
    assert!(!text.lines().any(|line| line.starts_with("lines")), "a newline in an argument stays escaped in the text");
}

/// Each line names the ancestors, nearest first, without a gap, up to init.
fn ancestors() {
    let mut stream = Stream::start(&["--ancestors"]);
    stream.deed("tree-subreaper-nearest", &[]);
    let trace = stream.stop();
    check_sound(&trace);
    check_schema(&trace);
    for said in trace.truth.all("born") {
        for event in trace.about(said.id()) {
            let process = event.process.as_ref().expect("selected by it");
            let ancestors = event.ancestors.as_deref().unwrap_or_else(|| panic!("no ancestors: {event:?}"));
            assert_eq!(ancestors.first().map(|nearest| nearest.id), process.parent_id, "{event:?}");
            assert_eq!(ancestors.last().map(|last| last.pid), Some(1), "{event:?}");
            let at = ancestors.iter().position(|ancestor| ancestor.id == trace.deed());
            assert!(at.is_some(), "the deed is one: {event:?}");
        }
    }
}

fn count_and_duration() {
    let storm = Storm::start();
    let finished = run_bounded(&mut command(["stream", "--no-snapshot", "--count", "7"]), BOUND);
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert_eq!(crate::support::parse_lines(&finished.stdout).len(), 9, "hello, seven, bye");
    let started = std::time::Instant::now();
    let finished = run_bounded(&mut command(["stream", "--duration", "1s", "-o", "/dev/null"]), BOUND);
    storm.stop();
    assert_eq!(finished.code(), 0, "{finished:?}");
    let lasted = started.elapsed().as_millis();
    assert!(lasted >= 1000, "it exited after {lasted} ms");
}
