//! Constants that user space sets before it loads the programs, read as frozen `.rodata`.
//!
//! The verifier knows their values, so a branch that a constant disables costs nothing.

/// [`Config::cgroup_subsys`]: the v2 hierarchy.
pub const CGROUP_V2: u32 = u32::MAX;

/// [`Config::filter`]: all processes are reported.
pub const FILTER_NONE: u32 = 0;
/// [`Config::filter`]: processes in the set `TRACKED`, and their descendants.
pub const FILTER_SUBTREE: u32 = 1;
/// [`Config::filter`]: processes whose real or effective user is in the set `USERS`.
pub const FILTER_USERS: u32 = 2;
/// [`Config::filter`]: processes whose cgroup is in the set `CGROUPS`.
pub const FILTER_CGROUPS: u32 = 3;
/// [`Config::filter`]: the same, and processes in a namespace in the set `NAMESPACES`.
pub const FILTER_CONTAINERS: u32 = 4;

/// Bit of an entry of `TRACKED`: the process matches the filter, or once did. All its events are reported.
pub const TRACKED_MATCHING: u32 = 1;
/// Bit of an entry of `TRACKED`: a helper in the set `HELPERS`, which may be about to make other processes match. All its
/// events are reported, and those of its children until they execute another program.
pub const TRACKED_HELPER: u32 = 2;
/// Bit of an entry of `TRACKED`: a relative of a matching process. Its exit is reported.
pub const TRACKED_RELATIVE: u32 = 4;

/// Configuration of the kernel side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum argv bytes to capture per exec.
    pub argv_max: u32,
    /// 1: thread starts and exits are reported too.
    pub threads: u32,
    /// Which processes are reported: one of `FILTER_…`.
    pub filter: u32,
    /// 1: reaped zombies are reported.
    pub reap: u32,
    /// Offsets of the first five arguments of a system call in `struct pt_regs`, by the machine's ABI.
    pub syscall_args: [u32; 5],
    /// The hierarchy that defines the cgroup of a process: the number of a v1 controller, or [`CGROUP_V2`].
    pub cgroup_subsys: u32,
    /// Number of that hierarchy. Cgroups of other hierarchies are not reported.
    pub cgroup_hierarchy: u32,
    /// An eighth of the ring, in bytes: the unit of the fill levels in [`crate::limits`].
    pub ring_eighth: u32,
    /// 1: with a filter, also report what is needed to describe matching processes correctly. These are the exits of
    /// their parents, and everything about processes in the set `HELPERS`.
    pub relatives: u32,
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
        relatives: 0,
        reserved: 0,
    };
}

const _: () = assert!(size_of::<Config>() == 56);
