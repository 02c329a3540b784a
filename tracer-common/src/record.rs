//! Records as laid out in the ring buffer, in the byte order of the machine.
//!
//! A record is one of the fixed structures below, selected by [`Header::kind`]. [`Exec`], [`ExecFailed`] and [`Fork`]
//! are followed by a variable part. [`Header::len`] counts the meaningful bytes. The ring may hold more (a reserved
//! record has the size of its class), never less.

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{CGROUP_PATH_BYTES, COMM_LEN, MAX_NS_LEVEL};

/// Number of slots for kinds; slot 0 is unused.
pub const KINDS: usize = 16;

/// A process or thread was created.
pub const KIND_FORK: u16 = 1;
/// A process replaced its image.
pub const KIND_EXEC: u16 = 2;
/// A process (or, on request, a thread) exited.
pub const KIND_EXIT: u16 = 3;
/// A signal that will end its target by default was generated.
pub const KIND_SIGNAL: u16 = 4;
/// An `execve` failed (on request).
pub const KIND_EXEC_FAILED: u16 = 5;
/// An `execveat` failed (on request). The record is the same as for `execve`, but has a separate kind. Two programs
/// write them, and on some kernels one can interrupt the other.
pub const KIND_EXECAT_FAILED: u16 = 6;
/// A cgroup was created, renamed or removed, or a process was moved to one.
pub const KIND_CGROUP: u16 = 7;
/// A zombie was reaped (on request).
pub const KIND_REAP: u16 = 8;
/// A running process. It comes from an iterator, never through the ring.
pub const KIND_RUNNING: u16 = 9;
/// Value of an id that is not set, e.g. the login uid of a service (`INVALID_UID`).
pub const ID_UNSET: u32 = u32::MAX;

/// The head of every record.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Meaningful bytes of this record, header included.
    pub len: u32,
    /// One of `KIND_*`.
    pub kind: u16,
    /// CPU on which it happened.
    pub cpu: u16,
    /// 1, 2, 3 … per CPU and kind. A missing number means that the ring was full and a record was lost.
    pub seq: u64,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub boot_ns: u64,
    /// `rq.clock` of this CPU, in nanoseconds: the scheduler's clock at its last update; 0 if unknown.
    pub rq_clock: u64,
}

/// Identity of a process in the kernel.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRef {
    /// `CLOCK_BOOTTIME` at which the process (its leader) was created, in nanoseconds; 0 if unknown.
    pub start_ns: u64,
    /// Thread-group id in the initial pid namespace; 0 if there is no such process.
    pub tgid: u32,
    /// Thread id in the initial pid namespace; equal to `tgid` for a leader.
    pub tid: u32,
}

/// Ids of a process at the time of the record.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Real user id (`cred.uid`, initial user namespace; so are all below).
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Audit login uid, [`ID_UNSET`] if there is none.
    pub loginuid: u32,
    /// Session id, in the initial pid namespace.
    pub sid: u32,
    /// Process group id, in the initial pid namespace.
    pub pgid: u32,
    /// Controlling terminal: (major << 20) | minor, 0 if none.
    pub tty: u32,
    /// Id of the cgroup (inode number of its directory) in the chosen hierarchy
    /// ([`crate::config::Config::cgroup_subsys`]); 0 if unknown.
    pub cgroup: u64,
    /// Number of its mount namespace (as in `/proc/PID/ns/mnt`); 0 if unknown. Set in fork and exec records.
    pub mnt_ns: u32,
    /// Number of its pid namespace; 0 if unknown, or the initial one. Set in fork records.
    pub pid_ns: u32,
}

/// [`Fork::flags`]: the child is a thread of the creator's process.
pub const FORK_THREAD: u32 = 1;
/// [`Fork::flags`]: the child is a kernel thread (`PF_KTHREAD`).
pub const FORK_KTHREAD: u32 = 2;

/// `sched_process_fork`. If `ns_level` is not 0, `ns_level` + 1 u32 follow: the child's pid in each pid namespace,
/// outermost first.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// Common part.
    pub header: Header,
    /// The new process or thread.
    pub child: TaskRef,
    /// Its parent (`real_parent`): the creator, or with `CLONE_PARENT` the creator's own parent.
    pub parent: TaskRef,
    /// The task that called fork, vfork or clone.
    pub creator: TaskRef,
    /// The child's ids.
    pub ids: Ids,
    /// The child's name, inherited, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// `FORK_*` bits.
    pub flags: u32,
    /// Depth of the child's pid namespace, 0 for the initial one.
    pub ns_level: u32,
}

/// A [`Fork`] with space for every pid-namespace level.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkNested {
    /// The fixed part.
    pub fork: Fork,
    /// The child's pids, outermost first.
    pub ns_pids: [u32; MAX_NS_LEVEL + 1],
    /// Keeps the size a multiple of eight.
    pub pad: u32,
}

/// How much of a field was captured: all of it.
pub const FIELD_COMPLETE: u8 = 0;
/// Cut: the captured part is right, but there was more.
pub const FIELD_CUT: u8 = 1;
/// It could not be read.
pub const FIELD_UNREADABLE: u8 = 2;
/// Cut below the configured limit, because the ring was almost full.
pub const FIELD_DEGRADED: u8 = 3;

/// [`Exec::flags`]: the executable's name has been unlinked.
pub const EXEC_DELETED: u32 = 1;
/// [`Exec::flags`]: the executable is on a kernel-internal mount, like a memfd.
pub const EXEC_INTERNAL_MOUNT: u32 = 2;
/// [`Exec::flags`]: permitted capabilities were gained.
pub const EXEC_CAPS_GAINED: u32 = 4;
/// [`Exec::flags`]: the process has no memory map (seen only when the kernel passes none to the program).
pub const EXEC_NO_MM: u32 = 8;

/// `sched_process_exec`. Followed without gaps by exe (`exe_len` bytes), cwd (`cwd_len`), filename (`filename_len`),
/// interpreter (`interp_len`) and argv (`argv_captured`).
///
/// exe and cwd are path components, **innermost first**, each terminated by a NUL; none means `/`. filename and
/// interpreter end with a NUL. argv is the strings as laid out in memory, each terminated by a NUL.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Common part.
    pub header: Header,
    /// The process; `tid` is the tid before the exec. It differs from `tgid` if another thread than the leader called
    /// exec.
    pub task: TaskRef,
    /// Its parent.
    pub parent: TaskRef,
    /// Its ids after the exec.
    pub ids: Ids,
    /// Effective user id before the exec.
    pub old_euid: u32,
    /// Effective group id before the exec.
    pub old_egid: u32,
    /// Its new name, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// `EXEC_*` bits.
    pub flags: u32,
    /// Number of arguments (`linux_binprm.argc`).
    pub argc: u32,
    /// Bytes of all arguments with their NULs.
    pub argv_bytes: u32,
    /// Bytes of the arguments that follow.
    pub argv_captured: u32,
    /// Length of exe.
    pub exe_len: u16,
    /// Length of cwd.
    pub cwd_len: u16,
    /// Length of filename.
    pub filename_len: u16,
    /// Length of the interpreter, 0 if there is none.
    pub interp_len: u16,
    /// `FIELD_*` of exe.
    pub exe_state: u8,
    /// `FIELD_*` of cwd.
    pub cwd_state: u8,
    /// `FIELD_*` of filename.
    pub filename_state: u8,
    /// `FIELD_*` of the interpreter.
    pub interp_state: u8,
    /// `FIELD_*` of argv.
    pub argv_state: u8,
    /// Keeps the size a multiple of eight.
    pub pad: [u8; 3],
}

/// [`ExecFailed::dirfd`] of an `execve`: the path is relative to the working directory (`AT_FDCWD`).
pub const DIRFD_CWD: i32 = -100;

/// A failed exec. Followed without gaps by filename (`filename_len` bytes) and argv (`argv_captured`), both as passed
/// to execve, each string terminated by a NUL.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecFailed {
    /// Common part.
    pub header: Header,
    /// The process; `tid` is the thread that called exec.
    pub task: TaskRef,
    /// Its parent.
    pub parent: TaskRef,
    /// Real user id of the caller.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Why: an `errno` value.
    pub errno: u32,
    /// Directory that a relative path is relative to; [`DIRFD_CWD`] for the working directory.
    pub dirfd: i32,
    /// `AT_*` flags of execveat.
    pub at_flags: u32,
    /// Number of arguments found: all of them unless argv is cut.
    pub argc: u32,
    /// Bytes of argv that follow.
    pub argv_captured: u32,
    /// Length of filename.
    pub filename_len: u16,
    /// `FIELD_*` of filename.
    pub filename_state: u8,
    /// `FIELD_*` of argv.
    pub argv_state: u8,
}

/// `sched_process_free` of a leader.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reap {
    /// Common part.
    pub header: Header,
    /// The process that was reaped.
    pub task: TaskRef,
    /// Its last parent, if the parent's memory was still valid; otherwise arbitrary.
    pub parent: TaskRef,
}

/// Resource usage of a process, summed over its threads, exited ones included.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User time as sampled by the tick, ns (`utime`).
    pub utime: u64,
    /// System time as sampled by the tick, ns (`stime`).
    pub stime: u64,
    /// CPU time measured by the scheduler, ns (`se.sum_exec_runtime`), up to `exec_start` of the last thread.
    pub runtime: u64,
    /// User time last reported by the kernel, ns: later values are never lower (`signal.prev_cputime`).
    pub prev_utime: u64,
    /// System time last reported by the kernel, ns.
    pub prev_stime: u64,
    /// User time of children that were waited for, ns (`signal.cutime`).
    pub cutime: u64,
    /// System time of children that were waited for, ns.
    pub cstime: u64,
    /// Largest resident set, in pages (`signal.maxrss`).
    pub maxrss_pages: u64,
    /// Largest resident set of a child that was waited for, in pages.
    pub cmaxrss_pages: u64,
    /// Minor faults.
    pub minflt: u64,
    /// Major faults.
    pub majflt: u64,
    /// Minor faults of children that were waited for.
    pub cminflt: u64,
    /// Major faults of children that were waited for.
    pub cmajflt: u64,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// Voluntary context switches of children that were waited for.
    pub cnvcsw: u64,
    /// Involuntary context switches of children that were waited for.
    pub cnivcsw: u64,
    /// Bytes read from storage, including children that were waited for (`ioac.read_bytes`).
    pub read_bytes: u64,
    /// Bytes written to storage, including children that were waited for.
    pub write_bytes: u64,
}

/// [`Exit::flags`]: the whole process exited, not only one thread.
pub const EXIT_GROUP: u32 = 1;
/// [`Exit::flags`]: chosen by the OOM killer (`signal.oom_mm` is set).
pub const EXIT_OOM: u32 = 2;
/// [`Exit::flags`]: too many threads to sum up; some of their usage is missing.
pub const EXIT_USAGE_PARTIAL: u32 = 4;
/// [`Exit::flags`]: a kernel thread.
pub const EXIT_KTHREAD: u32 = 8;
/// [`Exit::flags`]: the reaper is a child subreaper, not the namespace's init.
pub const EXIT_REAPER_SUBREAPER: u32 = 16;
/// [`Exit::flags`]: the process was the init of its pid namespace: the kernel kills everything in it.
pub const EXIT_NS_INIT: u32 = 32;
/// [`Exit::flags`]: the status is a signal that was never sent: the kernel ended the process directly.
pub const EXIT_DIRECT: u32 = 64;
/// [`Exit::flags`]: there are more ancestors than the kernel side searches, so the reaper is unknown.
pub const EXIT_REAPER_DEEP: u32 = 128;

/// `sched_process_exit`.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Common part.
    pub header: Header,
    /// The process; `tid` is the last thread that exited.
    pub task: TaskRef,
    /// Its parent.
    pub parent: TaskRef,
    /// The process that would inherit its children now; `tgid` 0 if unknown.
    pub reaper: TaskRef,
    /// Its ids at its exit: those of the leader, like all its data.
    pub ids: Ids,
    /// Its name at its exit, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// The status as `wait()` returns it: exit code << 8, or signal 0x80 if a core was dumped.
    pub status: u32,
    /// `EXIT_*` bits.
    pub flags: u32,
    /// Its resource usage.
    pub usage: Usage,
    /// The last thread's `se.exec_start`: the scheduler clock up to which `usage.runtime` counts; 0 if unknown.
    pub exec_start: u64,
    /// The `rq.clock_task` that belongs to `header.rq_clock`.
    pub rq_clock_task: u64,
}

/// [`Signal::flags`]: sent by the kernel itself, not by a process.
pub const SIGNAL_KERNEL: u32 = 1;
/// [`Signal::flags`]: the target handled this signal and then sent it to itself. The sender is the first one.
pub const SIGNAL_RAISED_AGAIN: u32 = 2;

/// `signal_generate` of a signal that kills its target (default action, or `SIGKILL`).
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Common part.
    pub header: Header,
    /// The process that receives it.
    pub target: TaskRef,
    /// The task that sent it: the current one. Meaningless with [`SIGNAL_KERNEL`].
    pub sender: TaskRef,
    /// The name of the sender's process, NUL-padded.
    pub sender_comm: [u8; COMM_LEN],
    /// Signal number.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `SIGNAL_*` bits.
    pub flags: u32,
    /// The sender's real user id.
    pub sender_uid: u32,
}

/// [`Cgroup::action`]: it was created by the task (`cgroup_mkdir`).
pub const CGROUP_MADE: u32 = 1;
/// [`Cgroup::action`]: the task's whole process was moved to it (`cgroup_attach_task`).
pub const CGROUP_JOINED: u32 = 2;
/// [`Cgroup::action`]: it was removed by the task (`cgroup_rmdir`).
pub const CGROUP_REMOVED: u32 = 3;

/// [`Cgroup::action`]: it was renamed by the task (`cgroup_rename`, v1 only). The path is the new one.
pub const CGROUP_RENAMED: u32 = 4;

/// `cgroup_mkdir`, `cgroup_attach_task`, `cgroup_rmdir`, `cgroup_rename`. Followed by the path from the root of the
/// hierarchy, with its NUL.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Common part.
    pub header: Header,
    /// Id of the cgroup, as in [`Ids::cgroup`].
    pub id: u64,
    /// The task that caused it, or for a join the task that was moved.
    pub task: TaskRef,
    /// `CGROUP_*`.
    pub action: u32,
    /// Length of the path.
    pub path_len: u32,
}

/// A [`Cgroup`] with space for the longest path.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupRoom {
    /// The fixed part.
    pub cgroup: Cgroup,
    /// The path.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// [`Running::flags`]: a kernel thread.
pub const RUNNING_KTHREAD: u32 = 1;
/// [`Running::flags`]: none of its threads is alive. Its exit is reported already, or within microseconds.
pub const RUNNING_ENDED: u32 = 2;
/// [`Running::flags`]: it has exited and can be reaped.
pub const RUNNING_ZOMBIE: u32 = 4;
/// [`Running::flags`]: it was reaped and is about to vanish.
pub const RUNNING_GONE: u32 = 8;
/// [`Running::flags`]: the executable's name has been unlinked.
pub const RUNNING_EXE_DELETED: u32 = 16;
/// [`Running::flags`]: the name of the working directory has been unlinked.
pub const RUNNING_CWD_DELETED: u32 = 32;
/// [`Running::flags`]: it has no memory: it has exited, or is a kernel thread.
pub const RUNNING_NO_MM: u32 = 64;

/// One process of an iteration over all processes. Followed without gaps by exe (`exe_len` bytes) and cwd (`cwd_len`),
/// as in [`Exec`].
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Common part. `boot_ns` is from before the process was read. `seq` and `rq_clock` are not set.
    pub header: Header,
    /// `CLOCK_BOOTTIME` after it was read, in nanoseconds.
    pub until_ns: u64,
    /// The process.
    pub task: TaskRef,
    /// Its parent.
    pub parent: TaskRef,
    /// Its ids.
    pub ids: Ids,
    /// Its name, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// `RUNNING_*` bits.
    pub flags: u32,
    /// Depth of its pid namespace, 0 for the initial one.
    pub ns_level: u32,
    /// Its pid in each pid namespace, outermost first, when it is in a nested one.
    pub ns_pids: [u32; MAX_NS_LEVEL + 1],
    /// Length of exe.
    pub exe_len: u16,
    /// Length of cwd.
    pub cwd_len: u16,
    /// `FIELD_*` of exe.
    pub exe_state: u8,
    /// `FIELD_*` of cwd.
    pub cwd_state: u8,
    /// Keeps the size a multiple of eight.
    pub pad: [u8; 6],
}

const _: () = {
    assert!(size_of::<Running>() == 32 + 8 + 32 + 48 + 16 + 8 + 4 * (MAX_NS_LEVEL + 1) + 12);
    assert!(size_of::<Running>().is_multiple_of(8));
    assert!(size_of::<Cgroup>() == 64);
    assert!(size_of::<CgroupRoom>() == 64 + CGROUP_PATH_BYTES);
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<TaskRef>() == 16);
    assert!(size_of::<Ids>() == 48);
    assert!(size_of::<Fork>() == 152);
    assert!(size_of::<ForkNested>() == 152 + 4 * (MAX_NS_LEVEL + 1) + 4);
    assert!(size_of::<Exec>() == 168);
    assert!(size_of::<ExecFailed>() == 32 + 32 + 40);
    assert!(size_of::<Reap>() == 64);
    assert!(size_of::<Usage>() == 19 * 8);
    assert!(size_of::<Exit>() == 32 + 3 * 16 + 48 + 16 + 8 + 152 + 16);
    assert!(size_of::<Signal>() == 32 + 32 + 16 + 16);
    assert!(size_of::<Exec>().is_multiple_of(8) && size_of::<Exit>().is_multiple_of(8));
    assert!(size_of::<ForkNested>().is_multiple_of(8));
};
