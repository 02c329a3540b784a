//! `signal_generate(sig, info, task, group, result)`: [`__send_signal_locked`].
//!
//! Only signals that will end their target are reported, so the cause of an exit is known before the exit. Signals with a
//! handler are kept in the kernel: the handler may raise the same signal again with its default action.
//!
//! [`__send_signal_locked`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/signal.c

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::record::{KIND_SIGNAL, SIGNAL_KERNEL, SIGNAL_RAISED_AGAIN, Signal};

use crate::emit;
use crate::filter;
use crate::kernel::{offset, read};
use crate::maps::{HANDLED, Handled, Sent};
use crate::task::{Task, current, identity_at, process_name_at};

const SIGNAL: usize = 0;
const INFO: u64 = 1;
const TARGET: usize = 2;
const RESULT: usize = 4;

/// `TRACE_SIGNAL_DELIVERED` and `TRACE_SIGNAL_LOSE_INFO`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/trace/events/signal.h>
const DELIVERED: u32 = 0;
const LOSE_INFO: u32 = 4;

const SIGKILL: u32 = 9;
/// Signals whose default action is not to end the process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;

/// Signals that the kernel sends to the running task for what that does, as if by `kill`: PIPE, XFSZ.
const FOR_OWN_ACTION: u64 = 1 << 13 | 1 << 25;

/// `SIG_DFL` and `SIG_IGN`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/asm-generic/signal-defs.h>
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// `SEND_SIG_NOINFO` and `SEND_SIG_PRIV`, codes of the kernel instead of a pointer:
/// <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/sched/signal.h>
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;
/// The `si_code`s of signals from a process: kill, sigqueue, tkill:
/// <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/asm-generic/siginfo.h>
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
    let handler = if signal == SIGKILL { SIG_DFL } else { target.handler(signal) };
    if handler == SIG_IGN || !filter::admits(target.leader()) {
        return 0;
    }
    // Read as a number, not as an argument: it may be 0 or 1 instead of a pointer.
    let info: u64 = read(ctx.as_ptr() as u64, (8 * INFO) as u32);
    let target_id = target.identity();
    // A single value: copies of it would take most of the stack.
    let mut handled = Handled { start_ns: target_id.start_ns, sent: sent(target, signal, info) };
    let key = u64::from(target_id.tgid) << 32 | u64::from(signal);
    let raised = handled.sent.sender.tgid == target_id.tgid && handled.sent.flags & SIGNAL_KERNEL == 0;
    if handler != SIG_DFL {
        if !raised {
            // If it cannot be kept and the process raises the signal again, the process itself is the sender.
            let _ = HANDLED.insert(&key, &handled, 0);
        }
        return 0;
    }
    if raised && let Some(kept) = HANDLED.get_ptr(&key) {
        // SAFETY: it points into the map. A concurrent signal of the same number is just as good.
        unsafe {
            if (*kept).start_ns == handled.start_ns {
                handled.sent = (*kept).sent;
                handled.sent.flags |= SIGNAL_RAISED_AGAIN;
            }
        }
    }
    if let Some((mut entry, header)) = emit::reserve::<Signal>(KIND_SIGNAL, size_of::<Signal>() as u32, 0) {
        let record = entry.fields();
        // SAFETY: it points to the reserved record, all of which is written.
        unsafe {
            (*record).header = header;
            (*record).target = target_id;
            (*record).sender = handled.sent.sender;
            (*record).sender_comm = handled.sent.comm;
            (*record).signal = signal;
            (*record).code = handled.sent.code;
            (*record).flags = handled.sent.flags;
            (*record).sender_uid = handled.sent.uid;
        }
        entry.submit();
    }
    0
}

/// Returns the sender of a signal and its origin.
#[inline(always)]
fn sent(target: Task, signal: u32, info: u64) -> Sent {
    let sender = current();
    let code = match info {
        // The kernel signals the running task this way for a pipe without a reader and for a file at its size limit. Since
        // Linux 7 a task that sends a signal to itself does so too, so the number decides.
        SEND_SIG_NOINFO if sender == target.address() && FOR_OWN_ACTION >> signal & 1 != 0 => SI_KERNEL,
        SEND_SIG_NOINFO => SI_USER,
        SEND_SIG_PRIV => SI_KERNEL,
        _ => read(info, offset!(siginfo_code)),
    };
    Sent {
        sender: identity_at(sender),
        comm: process_name_at(sender),
        uid: bpf_get_current_uid_gid() as u32,
        code,
        flags: if matches!(code, SI_USER | SI_QUEUE | SI_TKILL) { 0 } else { SIGNAL_KERNEL },
        pad: 0,
    }
}
