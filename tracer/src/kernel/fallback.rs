//! What a kernel lacks, and what tracer does instead.

use std::fmt;

use tracer_common::offsets::Member;

use super::error::{LoadError, MEMLOCK_REMEDY};
use super::hook::{BY_FUNCTION, BY_TRACEPOINT, Hook};
use super::iterator;
use super::visibility::Unseen;

/// Something that this kernel lacks.
#[derive(Debug)]
pub enum Fallback {
    /// `sched_process_exit` does not say whether the whole group is dead.
    NoGroupDead,
    /// A member of a structure is missing, so its value is unknown.
    NoMember(&'static Member),
    /// The cgroup hierarchy is not mounted.
    CgroupsNotMounted(String),
    /// The stand-ins of this hook were refused. The hook itself is used, and lacks something.
    Instead(Hook, Lack, LoadError),
    /// A hook that tracing does not need was refused.
    Without(Hook, LoadError),
    /// The task iterator was refused, so `/proc` is read.
    NoIterator(LoadError),
    /// Something cannot be seen with these privileges.
    Unseen(Unseen),
    /// Failed execs are reported by the tracepoints of the system calls.
    SlowSystemCalls,
    /// The limit of locked memory allows only a smaller ring.
    SmallRing {
        /// Its size in bytes.
        bytes: u32,
        /// The requested size in bytes.
        wanted: u32,
    },
}

/// What a hook lacks that its stand-ins have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Its program can be preempted.
    Preempted,
    /// It does not report threads that the kernel creates.
    KernelThreads,
}

impl Lack {
    const fn words(self) -> &'static str {
        match self {
            Self::Preempted => PREEMPTED,
            Self::KernelThreads => "The starts of threads that the kernel makes (io_uring) are missing",
        }
    }
}

/// The effect of preempted programs.
pub(crate) const PREEMPTED: &str =
    "While a program is preempted the kernel skips it, and what it would have reported is counted as lost";

/// The cost of `--exec-failed` by tracepoint.
pub(crate) const SLOW_SYSTEM_CALLS: &str = "While it is on, every system call of the machine is slower";

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGroupDead => f.write_str("sched_process_exit without group_dead: signal->live is read instead"),
            Self::NoMember(member) => write!(f, "no {}.{}: what it holds is unknown", member.of, member.path),
            Self::CgroupsNotMounted(name) => {
                write!(f, "cgroup {name} is not mounted: of cgroups that exist already only the path is known")
            }
            Self::Instead(hook, lack, error) => write!(f, "{error}; {} instead. {}", hook.name(), lack.words()),
            Self::Without(hook, error) => write!(f, "{}: {error}; without {}", hook.name(), hook.gives),
            Self::NoIterator(error) => write!(f, "{error}; {}", iterator::FALLBACK),
            Self::Unseen(Unseen { what, why, .. }) => write!(f, "{} are not seen: {why}", what.words()),
            Self::SlowSystemCalls => {
                let [by_function, by_tracepoint] = [BY_FUNCTION[0].name(), BY_TRACEPOINT[0].name()];
                write!(f, "{by_function}: refused; {by_tracepoint} instead. {SLOW_SYSTEM_CALLS}")
            }
            Self::SmallRing { bytes, wanted } => write!(
                f,
                "the limit of locked memory leaves room for a ring buffer of {} KiB instead of {} KiB; raise it with `{}`",
                bytes >> 10,
                wanted >> 10,
                MEMLOCK_REMEDY
            ),
        }
    }
}
