//! Every map.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_common::limits::{ARGV_STAGED_BYTES, COMM_LEN, EXEC_HEAD_BYTES, MAX_AIDES, MAX_HANDLED, MAX_PREPARED};
use tracer_common::record::TaskRef;
use tracer_common::stats::CpuStats;

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): room is taken as it is needed.
const NO_PREALLOC: u32 = 1;

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h): user space sees the map's memory without asking.
const MMAPABLE: u32 = 1 << 10;

/// Where records go. User space sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// 1 while the consumer sleeps until it is woken; it says so before it does.
#[map]
pub static ASLEEP: Array<u32> = Array::with_max_entries(1, MMAPABLE);

/// Sequence numbers and losses, by CPU; user space makes room for each. No per-CPU array, for that cannot be mapped.
#[map]
pub static STATS: Array<CpuStats> = Array::with_max_entries(1, MMAPABLE);

/// An exec record while it is put together. Only one exec program is in use, and it cannot interrupt itself.
#[repr(C, align(8))]
pub struct ExecScratch(pub [u8; EXEC_HEAD_BYTES + ARGV_STAGED_BYTES]);

/// One [`ExecScratch`] a CPU.
#[map]
pub static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// The same for failed execs: one for each of the two system calls, whose programs may interrupt each other.
#[map]
pub static EXEC_FAILED_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// A record of the iterator while it is put together. Only one thread reads an iterator at a time.
#[map]
pub static RUNNING_SCRATCH: Array<ExecScratch> = Array::with_max_entries(1, 0);

/// An exec that is under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Prepared {
    /// When the task was created: its address may be another's by then.
    pub start_ns: u64,
    /// Which exec of the task it will be.
    pub exec_id: u64,
    /// The address of its `struct linux_binprm`, which lives as long as the exec takes.
    pub bprm: u64,
}

/// Execs under way, by the address of their task, for a program that is told of an exec without its `linux_binprm`. What
/// becomes of none is forgotten as room is needed.
#[map]
pub static PREPARED: LruHashMap<u64, Prepared> = LruHashMap::with_max_entries(MAX_PREPARED, 0);

/// Who sent a signal, and how.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sent {
    /// The task that ran.
    pub sender: TaskRef,
    /// The name of its process.
    pub comm: [u8; COMM_LEN],
    /// Its real user id.
    pub uid: u32,
    /// `si_code`.
    pub code: i32,
    /// `SIGNAL_*` bits.
    pub flags: u32,
    /// Keeps the size a multiple of eight.
    pub pad: u32,
}

/// A signal that its target handles.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handled {
    /// When the target was created: its pid may have a new owner by then.
    pub start_ns: u64,
    /// Who sent it.
    pub sent: Sent,
}

/// The last signal of each number that a process handles, by pid (upper half) and signal. A program that cleans up in its
/// handler and then sends the same signal to itself is ended by the first sender.
#[map]
pub static HANDLED: LruHashMap<u64, Handled> = LruHashMap::with_max_entries(MAX_HANDLED, 0);

/// Processes that user space knows of, when only some are reported: what is, in bits (`TRACKED_ASKED` and its like). Forks
/// and execs put in, exits take away. User space makes room where there is a filter, here and below.
#[map]
pub static TRACKED: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Of those, the dead that were not waited for yet, by the address of their task: a pid may be another's before it is told
/// that its owner is gone.
#[map]
pub static UNREAPED: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Users whose processes are reported.
#[map]
pub static USERS: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Cgroups whose processes are reported; every new one, until user space has decided.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Mount and pid namespaces, by number, of containers that are asked for: who is in one is reported.
#[map]
pub static NAMESPACES: HashMap<u32, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Names of programs that start others as another user or in another cgroup.
#[map]
pub static AIDES: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(MAX_AIDES, NO_PREALLOC);

/// 1 while everything is reported all the same: until user space has put in what was there before.
#[map]
pub static OPEN: Array<u32> = Array::with_max_entries(1, 0);
