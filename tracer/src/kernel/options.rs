//! The options of the kernel side.

use std::path::PathBuf;

use tracer_common::config::{FILTER_CGROUPS, FILTER_CONTAINERS, FILTER_NONE, FILTER_SUBTREE, FILTER_USERS};
use tracer_common::limits::{ARGV_DEFAULT_BYTES, MAX_TRACKED, RING_DEFAULT_BYTES};

use super::{log, release};

/// The options of the kernel side.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Size of the ring buffer in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Largest number of bytes of argv to capture.
    pub argv_max: u32,
    /// Whether to report threads too.
    pub threads: bool,
    /// The processes to report.
    pub selection: Selection,
    /// Largest number of reported processes at a time.
    pub max_tracked: u32,
    /// Whether to report failed execs too.
    pub exec_failed: bool,
    /// Whether failed execs come from the functions of the system calls or from their tracepoints. `None`: the first that the
    /// kernel allows.
    pub exec_failed_by_function: Option<bool>,
    /// Whether to report the reaping of exited processes too.
    pub reap: bool,
    /// Whether forks, execs and exits come from hooks whose programs are never preempted. `None`: if the kernel skips
    /// preempted programs.
    pub unpreempted: Option<bool>,
    /// Whether running processes are read from the kernel's iterator or from `/proc`. `None`: from the iterator if the kernel
    /// has one.
    pub iterate: Option<bool>,
    /// Whether to log faults inside the programs as warnings. `None`: with `TRACER_KERNEL_LOG`, or at log level debug.
    pub log: Option<bool>,
    /// A file with the BTF of the running kernel. A file of another kernel is refused.
    pub btf: Option<PathBuf>,
    /// Fields of [`Offsets`](tracer_common::offsets::Offsets) that count as absent if tracing does not need them. For tests.
    pub without: Vec<&'static str>,
}

impl KernelOptions {
    pub(super) fn unpreempted(&self) -> bool {
        self.unpreempted.unwrap_or_else(release::skips_preempted)
    }

    pub(super) fn log(&self) -> bool {
        self.log.unwrap_or_else(log::is_wanted)
    }
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            ring_bytes: RING_DEFAULT_BYTES,
            argv_max: ARGV_DEFAULT_BYTES,
            threads: false,
            selection: Selection::All,
            max_tracked: MAX_TRACKED,
            exec_failed: false,
            exec_failed_by_function: None,
            reap: false,
            unpreempted: None,
            iterate: None,
            log: None,
            btf: None,
            without: Vec::new(),
        }
    }
}

/// Which processes the kernel side reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All processes.
    #[default]
    All,
    /// Processes added by [`Kernel::track`](super::load::Kernel::track), and their descendants. Nothing else is reported.
    Only,
    /// These processes and their descendants, and the events of relatives that are needed to be right about these.
    Subtree(Vec<u32>),
    /// Processes whose real or effective user is one of these, and the needed events of relatives.
    Users(Vec<u32>),
    /// Processes in added cgroups, and the needed events of relatives.
    Cgroups,
    /// Processes in added cgroups or added namespaces, and the needed events of relatives. A process that enters a container
    /// from outside can stay in its own cgroup.
    Containers,
}

impl Selection {
    /// Returns false if all processes are reported.
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::All)
    }

    /// Returns true if the needed events of relatives are reported too.
    pub const fn needs_relatives(&self) -> bool {
        matches!(self, Self::Subtree(_) | Self::Users(_) | Self::Cgroups | Self::Containers)
    }

    /// Returns its number for the programs.
    pub(super) const fn number(&self) -> u32 {
        match self {
            Self::All => FILTER_NONE,
            Self::Only | Self::Subtree(_) => FILTER_SUBTREE,
            Self::Users(_) => FILTER_USERS,
            Self::Cgroups => FILTER_CGROUPS,
            Self::Containers => FILTER_CONTAINERS,
        }
    }
}
