//! The truth: what a deed saw happen, as JSON lines in a file that many processes append to.

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

/// A process as anyone can name it: pid and field 22 of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl Ident {
    /// A living process, or one that was not waited for yet.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = proc::stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
        Self { pid, start: stat.start }
    }

    /// This process, in the pid namespace of `/proc` (the outermost one, unless it was mounted anew).
    pub(crate) fn me() -> Self {
        let stat = proc::stat("self").expect("/proc/self/stat");
        Self { pid: stat.pid, start: stat.start }
    }

    pub(crate) fn id(self) -> ProcessId {
        ProcessId::from_ticks(self.start, self.pid)
    }
}

/// Where a deed writes what it saw. Each line is one `write` to an `O_APPEND` file: lines never mix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    fd: i32,
}

impl Truth {
    /// Opens the file for this process and all it forks *and execs*: the descriptor is not closed on exec.
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path).expect("the truth file");
        let fd = file.into_raw_fd();
        // SAFETY: F_SETFD takes an int and touches only this descriptor, which is ours.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        Self { fd }
    }

    /// One that was inherited.
    pub(crate) const fn inherited(fd: i32) -> Self {
        Self { fd }
    }

    pub(crate) const fn fd(self) -> i32 {
        self.fd
    }

    /// Writes one line: `what` it is about, and the facts.
    #[expect(clippy::needless_pass_by_value, reason = "the facts are always made for the call")]
    pub(crate) fn say(self, what: &str, facts: Value) {
        let mut line = serde_json::to_vec(&json!({ "what": what, "facts": facts })).expect("JSON of plain values");
        line.push(b'\n');
        // SAFETY: the pointer and length are of one live buffer; a short write to a file means a full disk.
        let written = unsafe { libc::write(self.fd, line.as_ptr().cast(), line.len()) };
        assert_eq!(written, line.len() as isize, "the truth was not written whole");
    }
}

/// One line of the truth.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Said {
    pub(crate) what: String,
    pub(crate) facts: Value,
}

impl Said {
    /// A fact, as the type that is asked for.
    pub(crate) fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        let value = self.facts.get(key).unwrap_or_else(|| panic!("the truth {self:?} has no {key}"));
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{key} in {self:?}: {error}"))
    }

    /// The process it is about: the facts `pid` and `start`.
    pub(crate) fn ident(&self) -> Ident {
        Ident { pid: self.get("pid"), start: self.get("start") }
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.ident().id()
    }
}

/// All that was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct TruthLog {
    pub(crate) lines: Vec<Said>,
}

impl TruthLog {
    pub(crate) fn read(file: &mut File) -> Self {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).expect("a regular file");
        file.read_to_string(&mut text).expect("the truth is UTF-8");
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines =
            whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        Self { lines }
    }

    /// Every line about `what`.
    pub(crate) fn all(&self, what: &str) -> Vec<&Said> {
        self.lines.iter().filter(|line| line.what == what).collect()
    }

    /// The only line about `what`.
    pub(crate) fn one(&self, what: &str) -> &Said {
        match self.all(what).as_slice() {
            [line] => line,
            other => panic!("{} lines about {what} in the truth: {:#?}", other.len(), self.lines),
        }
    }
}

/// Waits until something is said in a truth file.
pub(crate) fn await_said(path: &Path, what: &str) -> Said {
    let end = Instant::now() + BOUND;
    loop {
        let log = if path.exists() { TruthLog::read(&mut reopen(path)) } else { TruthLog::default() };
        if let [said] = log.all(what)[..] {
            return said.clone();
        }
        assert!(Instant::now() < end, "nothing is said about {what} within {BOUND:?}: {log:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Duplicates a descriptor for reading from the start, whatever the offset of the other.
pub(crate) fn reopen(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
