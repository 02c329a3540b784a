//! `tracer stream`, running beside the workload of a test.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tracer::event::Event;
use tracer::event::id::ProcessId;

use super::process::{BOUND, Finished, Guarded, SLOWNESS, run_bounded};
use super::trace::{Trace, parse_lines};
use super::tracer::{command, deed_arguments, directory_in_memory, outsiders, tracer_binary};
use super::truth::{Ident, TruthLine, TruthLog};
use super::{proc, truth};

/// Holds everything that a storm records, even if tracer gets no CPU in the meantime. Tests that use it do not
/// measure speed.
pub(crate) const STORM_RING: &str = "--ring-size=128M";

/// `tracer stream -o FILE`, machine-wide, from its `hello` on.
pub(crate) struct Stream {
    directory: TempDir,
    tracer: Guarded,
    truth: TruthLog,
    outsiders: BTreeSet<ProcessId>,
    tail: RefCell<Tail>,
}

/// The output that was read so far.
#[derive(Default)]
struct Tail {
    bytes: u64,
    events: Vec<Event>,
}

impl Tail {
    /// Reads what was added since, except for an incomplete last line.
    fn follow(&mut self, output: &Path) -> std::io::Result<()> {
        let mut file = File::open(output)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        self.events.extend(parse_lines(&bytes[..whole]).into_iter().map(|line| line.event));
        self.bytes += whole as u64;
        Ok(())
    }
}

impl Stream {
    /// Starts it and returns once `hello` is written. Everything that starts afterwards must be recorded.
    pub(crate) fn start(options: &[&str]) -> Self {
        let stream = Self::start_unready(options);
        stream.wait_for("\"event\":\"hello\"");
        stream
    }

    /// Starts it and returns at once.
    pub(crate) fn start_unready(options: &[&str]) -> Self {
        Self::spawn(&[], options)
    }

    /// Starts it through another command that execs tracer, and returns once `hello` is written.
    pub(crate) fn start_by(before: &[&str], options: &[&str]) -> Self {
        let stream = Self::spawn(before, options);
        stream.wait_for("\"event\":\"hello\"");
        stream
    }

    fn spawn(before: &[&str], options: &[&str]) -> Self {
        let directory = directory_in_memory();
        let output = directory.path().join("events");
        let mut arguments: Vec<OsString> = vec!["stream".into(), "-o".into(), output.into()];
        // It also records storms of other processes on this machine. The default ring stays where another command
        // starts it, and where memory is scarce.
        if before.is_empty() && SLOWNESS == 1 && !options.iter().any(|option| option.starts_with("--ring-size")) {
            arguments.push("--ring-size=32M".into());
        }
        arguments.extend(options.iter().map(Into::into));
        let mut command = match before {
            [] => command(&arguments),
            [first, more @ ..] => {
                let mut before = Command::new(first);
                before.args(more).arg(tracer_binary()).args(&arguments).stdin(Stdio::null());
                before
            }
        };
        command.stdout(File::create(directory.path().join("stdout")).unwrap());
        command.stderr(File::create(directory.path().join("stderr")).unwrap());
        let outsiders = outsiders();
        Self {
            tracer: Guarded::spawn(&mut command),
            directory,
            truth: TruthLog::default(),
            outsiders,
            tail: RefCell::default(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.tracer.pid()
    }

    /// Waits until the output contains a text.
    pub(crate) fn wait_for(&self, text: &str) {
        let output = self.directory.path().join("events");
        let end = Instant::now() + BOUND;
        while !fs::read(&output).is_ok_and(|bytes| contains(&bytes, text.as_bytes())) {
            let complaint = fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default();
            assert!(proc::stat(self.pid()).is_some_and(|stat| !stat.is_zombie()), "tracer ended early: {complaint}");
            assert!(Instant::now() < end, "{text} was not written within {BOUND:?}; stderr: {complaint}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for an event. Returns all events up to it.
    pub(crate) fn events_until(&self, wanted: &dyn Fn(&Event) -> bool) -> Vec<Event> {
        self.events_until_the(1, wanted)
    }

    /// Waits for the event number `count` of a kind. Returns all events up to it.
    pub(crate) fn events_until_the(&self, count: usize, wanted: &dyn Fn(&Event) -> bool) -> Vec<Event> {
        let end = Instant::now() + BOUND;
        let output = self.directory.path().join("events");
        let (mut looked_at, mut found) = (0, 0);
        loop {
            let mut tail = self.tail.borrow_mut();
            // The file may not exist yet.
            let _ = tail.follow(&output);
            while let Some(event) = tail.events.get(looked_at) {
                looked_at += 1;
                found += usize::from(wanted(event));
                if found == count {
                    return tail.events[..looked_at].to_vec();
                }
            }
            assert!(Instant::now() < end, "the expected event was not reported within {BOUND:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a deed to its exit beside the stream.
    pub(crate) fn deed(&mut self, name: &str, arguments: &[&str]) {
        let truth_file = self.directory.path().join("truth");
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let all = deed_arguments(name, &truth_file, &arguments);
        let finished = run_bounded(Command::new(&all[0]).args(&all[1..]).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "the deed failed: {}", finished.stderr);
        self.truth = TruthLog::read(&mut truth::reopen(&truth_file));
    }

    /// Waits for a line in the truth file.
    pub(crate) fn await_said(&self, what: &str) -> TruthLine {
        truth::await_said(&self.truth_file(), what)
    }

    /// Returns the truth so far.
    pub(crate) fn truth(&self) -> &TruthLog {
        &self.truth
    }

    /// Takes the truth from a file that the test provides.
    pub(crate) fn with_truth(mut self, path: &Path) -> Self {
        self.truth = TruthLog::read(&mut truth::reopen(path));
        self
    }

    pub(crate) fn truth_file(&self) -> PathBuf {
        self.directory.path().join("truth")
    }

    /// Ends it by `SIGINT` and reads all its output.
    pub(crate) fn stop(self) -> Trace {
        self.stop_by(Signal::SIGINT)
    }

    pub(crate) fn stop_by(mut self, signal: Signal) -> Trace {
        // The trace includes everything that the truth file holds now.
        if self.truth_file().exists() {
            self.truth = TruthLog::read(&mut truth::reopen(&self.truth_file()));
        }
        let mut outsiders = std::mem::take(&mut self.outsiders);
        outsiders.insert(Ident::of(self.pid()).id());
        self.tracer.signal(signal);
        let status = self.tracer.wait(BOUND);
        let read = |name| fs::read(self.directory.path().join(name)).unwrap_or_default();
        let finished = Finished {
            status,
            stdout: read("stdout"),
            stderr: String::from_utf8_lossy(&read("stderr")).into_owned(),
            pid: self.pid(),
        };
        assert!(finished.status.success(), "a signal ends it with 0: {finished:?}");
        Trace { lines: parse_lines(&read("events")), truth: self.truth.clone(), finished, outsiders }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
