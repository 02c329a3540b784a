//! Starting tracer, waiting for it within bounds, and cleaning up after it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tracer::event::Event;
use tracer::id::ProcessId;

use super::trace::{Trace, parse_lines};
use super::truth::{Ident, TruthLog};
use super::{proc, truth};

/// Longest that anything here may take, unless a case says otherwise.
pub(crate) const BOUND: Duration = Duration::from_secs(40);

/// The tracer under test.
pub(crate) fn tracer_binary() -> PathBuf {
    std::env::var_os("TRACER_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_tracer").map(PathBuf::from))
        .expect("TRACER_BIN names the tracer to test")
}

/// This program: the tests and the deeds.
pub(crate) fn this_binary() -> PathBuf {
    std::env::current_exe().expect("/proc is mounted")
}

/// `tracer` with arguments, its input empty.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(tracer_binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A deed, to be run as it is or under `tracer run`.
pub(crate) fn deed_arguments(name: &str, truth: &Path, arguments: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![this_binary().into(), "--deed".into(), name.into(), truth.into()];
    all.extend(arguments.iter().cloned());
    all
}

/// Processes that were there before: this one, its ancestors, init and kthreadd. A stream of a subtree may name them
/// as parents without having told of them.
pub(crate) fn outsiders() -> BTreeSet<ProcessId> {
    let mut ids = BTreeSet::new();
    let mut pid = std::process::id();
    while pid != 0 {
        let Some(stat) = proc::stat(pid) else { break };
        ids.insert(ProcessId::from_ticks(stat.start, pid));
        pid = stat.ppid;
    }
    for pid in [1, 2] {
        if let Some(stat) = proc::stat(pid) {
            ids.insert(ProcessId::from_ticks(stat.start, pid));
        }
    }
    ids
}

/// A child that is killed if the test ends before it does.
pub(crate) struct Guarded {
    child: Child,
    status: Option<ExitStatus>,
}

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, status: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("it was not waited for yet");
    }

    /// Waits for its end, or says what hangs.
    pub(crate) fn wait(&mut self, bound: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let ended = ends_within(self.pid(), bound);
        assert!(ended, "process {} did not end within {bound:?}:\n{}", self.pid(), proc::picture(self.pid()));
        let status = self.child.wait().expect("a child of ours");
        self.status = Some(status);
        status
    }

    /// True while it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child of ours");
        }
        self.status.is_none()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.runs() {
            // Both may fail only because it ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a process has ended, without reaping it.
fn ends_within(pid: u32, bound: Duration) -> bool {
    // SAFETY: pidfd_open takes two integers and returns a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let end = Instant::now() + bound;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, on this stack.
        let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) };
        if ready == 1 {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) pid: u32,
    pub(crate) took: Duration,
}

impl Finished {
    /// The exit code; a death by signal is a failure of the test.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("it was killed: {self:?}"))
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("stdout is UTF-8")
    }

    /// Asserts a runtime failure as documented: status 1 and one line on stderr.
    pub(crate) fn assert_one_line_failure(&self) -> &str {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line says what failed and the remedy: {}", self.stderr);
        lines[0]
    }
}

/// Runs a command to its end within bounds; output goes through files, so it cannot block on a pipe.
pub(crate) fn run_bounded(command: &mut Command, bound: Duration) -> Finished {
    let directory = TempDir::new().expect("a temporary directory");
    let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let started = Instant::now();
    let mut child = Guarded::spawn(command);
    let status = child.wait(bound);
    Finished {
        status,
        stdout: fs::read(&out).unwrap(),
        stderr: String::from_utf8_lossy(&fs::read(&err).unwrap()).into_owned(),
        pid: child.pid(),
        took: started.elapsed(),
    }
}

/// A change to how tracer is started.
type Setup = Box<dyn FnOnce(&mut Command)>;

/// `tracer run -o FILE -- CMD`.
pub(crate) struct Run {
    directory: TempDir,
    options: Vec<OsString>,
    cmd: Vec<OsString>,
    bound: Duration,
    clean: bool,
    setup: Option<Setup>,
}

impl Run {
    /// Around any command.
    pub(crate) fn of<S: Into<OsString>>(cmd: impl IntoIterator<Item = S>) -> Self {
        Self {
            directory: open_directory(),
            options: Vec::new(),
            cmd: cmd.into_iter().map(Into::into).collect(),
            bound: BOUND,
            clean: false,
            setup: None,
        }
    }

    /// Around a deed.
    pub(crate) fn deed(name: &str) -> Self {
        Self::deed_with(name, &[])
    }

    /// Around a deed with arguments; `@dir` stands for an empty directory that is removed afterwards.
    pub(crate) fn deed_with(name: &str, arguments: &[&str]) -> Self {
        let mut run = Self::of([""]);
        let place = run.directory.path().join("place");
        fs::create_dir(&place).expect("a new directory");
        open_to_all(&place);
        let place = place.into_os_string();
        let arguments: Vec<OsString> =
            arguments.iter().map(|&argument| if argument == "@dir" { place.clone() } else { argument.into() }).collect();
        run.cmd = deed_arguments(name, &run.directory.path().join("truth"), &arguments);
        run.clean = true;
        run
    }

    /// Adds an option of `tracer run`.
    pub(crate) fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    pub(crate) fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Changes how tracer itself is started.
    pub(crate) fn setup(mut self, setup: impl FnOnce(&mut Command) + 'static) -> Self {
        self.setup = Some(Box::new(setup));
        self
    }

    /// Runs it to the end. A deed must succeed, or the test says nothing about tracer.
    pub(crate) fn trace(self) -> Trace {
        let Self { directory, options, cmd, bound, clean, setup } = self;
        let (output, truth_file) = (directory.path().join("events"), directory.path().join("truth"));
        let mut arguments: Vec<OsString> = vec!["run".into(), "-o".into(), output.clone().into()];
        arguments.extend(options);
        arguments.push("--".into());
        arguments.extend(cmd);
        let mut command = command(&arguments);
        if let Some(setup) = setup {
            setup(&mut command);
        }
        let mut outsiders = outsiders();
        let before = proc::boot_ns();
        let finished = run_bounded(&mut command, bound);
        let after = proc::boot_ns();
        let text = fs::read(&output).unwrap_or_else(|error| panic!("no output ({error}): {finished:?}"));
        let truth = if truth_file.exists() { TruthLog::read(&mut truth::reopen(&truth_file)) } else { TruthLog::default() };
        let lines = parse_lines(&text);
        // Tracer itself is the parent of CMD; it was born between the two readings of the clock.
        outsiders.extend(lines.iter().filter_map(|line| {
            let parent = line.event.process.as_ref()?.parent_id?;
            let born = parent.start_ticks() * tracer::id::TICK_NS;
            let window = before.saturating_sub(tracer::id::TICK_NS)..=after;
            (parent.pid() == finished.pid && window.contains(&born)).then_some(parent)
        }));
        let trace = Trace { lines, truth, finished, outsiders };
        assert!(!clean || trace.finished.status.success(), "the deed failed: {}", trace.finished.stderr);
        trace
    }
}

/// A directory that processes of any user may enter.
pub(crate) fn open_directory() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    open_to_all(directory.path());
    directory
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("a directory of ours");
}

/// `tracer stream -o FILE`, machine-wide, from its `hello` on.
pub(crate) struct Stream {
    directory: TempDir,
    tracer: Guarded,
    truth: TruthLog,
    outsiders: BTreeSet<ProcessId>,
}

impl Stream {
    /// Starts it and returns once `hello` is written: all that is begun from now on must be seen.
    pub(crate) fn start(options: &[&str]) -> Self {
        let stream = Self::start_unready(options);
        stream.wait_for("\"event\":\"hello\"");
        stream
    }

    /// Starts it and returns at once.
    pub(crate) fn start_unready(options: &[&str]) -> Self {
        let directory = open_directory();
        let output = directory.path().join("events");
        let mut arguments: Vec<OsString> = vec!["stream".into(), "-o".into(), output.into()];
        arguments.extend(options.iter().map(Into::into));
        let mut command = command(&arguments);
        command.stdout(File::create(directory.path().join("stdout")).unwrap());
        command.stderr(File::create(directory.path().join("stderr")).unwrap());
        let outsiders = outsiders();
        Self { tracer: Guarded::spawn(&mut command), directory, truth: TruthLog::default(), outsiders }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.tracer.pid()
    }

    /// Waits until a text is in the output.
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

    /// Waits for an event, and gives all up to it.
    pub(crate) fn events_until(&self, wanted: &dyn Fn(&Event) -> bool) -> Vec<Event> {
        let output = self.directory.path().join("events");
        let end = Instant::now() + BOUND;
        loop {
            let bytes = fs::read(&output).unwrap_or_default();
            // The last line may be half written.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let mut events: Vec<Event> = parse_lines(&bytes[..whole]).into_iter().map(|line| line.event).collect();
            if let Some(index) = events.iter().position(wanted) {
                events.truncate(index + 1);
                return events;
            }
            assert!(Instant::now() < end, "the event that is waited for is not told within {BOUND:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a deed to its end beside it.
    pub(crate) fn deed(&mut self, name: &str, arguments: &[&str]) {
        let truth_file = self.directory.path().join("truth");
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let all = deed_arguments(name, &truth_file, &arguments);
        let finished = run_bounded(Command::new(&all[0]).args(&all[1..]).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "the deed failed: {}", finished.stderr);
        self.truth = TruthLog::read(&mut truth::reopen(&truth_file));
    }

    /// Takes the truth from a file of the test's own.
    pub(crate) fn with_truth(mut self, path: &Path) -> Self {
        self.truth = TruthLog::read(&mut truth::reopen(path));
        self
    }

    pub(crate) fn truth_file(&self) -> PathBuf {
        self.directory.path().join("truth")
    }

    /// Ends it by `SIGINT` and reads all it wrote.
    pub(crate) fn stop(self) -> Trace {
        self.stop_by(Signal::SIGINT)
    }

    pub(crate) fn stop_by(mut self, signal: Signal) -> Trace {
        // Whatever the truth file holds by now belongs to the trace.
        if self.truth_file().exists() {
            self.truth = TruthLog::read(&mut truth::reopen(&self.truth_file()));
        }
        let mut outsiders = std::mem::take(&mut self.outsiders);
        outsiders.insert(Ident::of(self.pid()).id());
        self.tracer.signal(signal);
        let started = Instant::now();
        let status = self.tracer.wait(BOUND);
        let read = |name| fs::read(self.directory.path().join(name)).unwrap_or_default();
        let finished = Finished {
            status,
            stdout: read("stdout"),
            stderr: String::from_utf8_lossy(&read("stderr")).into_owned(),
            pid: self.pid(),
            took: started.elapsed(),
        };
        assert!(finished.status.success(), "a signal ends it with 0: {finished:?}");
        Trace { lines: parse_lines(&read("events")), truth: self.truth.clone(), finished, outsiders }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
