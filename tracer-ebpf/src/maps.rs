//! Every map.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use tracer_common::limits::{ARGV_STAGED_BYTES, EXEC_HEAD_BYTES, MAX_TRACKED};
use tracer_common::stats::CpuStats;

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): room is taken as it is needed.
const NO_PREALLOC: u32 = 1;

/// Where records go. User space sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// 1 while the consumer sleeps until it is woken; it says so before it does.
#[map]
pub static ASLEEP: Array<u32> = Array::with_max_entries(1, 0);

/// Sequence numbers and losses.
#[map]
pub static STATS: PerCpuArray<CpuStats> = PerCpuArray::with_max_entries(1, 0);

/// An exec record while it is put together. Each exec program has its own, and none can interrupt itself.
#[repr(C, align(8))]
pub struct ExecScratch(pub [u8; EXEC_HEAD_BYTES + ARGV_STAGED_BYTES]);

/// One [`ExecScratch`] a CPU and program; user space makes room for the second.
#[map]
pub static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// The same for failed execs: one for each of the two system calls, whose programs may interrupt each other.
#[map]
pub static EXEC_FAILED_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// Whose event the first program of a hook has told, until the second has seen that: kind and thread. User space makes
/// room where there are second programs.
#[map]
pub static TOLD: HashMap<u64, u32> = HashMap::with_max_entries(1, NO_PREALLOC);

/// Of those, the dead that were not waited for yet, by the address of their task: a pid may be another's before it is told
/// that its owner is gone.
#[map]
pub static UNREAPED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_TRACKED, NO_PREALLOC);

/// Processes to report when only some are asked for: `tracer run` puts CMD in, forks add to it, exits take away.
#[map]
pub static TRACKED: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TRACKED, NO_PREALLOC);
