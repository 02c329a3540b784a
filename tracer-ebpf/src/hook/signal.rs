//! `signal_generate(sig, info, task, group, result)`: kernel/signal.c, `__send_signal_locked`.
//!
//! Only signals that will end their target are reported: the cause of a death is known before it happens.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::COMM_LEN;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{KIND_SIGNAL, SIGNAL_KERNEL, Signal};

use crate::emit;
use crate::filter;
use crate::kernel::{Typed, offset, read};
use crate::task::{Task, current_identity};

const SIGNAL: usize = 0;
const INFO: u64 = 1;
const TARGET: usize = 2;
const RESULT: usize = 4;

/// `TRACE_SIGNAL_DELIVERED` and `TRACE_SIGNAL_LOSE_INFO`, include/trace/events/signal.h.
const DELIVERED: u32 = 0;
const LOSE_INFO: u32 = 4;

const SIGKILL: u32 = 9;
/// Signals whose default action is not to end the process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;

/// `SEND_SIG_PRIV`, include/linux/sched/signal.h: the kernel itself, instead of a pointer.
const SEND_SIG_PRIV: u64 = 1;
/// `si_code`s by which one process signals another: kill, sigqueue, tkill (include/uapi/asm-generic/siginfo.h).
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;
const SI_KERNEL: i32 = 0x80;

#[btf_tracepoint(function = "signal_generate")]
fn signal(ctx: BtfTracePointContext) -> i32 {
    let signal: u32 = ctx.arg::<u64>(SIGNAL) as u32;
    let result: u32 = ctx.arg::<u64>(RESULT) as u32;
    if signal == 0 || signal > 64 || (signal < 64 && HARMLESS >> signal & 1 != 0) {
        return 0;
    }
    if result != DELIVERED && result != LOSE_INFO {
        return 0;
    }
    let target = Task::new(ctx.arg::<*const u8>(TARGET));
    if (signal != SIGKILL && !is_default(target, signal)) || !filter::admits(target) {
        return 0;
    }
    // Read as a number, not as an argument: it may be 0 or 1 instead of a pointer.
    let info: u64 = read(ctx.as_ptr() as u64, (8 * INFO) as u32);
    let code = match info {
        0 => SI_USER,
        SEND_SIG_PRIV => SI_KERNEL,
        _ => read(info, offset!(siginfo_code)),
    };
    if let Some((mut entry, header)) = emit::reserve::<Signal>(KIND_SIGNAL, size_of::<Signal>() as u32, 0) {
        let record = emit::fields(&mut entry);
        unsafe {
            (*record).header = header;
            (*record).target = target.identity();
            (*record).sender = current_identity();
            bpf_get_current_comm((*record).sender_comm.as_mut_ptr().cast(), COMM_LEN as u32);
            (*record).signal = signal;
            (*record).code = code;
            (*record).flags = if matches!(code, SI_USER | SI_QUEUE | SI_TKILL) { 0 } else { SIGNAL_KERNEL };
            (*record).sender_uid = bpf_get_current_uid_gid() as u32;
        }
        entry.submit(emit::wake_up());
    }
    0
}

/// True when the target has not set a handler for it (nor ignores it). `SIG_DFL` is 0.
#[inline(always)]
fn is_default(target: Task, signal: u32) -> bool {
    if offset!(task_sighand) == ABSENT || offset!(sighand_action) == ABSENT || offset!(k_sigaction_size) == ABSENT {
        return true;
    }
    let sighand: Typed = unsafe { target.0.follow(offset!(task_sighand)) };
    let entry = u64::from(offset!(sighand_action)) + u64::from(signal - 1) * u64::from(offset!(k_sigaction_size));
    read::<u64>(sighand.address() + entry, offset!(k_sigaction_handler)) == 0
}
