//! The only module that accesses the ring: it numbers, reserves and submits records, and counts lost ones.

use core::mem::MaybeUninit;
use core::ptr::{read_volatile, write_volatile};
use core::slice;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::ring_buf::{RingBufBytes, RingBufEntry};
use aya_ebpf::maps::{Array, RingBuf};
use tracer_common::limits::{FULL_FOR_REST, RING_DEFAULT_BYTES};
use tracer_common::record::{Header, KIND_EXIT, KIND_FORK};
use tracer_common::stats::CpuStats;

use crate::kernel::config;
use crate::log;
use crate::maps::MMAPABLE;

/// The ring buffer. User space sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_DEFAULT_BYTES, 0);

/// 1 while the consumer sleeps. It sets this before it goes to sleep.
#[map]
static ASLEEP: Array<u32> = Array::with_max_entries(1, MMAPABLE);

/// Sequence numbers and losses by CPU. User space sets the number of CPUs. A per-CPU array cannot be mapped into memory.
#[map]
static STATS: Array<CpuStats> = Array::with_max_entries(1, MMAPABLE);

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP` and `BPF_RB_AVAIL_DATA` (bytes that the consumer has not taken yet):
/// <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAIL_DATA: u64 = 0;

/// Returns the flag for submitting a record: it wakes the consumer only if that sleeps.
///
/// A wake-up is an interrupt to this CPU. It costs many times as much as the record (some 20 µs on a virtual machine). A
/// busy consumer polls by itself. It sleeps only after it has found nothing for a while, and then the next record wakes it
/// at once. The consumer's last poll finds a record that was being written at that moment.
#[inline(always)]
fn wake_up() -> u64 {
    let Some(asleep) = ASLEEP.get_ptr_mut(0) else { return FORCE_WAKEUP };
    // SAFETY: it points into the map. A race only wakes twice.
    unsafe {
        if read_volatile(asleep) == 0 {
            return NO_WAKEUP;
        }
        write_volatile(asleep, 0);
    }
    FORCE_WAKEUP
}

/// Returns the used bytes of the ring. As it fills, records carry less, so that forks and exits are lost last.
#[inline(always)]
pub(crate) fn used() -> u64 {
    EVENTS.query(AVAIL_DATA)
}

/// Returns true if at least `eighths` eighths of the ring are in use.
#[inline(always)]
pub(crate) fn is_full_for(used: u64, eighths: u32) -> bool {
    used >= u64::from(eighths) * u64::from(config!(ring_eighth))
}

/// The counters of this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Counters(*mut CpuStats);

impl Counters {
    #[inline(always)]
    pub(crate) fn of_this_cpu() -> Option<Self> {
        STATS.get_ptr_mut(cpu()).map(Self)
    }

    /// Counts a record that did not fit.
    #[inline(always)]
    pub(crate) fn lost(self, kind: u16) {
        // SAFETY: it points into the map. Only this CPU writes there, and only programs of this kind write this slot.
        unsafe { (*self.0).lost[kind as usize] += 1 };
        log::lost(kind);
    }

    /// Counts an exec whose argv was truncated because the ring is too full.
    #[inline(always)]
    pub(crate) fn argv_degraded(self) {
        // SAFETY: as in `lost`; only the exec program counts here.
        unsafe { (*self.0).argv_degraded += 1 };
    }

    /// Counts an exec whose paths were left out because the ring is too full.
    #[inline(always)]
    pub(crate) fn paths_degraded(self) {
        // SAFETY: as in `lost`; only the exec program counts here.
        unsafe { (*self.0).paths_degraded += 1 };
    }

    /// Counts an entry that did not fit into a map of the filter.
    #[inline(always)]
    pub(crate) fn untracked(self) {
        // SAFETY: it points into the map. A race loses one count of a mere warning.
        unsafe { (*self.0).untracked += 1 };
        log::full();
    }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_get_smp_processor_id() }
}

/// Takes the next sequence number of a kind and returns the header of its record.
#[inline(always)]
pub(crate) fn header(kind: u16, len: u32, rq_clock: u64) -> Option<(Header, Counters)> {
    let cpu = cpu();
    let stats = STATS.get_ptr_mut(cpu)?;
    // SAFETY: it points into the map. Only this CPU and programs of this kind write the slot, and none of them
    // interrupts itself. The second helper takes no argument.
    let (seq, boot_ns) = unsafe {
        let slot = &raw mut (*stats).seq[kind as usize];
        *slot += 1;
        (*slot, bpf_ktime_get_boot_ns())
    };
    Some((Header { len, kind, cpu: cpu as u16, seq, boot_ns, rq_clock }, Counters(stats)))
}

/// A record of fixed size in the ring, to be filled and submitted.
pub(crate) struct Reserved<T: 'static>(RingBufEntry<T>);

/// Reserves a record of fixed size and returns it with its header.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(kind: u16, len: u32, rq_clock: u64) -> Option<(Reserved<T>, Header)> {
    let (header, counters) = header(kind, len, rq_clock)?;
    // Other records leave the last space to forks and exits.
    let kept = matches!(kind, KIND_FORK | KIND_EXIT);
    if !kept && is_full_for(used(), FULL_FOR_REST) {
        counters.lost(kind);
        return None;
    }
    let Some(entry) = EVENTS.reserve::<T>(0) else {
        counters.lost(kind);
        return None;
    };
    Some((Reserved(entry), header))
}

impl<T> Reserved<T> {
    /// Returns the record. It is valid for writes until it is submitted, and not initialised.
    #[inline(always)]
    pub(crate) fn fields(&mut self) -> *mut T {
        let room: &mut MaybeUninit<T> = &mut self.0;
        room.as_mut_ptr()
    }

    #[inline(always)]
    pub(crate) fn submit(self) {
        self.0.submit(wake_up());
    }
}

/// A record in the ring as bytes. Its size is known at compile time.
pub(crate) struct ReservedBytes(RingBufBytes<'static>);

/// Reserves `size` bytes, a constant. Returns `None` if they do not fit.
#[inline(always)]
pub(crate) fn reserve_bytes(size: usize) -> Option<ReservedBytes> {
    EVENTS.reserve_bytes(size, 0).map(ReservedBytes)
}

impl ReservedBytes {
    #[inline(always)]
    pub(crate) fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    #[inline(always)]
    pub(crate) fn submit(self) {
        self.0.submit(wake_up());
    }
}

/// Copies a complete record into the ring. Returns false if it does not fit.
///
/// # Safety
/// `record` is valid for reads of `len` bytes.
#[inline(always)]
pub(crate) unsafe fn output(record: *const u8, len: usize) -> bool {
    // SAFETY: the caller guarantees it.
    let bytes = unsafe { slice::from_raw_parts(record, len) };
    EVENTS.output::<[u8]>(bytes, wake_up()).is_ok()
}
