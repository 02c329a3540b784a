//! Constants chosen in user space before the programs are loaded, read as frozen `.rodata`.
//!
//! The verifier knows their values, so a branch that a constant switches off costs nothing.

/// [`Config::cgroup_subsys`]: the v2 hierarchy.
pub const CGROUP_V2: u32 = u32::MAX;

/// What the kernel side is asked to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most argv bytes to capture per exec.
    pub argv_max: u32,
    /// 1: thread starts and exits are reported too.
    pub threads: u32,
    /// 1: only processes in the `TRACKED` set, and what they fork, are reported.
    pub tracked_only: u32,
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
}

impl Config {
    /// The default: everything but threads, argv up to 64 KiB.
    pub const DEFAULT: Self = Self {
        argv_max: crate::limits::ARGV_DEFAULT_BYTES,
        threads: 0,
        tracked_only: 0,
        reap: 0,
        syscall_args: [0; 5],
        cgroup_subsys: CGROUP_V2,
        cgroup_hierarchy: 0,
        ring_eighth: u32::MAX,
    };
}

const _: () = assert!(size_of::<Config>() == 48);
