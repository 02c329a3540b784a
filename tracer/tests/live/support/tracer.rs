//! Starts tracer, and `tracer run` around a command.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;
use tracer::event::id::ProcessId;

use super::process::{BOUND, run_bounded};
use super::trace::{Trace, parse_lines};
use super::truth::TruthLog;
use super::{proc, truth};

/// Returns the path of the tracer under test.
pub(crate) fn tracer_binary() -> PathBuf {
    std::env::var_os("TRACER_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_tracer").map(PathBuf::from))
        .expect("TRACER_BIN names the tracer to test")
}

/// Returns the path of this program, which holds the tests and the deeds.
pub(crate) fn this_binary() -> PathBuf {
    std::env::current_exe().expect("/proc is mounted")
}

/// Returns `tracer` with arguments and an empty standard input.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(tracer_binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Returns the command line of a deed, to run it directly or under `tracer run`.
pub(crate) fn deed_arguments(name: &str, truth: &Path, arguments: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![this_binary().into(), "--deed".into(), name.into(), truth.into()];
    all.extend(arguments.iter().cloned());
    all
}

/// Returns the processes that existed before: this one, its ancestors, init and kthreadd. A stream of a subtree may
/// name them as parents without having reported them.
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
    /// Runs any command.
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

    /// Runs a deed.
    pub(crate) fn deed(name: &str) -> Self {
        Self::deed_with(name, &[])
    }

    /// Runs a deed with arguments. `@dir` stands for an empty directory that is removed afterwards, `@events` for the
    /// file that tracer writes.
    pub(crate) fn deed_with(name: &str, arguments: &[&str]) -> Self {
        let mut run = Self::of([""]);
        let place = run.directory.path().join("place");
        fs::create_dir(&place).expect("a new directory");
        open_to_all(&place);
        let (place, events) = (place.into_os_string(), run.directory.path().join("events").into_os_string());
        let arguments: Vec<OsString> = arguments
            .iter()
            .map(|&argument| match argument {
                "@dir" => place.clone(),
                "@events" => events.clone(),
                _ => argument.into(),
            })
            .collect();
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

    /// Runs it to its exit. The deed must succeed, or the test proves nothing about tracer.
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
        let truth =
            if truth_file.exists() { TruthLog::read(&mut truth::reopen(&truth_file)) } else { TruthLog::default() };
        let lines = parse_lines(&text);
        // Tracer itself is the parent of CMD. It was forked between the two readings of the clock.
        outsiders.extend(lines.iter().filter_map(|line| {
            let parent = line.event.process.as_ref()?.parent_id?;
            let born = parent.start_ticks() * tracer::event::id::TICK_NS;
            let window = before.saturating_sub(tracer::event::id::TICK_NS)..=after;
            (parent.pid() == finished.pid && window.contains(&born)).then_some(parent)
        }));
        let trace = Trace { lines, truth, finished, outsiders };
        assert!(!clean || trace.finished.status.success(), "the deed failed: {}", trace.finished.stderr);
        trace
    }
}

/// Returns a directory that processes of any user may enter.
pub(crate) fn open_directory() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    open_to_all(directory.path());
    directory
}

/// Returns such a directory in memory, if there is enough space. A process that writes there never waits for a disk
/// that others use.
pub(crate) fn directory_in_memory() -> TempDir {
    const SHARED_MEMORY: &str = "/dev/shm";
    const NEEDED: u64 = 4 << 30;
    let available = statvfs(SHARED_MEMORY).map_or(0, |at| at.blocks_available() * at.fragment_size());
    let made = if available >= NEEDED { TempDir::new_in(SHARED_MEMORY) } else { TempDir::new() };
    let directory = made.expect("a temporary directory");
    open_to_all(directory.path());
    directory
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("our own directory");
}
