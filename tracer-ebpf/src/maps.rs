//! The maps, but for those of the ring (`emit.rs`).

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use tracer_common::limits::{ARGV_STAGED_BYTES, COMM_LEN, EXEC_HEAD_BYTES, MAX_AIDES, MAX_HANDLED, MAX_PREPARED};
use tracer_common::record::TaskRef;

/// `BPF_F_NO_PREALLOC` (memory is taken as it is needed) and `BPF_F_MMAPABLE` (user space maps the map's memory):
/// <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NO_PREALLOC: u32 = 1;
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// An exec record while it is put together. Only one exec program is in use, and it cannot interrupt itself.
#[repr(C, align(8))]
pub(crate) struct ExecScratch(pub(crate) [u8; EXEC_HEAD_BYTES + ARGV_STAGED_BYTES]);

/// One [`ExecScratch`] a CPU.
#[map]
pub(crate) static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// The same for failed execs: one for each of the two system calls, whose programs may interrupt each other.
#[map]
pub(crate) static EXEC_FAILED_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// A record of the iterator while it is put together. Only one thread reads an iterator at a time.
#[map]
pub(crate) static RUNNING_SCRATCH: Array<ExecScratch> = Array::with_max_entries(1, 0);

/// An exec that is under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Prepared {
    /// When the task was created: another task may have its address by then.
    pub(crate) start_ns: u64,
    /// Which exec of the task it will be.
    pub(crate) exec_id: u64,
    /// The address of its `struct linux_binprm`, which lives as long as the exec takes.
    pub(crate) bprm: u64,
}

/// Execs under way, by the address of their task, for a program that gets an exec without its `linux_binprm`. Entries of
/// execs that fail are dropped as room is needed.
#[map]
pub(crate) static PREPARED: LruHashMap<u64, Prepared> = LruHashMap::with_max_entries(MAX_PREPARED, 0);

/// Who sent a signal, and how.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    /// The task that ran.
    pub(crate) sender: TaskRef,
    /// The name of its process.
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
    /// When the target was created: its pid may have a new owner by then.
    pub(crate) start_ns: u64,
    /// Who sent it.
    pub(crate) sent: Sent,
}

/// The last signal of each number that a process handles, by pid (upper half) and signal. A program that cleans up in its
/// handler and then sends the same signal to itself is ended by the first sender.
#[map]
pub(crate) static HANDLED: LruHashMap<u64, Handled> = LruHashMap::with_max_entries(MAX_HANDLED, 0);

/// Processes that user space knows, when only some are reported: what is reported of each, in bits (`TRACKED_ASKED` and the
/// like). Forks and execs add entries, exits remove them. User space sets the size where there is a filter, here and below.
#[map]
pub(crate) static TRACKED: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Those of them that have exited and were not waited for yet, by the address of their task: another process may have the
/// pid before the record of the reap is there.
#[map]
pub(crate) static UNREAPED: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Users whose processes are reported.
#[map]
pub(crate) static USERS: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Cgroups whose processes are reported; every new one, until user space has decided.
#[map]
pub(crate) static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Mount and pid namespaces, by number, of matching containers: processes in them are reported.
#[map]
pub(crate) static NAMESPACES: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Names of programs that start others as another user or in another cgroup.
#[map]
pub(crate) static AIDES: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(MAX_AIDES, NO_PREALLOC);

/// 1 while everything is reported: until user space has added the processes that ran before.
#[map]
pub(crate) static OPEN: Array<u32> = Array::with_max_entries(1, 0);
