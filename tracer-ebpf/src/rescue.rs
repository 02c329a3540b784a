//! Two programs on one hook, so that one tells what the kernel passes over with the other.
//!
//! Since 7.0 a program on a tracepoint can be preempted, and while it is, the kernel passes over the same program for all
//! others on that CPU (kernel/trace/bpf_trace.c, `__bpf_trace_run`: one counter a program and CPU). Another program it
//! still runs. So the first of two notes whom it tells, and the second, which comes right after it in the same call of
//! the tracepoint, tells whoever is not noted. Births, execs and deaths need that: the other tracepoints are hit with
//! interrupts or preemption off.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::record::RESCUED;

use crate::kernel::config;
use crate::maps::{STATS, TOLD};

/// True if the program that tells `KIND` is the second of its hook.
pub const fn is_second(kind: u16) -> bool {
    kind > RESCUED
}

/// True if it is on this program to tell. To be asked first of all, whether it is of interest or not: what is passed over
/// is counted by the kernel whatever it is.
#[inline(always)]
pub fn is_ours<const KIND: u16>() -> bool {
    if config!(rescue) == 0 {
        return true;
    }
    let tid = bpf_get_current_pid_tgid() & 0xffff_ffff;
    if is_second(KIND) {
        let kind = KIND - RESCUED;
        if TOLD.remove(u64::from(kind) << 32 | tid).is_ok() {
            return false;
        }
        if let Some(stats) = STATS.get_ptr_mut(0) {
            unsafe { (*stats).rescued[kind as usize] += 1 };
        }
        return true;
    }
    // Only what is noted is told, or it would be told twice.
    if TOLD.insert(u64::from(KIND) << 32 | tid, 1, 0).is_ok() {
        return true;
    }
    if let Some(stats) = STATS.get_ptr_mut(0) {
        unsafe { (*stats).deferred[KIND as usize] += 1 };
    }
    false
}
