//! Constants chosen in user space before the programs are loaded, read as frozen `.rodata`.
//!
//! The verifier knows their values, so a branch that a constant switches off costs nothing.

/// [`Config::cgroup_subsys`]: the v2 hierarchy.
pub const CGROUP_V2: u32 = u32::MAX;

/// [`Config::filter`]: everything is reported.
pub const FILTER_NONE: u32 = 0;
/// [`Config::filter`]: processes in the set `TRACKED`, and what they fork.
pub const FILTER_SUBTREE: u32 = 1;
/// [`Config::filter`]: processes whose real or effective user is in the set `USERS`.
pub const FILTER_USERS: u32 = 2;
/// [`Config::filter`]: processes whose cgroup is in the set `CGROUPS`.
pub const FILTER_CGROUPS: u32 = 3;
/// [`Config::filter`]: the same, and processes that are in a namespace in the set `NAMESPACES`.
pub const FILTER_CONTAINERS: u32 = 4;

/// Bit of an entry of `TRACKED`: the process is asked for, or was once: all its events are reported.
pub const TRACKED_ASKED: u32 = 1;
/// … it may be about to put others where they are asked for (`AIDES`): all its events are reported, and those of its
/// children until they execute something else.
pub const TRACKED_AIDE: u32 = 2;
/// … its end matters for one that is asked for: that is reported.
pub const TRACKED_KIN: u32 = 4;

/// What the kernel side is asked to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most argv bytes to capture per exec.
    pub argv_max: u32,
    /// 1: thread starts and exits are reported too.
    pub threads: u32,
    /// Which processes are reported: one of `FILTER_…`.
    pub filter: u32,
    /// 1: it is reported when the dead are waited for.
    pub reap: u32,
    /// Where the first five arguments of a system call are in `struct pt_regs`, by the machine's ABI.
    pub syscall_args: [u32; 5],
    /// Whose hierarchy tells the cgroup of a process: the number of a v1 controller, or [`CGROUP_V2`].
    pub cgroup_subsys: u32,
    /// Number of that hierarchy: cgroups of others are not reported.
    pub cgroup_hierarchy: u32,
    /// An eighth of the ring, in bytes: what is done without as it fills is told in these ([`crate::limits`]).
    pub ring_eighth: u32,
    /// 1: with a filter, also what has to be known of others to be right about those that it admits: the ends of their
    /// parents, and all of those in the set `AIDES`.
    pub kin: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

impl Config {
    /// The default: everything but threads, argv up to 64 KiB.
    pub const DEFAULT: Self = Self {
        argv_max: crate::limits::ARGV_DEFAULT_BYTES,
        threads: 0,
        filter: FILTER_NONE,
        reap: 0,
        syscall_args: [0; 5],
        cgroup_subsys: CGROUP_V2,
        cgroup_hierarchy: 0,
        ring_eighth: u32::MAX,
        kin: 0,
        reserved: 0,
    };
}

const _: () = assert!(size_of::<Config>() == 56);
