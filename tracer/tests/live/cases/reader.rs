//! The reader of the output sleeps, wakes late, or never reads.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use tracer::event::{Dropped, Kind, Storm};

use crate::support::{BOUND, Case, Guarded, Line, Need, case, command, open_directory, parse_lines};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("reader::that_sleeps_does_not_outlast_a_signal", sleeps),
        case("reader::that_wakes_after_the_signal_gets_all", wakes),
        case("reader::that_sleeps_does_not_keep_signals_from_the_command", command_hears),
        case("reader::that_falls_behind_is_told_what_was_lost", falls_behind),
        case("reader::that_stops_for_a_while_is_not_waited_for", dropped).needs(&[Need::Alone]),
        case("reader::that_stops_for_a_while_gets_sums", collapsed).needs(&[Need::Alone]),
        case("reader::that_goes_ends_a_quiet_stream", goes),
        case("reader::that_goes_leaves_the_command_its_status", command_goes_on),
    ]
}

/// Sets a pipe to its smallest size, which the snapshot alone exceeds.
fn narrow(pipe: &impl AsFd) {
    fcntl(pipe.as_fd(), FcntlArg::F_SETPIPE_SZ(4096)).expect("a pipe may be small");
}

/// Starts a stream into a pipe that holds a page and that nobody reads. The pipe is full when this returns.
fn stream() -> (Guarded, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    narrow(&reader);
    let mut command = command(["stream"]);
    let tracer = Guarded::spawn(command.stdout(writer).stderr(Stdio::piped()));
    // The command holds the other end open until it is dropped.
    drop(command);
    await_bytes(&reader);
    (tracer, reader)
}

/// Waits until there is something to read.
fn await_bytes(reader: &impl AsFd) {
    let bound = PollTimeout::try_from(BOUND).expect("less than a month");
    let ready = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], bound).expect("one descriptor");
    assert_eq!(ready, 1, "nothing was written within {BOUND:?}");
}

fn complaint(tracer: &mut Guarded) -> String {
    let mut text = String::new();
    tracer.child().stderr.take().expect("it was piped").read_to_string(&mut text).expect("UTF-8");
    text
}

fn check_not_taken(tracer: &mut Guarded) {
    let status = tracer.wait(BOUND);
    let complaint = complaint(tracer);
    assert_eq!(status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("cannot finish") && complaint.contains(" bytes"), "{complaint}");
}

fn sleeps() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut tracer, _reader) = stream();
        tracer.signal(signal);
        check_not_taken(&mut tracer);
    }
}

fn wakes() {
    let (mut tracer, mut reader) = stream();
    tracer.signal(Signal::SIGTERM);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a pipe");
    let status = tracer.wait(BOUND);
    assert_eq!(status.code(), Some(0), "{}", complaint(&mut tracer));
    let lines = parse_lines(&bytes);
    let bye = lines.last().and_then(|line| line.event.bye()).expect("`bye` is last");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.lost);
}

/// Traces a command into a FIFO. Returns the reading end too.
fn run_into_fifo(place: &std::path::Path, options: &[&str], script: &str) -> (Guarded, File) {
    let fifo = place.join("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a new FIFO");
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("our FIFO");
    narrow(&reader);
    let mut arguments: Vec<OsString> = vec!["run".into(), "-o".into(), fifo.into()];
    arguments.extend(options.iter().map(Into::into));
    arguments.extend(["--", "sh", "-c", script].map(Into::into));
    let tracer = Guarded::spawn(command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()));
    (tracer, reader)
}

fn await_line(tracer: &mut Guarded, wanted: &str) {
    let mut line = String::new();
    let stdout = tracer.child().stdout.as_mut().expect("it was piped");
    BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
    assert_eq!(line.trim_end(), wanted);
}

fn command_hears() {
    let place = open_directory();
    let caught = place.path().join("caught");
    let script = format!(
        "trap 'echo TERM > {}; exit 5' TERM
        i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i+1)); done
        echo ready
        while :; do sleep 0.05; done",
        caught.display()
    );
    let (mut tracer, _reader) = run_into_fifo(place.path(), &[], &script);
    await_line(&mut tracer, "ready");
    tracer.signal(Signal::SIGTERM);
    check_not_taken(&mut tracer);
    assert_eq!(fs::read_to_string(caught).expect("it caught the signal"), "TERM\n");
}

/// More events than may wait for the reader, and more than the ring can hold too.
fn falls_behind() {
    let place = open_directory();
    let script = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done; echo done; exit 6";
    let (mut tracer, mut reader) = run_into_fifo(place.path(), &["--ring-size", "128K"], script);
    await_line(&mut tracer, "done");
    let flags = fcntl(&reader, FcntlArg::F_GETFL).map(nix::fcntl::OFlag::from_bits_retain).expect("our FIFO");
    fcntl(&reader, FcntlArg::F_SETFL(flags - nix::fcntl::OFlag::O_NONBLOCK)).expect("our FIFO");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a FIFO");
    let status = tracer.wait(BOUND);
    assert_eq!(status.code(), Some(6), "{}", complaint(&mut tracer));
    let lines = parse_lines(&bytes);
    let bye = lines.last().and_then(|line| line.event.bye()).expect("`bye` is last");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.lost);
    let reported: u64 = lines.iter().filter_map(|line| line.event.lost()).map(|lost| lost.total).sum();
    assert_eq!(bye.lost, reported, "each loss has its line");
    assert!(bye.lost > 0, "what neither the reader read nor the ring held is lost: {bye:?}");
    let written = lines.iter().filter(|line| !line.event.kind().is_framing()).count();
    assert_eq!(bye.emitted, written as u64, "everything else is there");
}

/// Number of processes forked while nobody reads: many more lines than may wait.
const MANY: u64 = 800;

/// Streams this test and `MANY` children to a reader that stops for a while. Returns the lines.
fn stops_for_a_while(how: &str) -> Vec<Line> {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    narrow(&reader);
    let me = std::process::id().to_string();
    let mut stream = command(["stream", "--no-snapshot", "--max-memory=1M", "--on-slow", how, "--pid", &me]);
    let mut tracer = Guarded::spawn(stream.stdout(writer).stderr(Stdio::piped()));
    drop(stream);
    await_bytes(&reader);
    for _ in 0..MANY {
        let done = Command::new("/bin/true").stdin(Stdio::null()).status();
        assert!(done.expect("there is /bin/true").success());
    }
    let text = Arc::new(Mutex::new(Vec::new()));
    let read = {
        let text = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = reader.read(&mut piece) {
                text.lock().expect("nobody panics").extend_from_slice(&piece[..bytes]);
            }
        })
    };
    let is_reported = || {
        let text = text.lock().expect("nobody panics");
        text.windows(DROPPED.len()).any(|window| window == DROPPED)
    };
    // It is reported as soon as there is space again, even without a new event.
    let end = Instant::now() + BOUND;
    while !is_reported() {
        assert!(Instant::now() < end, "no `dropped` line within {BOUND:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    tracer.signal(Signal::SIGTERM);
    let status = tracer.wait(BOUND);
    read.join().expect("it reads");
    assert_eq!(status.code(), Some(0), "{}", complaint(&mut tracer));
    let lines = parse_lines(&text.lock().expect("nobody panics"));
    let bye = lines.last().and_then(|line| line.event.bye()).expect("`bye` is last");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.dropped + bye.lost, "{bye:?}");
    assert_eq!((bye.dropped, bye.lost), (sum(&lines, |dropped| dropped.total), 0), "{bye:?}");
    assert_eq!(bye.emitted, lines.iter().filter(|line| !line.event.kind().is_framing()).count() as u64);
    lines
}

const DROPPED: &[u8] = b"\"event\":\"dropped\"";

fn sum(lines: &[Line], of: fn(&Dropped) -> u64) -> u64 {
    lines.iter().filter_map(|line| line.event.dropped()).map(of).sum()
}

fn shown(lines: &[Line], kind: Kind) -> u64 {
    lines.iter().filter(|line| line.event.kind() == kind).count() as u64
}

fn dropped() {
    let lines = stops_for_a_while("drop");
    assert!(sum(&lines, |dropped| dropped.forks) > MANY / 2, "most of the forks");
    assert_eq!(shown(&lines, Kind::Fork) + sum(&lines, |dropped| dropped.forks), MANY);
    assert_eq!(shown(&lines, Kind::Exec) + sum(&lines, |dropped| dropped.execs), MANY);
    assert_eq!(shown(&lines, Kind::Exit) + sum(&lines, |dropped| dropped.exits), MANY);
}

fn collapsed() {
    let lines = stops_for_a_while("collapse");
    let storms = |of: fn(&Storm) -> u64| lines.iter().filter_map(|line| line.event.storm()).map(of).sum::<u64>();
    assert!(storms(|storm| storm.forks) > MANY / 2, "most of it is collapsed");
    let forks = shown(&lines, Kind::Fork) + sum(&lines, |dropped| dropped.forks) + storms(|storm| storm.forks);
    let exits = shown(&lines, Kind::Exit) + sum(&lines, |dropped| dropped.exits) + storms(|storm| storm.exits);
    assert_eq!((forks, exits), (MANY, MANY));
}

/// A stream that has nothing more to write notices it too. Here it has written only its first lines.
fn goes() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut stream: Command = command(["stream", "--event", "thread_exit", "--threads", "--comm", "no-such-name"]);
    stream.stdout(writer);
    drop(reader);
    let mut tracer = Guarded::spawn(stream.stderr(Stdio::piped()));
    let status = tracer.wait(BOUND);
    assert_eq!((status.code(), complaint(&mut tracer).as_str()), (Some(0), ""));
}

/// The command does not notice, and keeps its exit status.
fn command_goes_on() {
    let place = open_directory();
    let script = "echo ready; i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done; exit 9";
    let (mut tracer, reader) = run_into_fifo(place.path(), &[], script);
    await_line(&mut tracer, "ready");
    drop(reader);
    let status = tracer.wait(BOUND);
    assert_eq!((status.code(), complaint(&mut tracer).as_str()), (Some(9), ""));
}
