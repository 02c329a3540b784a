//! The truth: what a deed observed, as JSON lines in a file that many processes append to.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::IntoRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracer::event::id::ProcessId;

use super::proc;
use super::process::BOUND;

/// Identifies a process by its pid and field 22 of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl Ident {
    /// Returns the identity of a running process or a zombie.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = proc::stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
        Self { pid, start: stat.start }
    }

    /// Returns this process, in the pid namespace of `/proc` (the outermost one, unless it was mounted again).
    pub(crate) fn me() -> Self {
        let stat = proc::stat("self").expect("/proc/self/stat");
        Self { pid: stat.pid, start: stat.start }
    }

    pub(crate) fn id(self) -> ProcessId {
        ProcessId::from_ticks(self.start, self.pid)
    }
}

/// The file to which a deed writes what it observes. Each line is one `write` to an `O_APPEND` file, so lines never
/// mix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    fd: i32,
}

impl Truth {
    /// Opens the file for this process and all that it forks *and execs*: the descriptor is not closed on exec.
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path).expect("the truth file");
        let fd = file.into_raw_fd();
        // SAFETY: F_SETFD takes an int and touches only this descriptor, which is ours.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        Self { fd }
    }

    /// Returns a truth file that was inherited.
    pub(crate) const fn inherited(fd: i32) -> Self {
        Self { fd }
    }

    pub(crate) const fn fd(self) -> i32 {
        self.fd
    }

    /// Writes one line: its subject `what`, and the facts.
    #[expect(clippy::needless_pass_by_value, reason = "the facts are always made for the call")]
    pub(crate) fn say(self, what: &str, facts: Value) {
        let mut line = serde_json::to_vec(&json!({ "what": what, "facts": facts })).expect("JSON of plain values");
        line.push(b'\n');
        // SAFETY: the pointer and length are those of one live buffer. A short write to a file means a full disk.
        let written = unsafe { libc::write(self.fd, line.as_ptr().cast(), line.len()) };
        assert_eq!(written, line.len() as isize, "the truth was written incompletely");
    }
}

/// One line of the truth.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TruthLine {
    pub(crate) what: String,
    pub(crate) facts: Value,
}

impl TruthLine {
    /// Returns a fact as the requested type.
    pub(crate) fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        let value = self.facts.get(key).unwrap_or_else(|| panic!("the truth {self:?} has no {key}"));
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{key} in {self:?}: {error}"))
    }

    /// Returns the process of the line: the facts `pid` and `start`.
    pub(crate) fn ident(&self) -> Ident {
        Ident { pid: self.get("pid"), start: self.get("start") }
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.ident().id()
    }
}

/// All lines of a truth file.
#[derive(Clone, Debug, Default)]
pub(crate) struct TruthLog {
    pub(crate) lines: Vec<TruthLine>,
}

impl TruthLog {
    pub(crate) fn read(file: &mut File) -> Self {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).expect("a regular file");
        file.read_to_string(&mut text).expect("the truth is UTF-8");
        // The last line may be incomplete.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines =
            whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        Self { lines }
    }

    /// Returns every line with the subject `what`.
    pub(crate) fn all(&self, what: &str) -> Vec<&TruthLine> {
        self.lines.iter().filter(|line| line.what == what).collect()
    }

    /// Returns the only line with the subject `what`.
    pub(crate) fn one(&self, what: &str) -> &TruthLine {
        match self.all(what).as_slice() {
            [line] => line,
            other => panic!("{} lines about {what} in the truth: {:#?}", other.len(), self.lines),
        }
    }
}

/// Waits for a line in a truth file.
pub(crate) fn await_said(path: &Path, what: &str) -> TruthLine {
    let end = Instant::now() + BOUND;
    loop {
        let log = if path.exists() { TruthLog::read(&mut reopen(path)) } else { TruthLog::default() };
        if let [said] = log.all(what)[..] {
            return said.clone();
        }
        assert!(Instant::now() < end, "the truth has no line about {what} within {BOUND:?}: {log:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Opens the file again, to read it from the start.
pub(crate) fn reopen(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
