//! The only file that touches the ring: numbers, reserves, submits, and counts what found no room.

use core::mem::MaybeUninit;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use tracer_common::limits::FULL_FOR_REST;
use tracer_common::record::{Header, KIND_EXIT, KIND_FORK};
use tracer_common::stats::CpuStats;

use crate::kernel::config;
use crate::maps::{ASLEEP, EVENTS, STATS};

/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP` (include/uapi/linux/bpf.h).
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

/// What a program on a trace event returns: with 0 the kernel would keep the event from everybody else, `perf` for one
/// (kernel/events/core.c, `perf_trace_run_bpf_submit`).
pub const PASS_ON: u32 = 1;

/// How to hand over a record: waking the consumer only if it sleeps.
///
/// A wake-up is an interrupt to this CPU itself, many times the cost of the record (some 20 µs on a virtual machine).
/// While the consumer is busy it looks again by itself; only when it found nothing for a while does it go to
/// sleep, and then the next record wakes it at once. One that is missed because it was being written at that very
/// moment is found by the consumer's last look.
#[inline(always)]
pub fn wake_up() -> u64 {
    let Some(asleep) = ASLEEP.get_ptr_mut(0) else { return FORCE_WAKEUP };
    // SAFETY: it points into the map; a race only wakes twice.
    unsafe {
        if read_volatile(asleep) == 0 {
            return NO_WAKEUP;
        }
        write_volatile(asleep, 0);
    }
    FORCE_WAKEUP
}

/// `BPF_RB_AVAIL_DATA` (include/uapi/linux/bpf.h): bytes that the consumer has not taken yet.
const AVAIL_DATA: u64 = 0;

/// How much of the ring is in use, in bytes: less is told as it fills, so that births and deaths are lost last.
#[inline(always)]
pub fn used() -> u64 {
    EVENTS.query(AVAIL_DATA)
}

/// True if so much is in use that what takes `eighths` of the ring has to do without.
#[inline(always)]
pub fn is_full_for(used: u64, eighths: u32) -> bool {
    used >= u64::from(eighths) * u64::from(config!(ring_eighth))
}

/// The counters of this CPU.
#[inline(always)]
pub fn stats() -> Option<*mut CpuStats> {
    STATS.get_ptr_mut(cpu())
}

#[inline(always)]
fn cpu() -> u32 {
    unsafe { bpf_get_smp_processor_id() }
}

/// Takes the next number of a kind and makes the header of its record.
#[inline(always)]
pub fn header(kind: u16, len: u32, rq_clock: u64) -> Option<(Header, *mut CpuStats)> {
    let cpu = cpu();
    let stats = STATS.get_ptr_mut(cpu)?;
    // Only this CPU and only programs of this kind write the slot, and none interrupts itself.
    let seq = unsafe {
        let slot = &raw mut (*stats).seq[kind as usize];
        *slot += 1;
        *slot
    };
    let header = Header { len, kind, cpu: cpu as u16, seq, boot_ns: unsafe { bpf_ktime_get_boot_ns() }, rq_clock };
    Some((header, stats))
}

/// Counts a record that found no room.
#[inline(always)]
pub fn lost(stats: *mut CpuStats, kind: u16) {
    unsafe { (*stats).lost[kind as usize] += 1 };
}

/// Room for a record of fixed size, with its header ready to be stored.
#[inline(always)]
pub fn reserve<T: 'static>(kind: u16, len: u32, rq_clock: u64) -> Option<(RingBufEntry<T>, Header)> {
    let (header, stats) = header(kind, len, rq_clock)?;
    // What is about neither a birth nor a death leaves them the last of the room.
    let kept = matches!(kind, KIND_FORK | KIND_EXIT);
    if !kept && is_full_for(used(), FULL_FOR_REST) {
        lost(stats, kind);
        return None;
    }
    let Some(entry) = EVENTS.reserve::<T>(0) else {
        lost(stats, kind);
        return None;
    };
    Some((entry, header))
}

/// Pointer to a reserved record.
#[inline(always)]
pub fn fields<T>(entry: &mut RingBufEntry<T>) -> *mut T {
    let room: &mut MaybeUninit<T> = entry;
    room.as_mut_ptr()
}
