//! Decoded records of the ring buffer: exactly what the kernel side saw.

pub mod decode;
pub mod gaps;
pub(crate) mod intern;
pub mod running;
pub mod skipped;
pub mod text;

use std::sync::Arc;

use tracer_common::record as raw;

use crate::event::{Capture, Image};
use crate::record::text::{Argv, Text};

/// One decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// `sched_process_fork`.
    Fork(Fork),
    /// `sched_process_exec`.
    Exec(Box<Exec>),
    /// `sched_process_exit`.
    Exit(Box<raw::Exit>),
    /// `signal_generate`, of a signal that ends its target by default.
    Signal(raw::Signal),
    /// An `execve` or `execveat` that failed.
    ExecFailed(Box<ExecFailed>),
    /// `cgroup_mkdir`, `cgroup_attach_task`, `cgroup_rmdir`.
    Cgroup(Cgroup),
    /// `sched_process_free`: a zombie was reaped.
    Reap(raw::Reap),
    /// A kind that this build does not know, from a newer kernel side. It is counted, not lost.
    Unknown(raw::Header),
}

impl Record {
    /// Returns the header, which every record has.
    pub fn header(&self) -> &raw::Header {
        match self {
            Self::Fork(fork) => &fork.raw.header,
            Self::Exec(exec) => &exec.raw.header,
            Self::Exit(exit) => &exit.header,
            Self::Signal(signal) => &signal.header,
            Self::ExecFailed(failed) => &failed.raw.header,
            Self::Cgroup(cgroup) => &cgroup.raw.header,
            Self::Reap(reap) => &reap.header,
            Self::Unknown(header) => header,
        }
    }
}

/// A fork with the child's pids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The fixed part.
    pub raw: raw::Fork,
    /// The child's pid in each namespace, outermost first. None in the initial namespace.
    pub ns_pids: Option<Arc<[u32]>>,
}

/// An exec with its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The fixed part.
    pub raw: raw::Exec,
    /// Its name, arguments, executable and working directory. Both paths are absolute in its mount namespace.
    pub image: Arc<Image>,
    /// Path as passed to execve.
    pub filename: Option<Text>,
    /// Interpreter, if it differs from `filename`.
    pub interpreter: Option<Text>,
    /// Why the path of the executable is incomplete, if it is.
    pub exe_capture: Option<Capture>,
    /// The same for the working directory.
    pub cwd_capture: Option<Capture>,
    /// The same for the arguments.
    pub argv_capture: Option<Capture>,
}

#[cfg(any(feature = "internals", test))]
impl Exec {
    /// Returns an exec with a complete image and nothing else.
    pub fn new(raw: raw::Exec, image: Arc<Image>) -> Self {
        Self { raw, image, filename: None, interpreter: None, exe_capture: None, cwd_capture: None, argv_capture: None }
    }
}

/// A failed exec with its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFailed {
    /// The fixed part.
    pub raw: raw::ExecFailed,
    /// Path as passed to execve.
    pub filename: Captured<Text>,
    /// Arguments as passed to execve.
    pub argv: Captured<Argv>,
}

/// A change of a cgroup, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The fixed part.
    pub raw: raw::Cgroup,
    /// Its path from the root of the hierarchy. Empty if it could not be read.
    pub path: Arc<str>,
}

/// A captured field: its value, and why that is incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured<T> {
    /// The value. None if it could not be read or does not apply.
    pub value: Option<T>,
    /// Why it is incomplete, if it is.
    pub capture: Option<Capture>,
}
