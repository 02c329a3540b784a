//! The maps, except those of the ring (`emit.rs`).

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use tracer_common::limits::{ARGV_STAGED_BYTES, COMM_LEN, EXEC_HEAD_BYTES, MAX_HANDLED, MAX_HELPERS, MAX_PREPARED};
use tracer_common::record::TaskRef;

/// `BPF_F_NO_PREALLOC` (allocate memory on demand) and `BPF_F_MMAPABLE` (user space maps the map's memory):
/// <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NO_PREALLOC: u32 = 1;
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// An exec record under construction. Only one exec program is in use, and it cannot interrupt itself.
#[repr(C, align(8))]
pub(crate) struct ExecScratch(pub(crate) [u8; EXEC_HEAD_BYTES + ARGV_STAGED_BYTES]);

/// One [`ExecScratch`] per CPU.
#[map]
pub(crate) static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// The same for failed execs, one per system call: their programs may interrupt each other.
#[map]
pub(crate) static EXEC_FAILED_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// A record of the iterator under construction. Only one thread reads an iterator at a time.
#[map]
pub(crate) static RUNNING_SCRATCH: Array<ExecScratch> = Array::with_max_entries(1, 0);

/// An exec in progress.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Prepared {
    /// When the task was created. Another task may get its address later.
    pub(crate) start_ns: u64,
    /// The `self_exec_id` of the task after this exec.
    pub(crate) exec_id: u64,
    /// The address of its `struct linux_binprm`, which lives until the exec ends.
    pub(crate) bprm: u64,
}

/// Execs in progress by address of their task, for a program that gets an exec without its `linux_binprm`.
/// Entries of failed execs are evicted when the map is full.
#[map]
pub(crate) static PREPARED: LruHashMap<u64, Prepared> = LruHashMap::with_max_entries(MAX_PREPARED, 0);

/// The sender and the origin of a signal.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    /// The running task.
    pub(crate) sender: TaskRef,
    /// The comm of its process.
    pub(crate) comm: [u8; COMM_LEN],
    /// Its real user id.
    pub(crate) uid: u32,
    /// `si_code`.
    pub(crate) code: i32,
    /// `SIGNAL_*` bits.
    pub(crate) flags: u32,
    /// Keeps the size a multiple of eight.
    pub(crate) pad: u32,
}

/// A signal that its target handles.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Handled {
    /// When the target was created. Its pid may be reused later.
    pub(crate) start_ns: u64,
    /// The sender.
    pub(crate) sent: Sent,
}

/// The last signal of each number that a process handles, by pid (upper half) and signal. A program may clean up in its
/// handler and then raise the same signal again. Then the first sender has ended it.
#[map]
pub(crate) static HANDLED: LruHashMap<u64, Handled> = LruHashMap::with_max_entries(MAX_HANDLED, 0);

/// What is reported of each process that user space knows, as `TRACKED_*` bits. Used with a filter only. Forks and execs add
/// entries, exits remove them. With a filter, user space sets the size of this map and of those below.
#[map]
pub(crate) static TRACKED: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Tracked processes that have exited and are not yet reaped, by address of their task. Another process may get the
/// pid before the reap is recorded.
#[map]
pub(crate) static UNREAPED: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Users whose processes are reported.
#[map]
pub(crate) static USERS: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Cgroups whose processes are reported. A new cgroup is among them until user space decides.
#[map]
pub(crate) static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Mount and pid namespaces of matching containers, by number. Processes in them are reported.
#[map]
pub(crate) static NAMESPACES: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Names of helpers: programs that start others as another user or in another cgroup.
#[map]
pub(crate) static HELPERS: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(MAX_HELPERS, NO_PREALLOC);

/// 1 while everything is reported, until user space has added the processes that ran before.
#[map]
pub(crate) static OPEN: Array<u32> = Array::with_max_entries(1, 0);
