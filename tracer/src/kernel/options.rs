//! What the kernel side is to do.

use std::path::PathBuf;

use tracer_common::config::{FILTER_CGROUPS, FILTER_CONTAINERS, FILTER_NONE, FILTER_SUBTREE, FILTER_USERS};
use tracer_common::limits::{ARGV_DEFAULT_BYTES, MAX_TRACKED, RING_DEFAULT_BYTES};

use super::{log, nonpreemptible};

/// What the kernel side is to do.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Size of the ring buffer in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Most bytes of argv to capture.
    pub argv_max: u32,
    /// Threads too.
    pub threads: bool,
    /// Which processes are reported.
    pub selection: Selection,
    /// Most of those at a time.
    pub max_tracked: u32,
    /// Execs that fail too.
    pub exec_failed: bool,
    /// … by the functions of the system calls, or by their tracepoints. `None`: the first that the kernel allows.
    pub exec_failed_by_function: Option<bool>,
    /// When exited processes are waited for too.
    pub reap: bool,
    /// Forks, execs and exits by hooks at which no program is preempted. `None`: where the kernel skips one that is.
    pub unpreempted: Option<bool>,
    /// What runs already is read from the kernel's iterator, or from `/proc`. `None`: from the iterator where the kernel has one.
    pub iterate: Option<bool>,
    /// Faults inside the programs are shown as warnings. `None`: with `TRACER_KERNEL_LOG`, or where debug messages are shown.
    pub log: Option<bool>,
    /// A file with the running kernel's BTF. Another kernel's is refused.
    pub btf: Option<PathBuf>,
    /// Fields of [`Offsets`](tracer_common::offsets::Offsets) that this kernel is taken not to have, if tracing can do without
    /// them: for tests.
    pub without: Vec<&'static str>,
}

impl KernelOptions {
    pub(super) fn unpreempted(&self) -> bool {
        self.unpreempted.unwrap_or_else(nonpreemptible::is_needed)
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
    /// All.
    #[default]
    All,
    /// Those added by [`Kernel::track`](super::load::Kernel::track), and what they fork. Nothing else of the machine is reported.
    Only,
    /// These processes and their descendants, and what has to be known of others to be right about these.
    Subtree(Vec<u32>),
    /// Those whose real or effective user is one of these, and what has to be known of others.
    Users(Vec<u32>),
    /// Those in cgroups that are added, and what has to be known of others.
    Cgroups,
    /// The same, and those in namespaces that are added: a process that enters a container from outside can stay in its own
    /// cgroup.
    Containers,
}

impl Selection {
    /// False if all are reported.
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::All)
    }

    /// True if what has to be known of others is reported too.
    pub const fn kin(&self) -> bool {
        matches!(self, Self::Subtree(_) | Self::Users(_) | Self::Cgroups | Self::Containers)
    }

    /// How the programs know it.
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
