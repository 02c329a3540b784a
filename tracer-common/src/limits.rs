//! Sizes and limits that both sides share.

/// Length of `task_struct.comm`, NUL included ([`TASK_COMM_LEN`]).
///
/// [`TASK_COMM_LEN`]:
/// https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/sched.h
pub const COMM_LEN: usize = 16;

/// Deepest nesting of pid namespaces ([`MAX_PID_NS_LEVEL`]).
///
/// [`MAX_PID_NS_LEVEL`]:
/// https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/pid_namespace.h
pub const MAX_NS_LEVEL: usize = 32;

/// Longest path taken from the kernel, in bytes, for each of exe, cwd and filename.
pub const PATH_BYTES: usize = 4096;

/// Longest path of an interpreter, in bytes (a `#!` line has at most `BINPRM_BUF_SIZE`, 256).
pub const INTERPRETER_BYTES: usize = 2048;

/// Longest name of one path component, its NUL included (`NAME_MAX` + 1).
pub const NAME_BYTES: usize = 256;

/// Most path components (mount crossings included) that the kernel side walks. A deeper path is reported as cut.
pub const PATH_DEPTH: u32 = 64;

/// Size of an exec record before argv: the fixed part and four paths. A power of two, so that an index can be bounded
/// by a mask.
pub const EXEC_HEAD_BYTES: usize = 16 * 1024;

/// An argv up to this size is staged with the rest of its record, which then takes exactly its size in the ring. A
/// larger one is copied from user memory straight into a reserved record.
pub const ARGV_STAGED_BYTES: usize = 4096;

/// Bytes for argv in each class of reserved exec records.
pub const ARGV_CLASSES: [usize; 4] = [16 << 10, 64 << 10, 512 << 10, 6 << 20];

/// When this many eighths of the ring are in use, argv is captured only up to [`ARGV_STAGED_BYTES`].
pub const FULL_FOR_ARGV: u32 = 4;

/// When this many eighths are in use, argv, exe and cwd of execs are not captured.
pub const FULL_FOR_PATHS: u32 = 6;

/// When this many eighths are in use, only forks and exits are recorded.
pub const FULL_FOR_REST: u32 = 7;

/// Default size of the ring buffer.
pub const RING_DEFAULT_BYTES: u32 = 8 << 20;

/// Default maximum of argv bytes captured.
pub const ARGV_DEFAULT_BYTES: u32 = 64 << 10;

/// Upper limit of argv bytes captured: the most that the kernel accepts in an exec (three quarters of `_STK_LIM`,
/// [`bprm_stack_limits`]).
///
/// [`bprm_stack_limits`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/exec.c
pub const ARGV_MAX_BYTES: u32 = 6 << 20;

/// Most arguments of a failed exec that are read: they are still scattered over the caller's memory.
pub const FAILED_ARGS: u32 = 256;

/// Longest argument of a failed exec, its NUL included.
pub const FAILED_ARG_BYTES: usize = 4096;

/// Most argv bytes captured of a failed exec.
pub const FAILED_ARGV_BYTES: u32 = 8 << 10;

/// Most threads of an exiting process whose counters are summed one by one.
pub const MAX_EXIT_THREADS: u32 = 128;

/// Most ancestors that the kernel side searches for a child subreaper. For a deeper process, user space reads `/proc`.
pub const MAX_REAPER_DEPTH: u32 = 64;

/// Capacity of the set of reported processes, with a filter.
pub const MAX_TRACKED: u32 = 1 << 18;

/// Capacity of the set of cgroups whose processes are reported.
pub const MAX_CGROUPS: u32 = 1 << 16;

/// Capacity of the set of namespaces whose processes are reported.
pub const MAX_NAMESPACES: u32 = 1 << 13;

/// Capacity of the set of helper programs, which may make other processes match.
pub const MAX_HELPERS: u32 = 64;

/// Longest path of a cgroup, its NUL included ([`TRACE_CGROUP_PATH_LEN`]).
///
/// [`TRACE_CGROUP_PATH_LEN`]:
/// https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/cgroup/cgroup-internal.h
pub const CGROUP_PATH_BYTES: usize = 1024;

/// Capacity for execs in progress, where the reporting program needs data from before the exec.
pub const MAX_PREPARED: u32 = 1 << 14;

/// Signals that their targets handle, kept in case a target sends one of them to itself.
pub const MAX_HANDLED: u32 = 1 << 10;
