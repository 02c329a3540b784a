//! Signals end tracer whatever blocks it, and its output files may be changed while it writes them.

use std::fs::{self, File};
use std::io::{PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use tracer::event::Kind;

use super::run_signals::full_pipe;
use crate::support::{BOUND, Case, Guarded, Stream, case, check_sound, command, open_directory, parse_lines, proc};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("ending::a_blocked_stream_ends_by_a_signal", blocked_stream),
        case("ending::a_second_signal_ends_at_once", second_signal),
        case("ending::a_blocked_view_says_what_ended_it", blocked_view),
        case("ending::sighup_ends_with_all_that_was_seen", hangup),
        case("ending::sighup_that_is_ignored_stays_so", ignored_hangup),
        case("ending::a_file_that_is_cut_meanwhile_has_no_hole", truncated),
        case("ending::the_limit_on_cpu_time_ends_in_order", cpu_limit),
    ]
}

/// Starts a stream whose main thread blocks forever, because its `-vv` output fills a pipe.
fn blocked() -> (Guarded, PipeReader) {
    let (reader, writer) = full_pipe();
    let mut command = command(["-vv", "stream", "-o", "/dev/null"]);
    let mut tracer = Guarded::spawn(command.stderr(writer).stdout(Stdio::null()));
    // From now on it catches signals. It has written nothing yet.
    await_thread(&mut tracer, "tracer-signals");
    (tracer, reader)
}

fn await_thread(tracer: &mut Guarded, name: &str) {
    let end = Instant::now() + BOUND;
    let tasks = format!("/proc/{}/task", tracer.pid());
    let is = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
    while !fs::read_dir(&tasks).into_iter().flatten().flatten().any(is) {
        assert!(Instant::now() < end && tracer.runs(), "no thread {name}:\n{}", proc::process_tree(tracer.pid()));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn blocked_stream() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (mut tracer, reader) = blocked();
        tracer.signal(signal);
        assert_eq!(tracer.wait(BOUND).code(), Some(1), "{signal}");
        drop(reader);
    }
}

fn second_signal() {
    // Only the second signal limits the time. After the first one, tracer ends in order and waits for its sleeping
    // reader.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).expect("a pipe may be small");
    let mut command = command(["stream"]);
    let mut tracer = Guarded::spawn(command.stdout(writer).stderr(Stdio::piped()));
    drop(command);
    await_thread(&mut tracer, "tracer-output");
    tracer.signal(Signal::SIGTERM);
    tracer.signal(Signal::SIGINT);
    assert_eq!(tracer.wait(BOUND).code(), Some(1));
    assert_eq!(complaint(&mut tracer).lines().count(), 1);
    drop(reader);
}

fn complaint(tracer: &mut Guarded) -> String {
    let mut text = String::new();
    tracer.child().stderr.take().expect("it was piped").read_to_string(&mut text).expect("UTF-8");
    text
}

/// Writes text views into a pipe that nobody reads.
fn blocked_view() {
    let (reader, writer) = full_pipe();
    let mut command = command(["top", "-b", "-d", "0.01"]);
    let mut tracer = Guarded::spawn(command.stdout(writer).stderr(Stdio::piped()));
    drop(command);
    await_thread(&mut tracer, "tracer-screen");
    let end = Instant::now() + BOUND;
    while !proc::process_tree(tracer.pid()).contains("pipe_w") {
        assert!(Instant::now() < end, "nothing was written:\n{}", proc::process_tree(tracer.pid()));
        std::thread::sleep(Duration::from_millis(5));
    }
    tracer.signal(Signal::SIGTERM);
    let code = tracer.wait(BOUND).code();
    let said = complaint(&mut tracer);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("tracer: cannot end in order after SIGTERM"), "{said}");
    drop(reader);
}

fn hangup() {
    let stream = Stream::start(&[]);
    let trace = stream.stop_by(Signal::SIGHUP);
    check_sound(&trace);
    assert_eq!(trace.events().last().map(tracer::event::Event::kind), Some(Kind::Bye));
}

fn ignored_hangup() {
    let place = open_directory();
    let events = place.path().join("events");
    let mut command = command(["stream", "-o"]);
    command.arg(&events);
    // SAFETY: it sets a disposition, and is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut tracer = Guarded::spawn(&mut command);
    await_hello(&events, &mut tracer);
    tracer.signal(Signal::SIGHUP);
    // SIGHUP would take effect before the SIGINT below. SIGINT works even if a shell ignored it for a background job.
    std::thread::sleep(Duration::from_millis(50));
    assert!(tracer.runs(), "as nohup(1) wants it");
    tracer.signal(Signal::SIGINT);
    assert_eq!(tracer.wait(BOUND).code(), Some(0));
}

fn await_hello(events: &std::path::Path, tracer: &mut Guarded) {
    let end = Instant::now() + BOUND;
    while fs::metadata(events).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(Instant::now() < end && tracer.runs(), "no `hello`");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Like a log rotation that copies the file and truncates it.
fn truncated() {
    let place = open_directory();
    let events = place.path().join("events");
    let mut tracer = Guarded::spawn(command(["stream", "-o"]).arg(&events));
    await_hello(&events, &mut tracer);
    File::options().write(true).open(&events).and_then(|file| file.set_len(0)).expect("our file");
    for _ in 0..20 {
        assert!(Command::new("true").status().expect("it is there").success());
    }
    tracer.signal(Signal::SIGTERM);
    assert_eq!(tracer.wait(BOUND).code(), Some(0));
    let bytes = fs::read(&events).expect("it was written");
    assert!(!bytes.contains(&0), "no hole of zeros");
    // The truncation may fall into the snapshot, which is written in pieces that may end within a line.
    let begin = bytes.windows(2).position(|pair| pair == b"\n{").map_or(0, |at| at + 1);
    assert_eq!(parse_lines(&bytes[begin..]).last().map(|line| line.event.kind()), Some(Kind::Bye));
}

fn cpu_limit() {
    let place = open_directory();
    let events = place.path().join("events");
    let storm = super::stream::Storm::start();
    let mut command = command(["stream", "-o"]);
    command.arg(&events).stderr(Stdio::piped());
    // SAFETY: setrlimit reads one rlimit; it is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1, rlim_max: 30 };
            libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
            Ok(())
        });
    }
    let mut tracer = Guarded::spawn(&mut command);
    let code = tracer.wait(BOUND).code();
    storm.stop();
    let said = complaint(&mut tracer);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("limit on CPU time"), "{said}");
    let bytes = fs::read(&events).expect("it was written");
    assert_eq!(parse_lines(&bytes).last().map(|line| line.event.kind()), Some(Kind::Bye));
}
