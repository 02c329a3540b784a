//! `sched_process_exec` as a trace event, for kernels on which programs at tracepoints can be preempted, and passed over
//! (Linux 7): for trace events the kernel still disables preemption (include/trace/perf.h).
//!
//! An event has no `linux_binprm`, and of what is in that only the interpreter is to be had nowhere else. So the address is
//! noted ahead, by a program at `sched_prepare_exec(task, bprm)`, a tracepoint of Linux 6.9. If that one is passed over,
//! the interpreter is unreadable, and nothing else is missing.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit;
use crate::filter;
use crate::hook::exec::{Asked, NO_INTERPRETER, report};
use crate::kernel::{offset, read};
use crate::maps::{PREPARED, Prepared};
use crate::task::Task;

/// Arguments of `sched_prepare_exec`.
const TASK: usize = 0;
const BPRM: usize = 1;

/// Notes what the event will not tell.
#[btf_tracepoint(function = "sched_prepare_exec")]
fn exec_prepared(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    if filter::may_admit_exec(task) {
        // It is counted right after (fs/exec.c, `begin_new_exec`).
        let exec_id = task.exec_id() + 1;
        let bprm = ctx.arg::<u64>(BPRM);
        // What cannot be noted is unreadable, and told so.
        let _ = PREPARED.insert(task.0.address(), Prepared { start_ns: task.start_ns(), exec_id, bprm }, 0);
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn exec_event(event: *mut c_void) -> u32 {
    let event = event as u64;
    let task = Task::running();
    if !filter::admits_exec(task) {
        return emit::PASS_ON;
    }
    let place: u32 = read(event, offset!(event_exec_filename));
    let mm = task.mm();
    // A new stack begins with the number of arguments, in a word of the new program's size.
    let mut argc = 0u32;
    unsafe {
        let stack: u64 = mm.load(offset!(mm_start_stack));
        bpf_probe_read_user((&raw mut argc).cast(), size_of::<u32>() as u32, stack as *const c_void);
    }
    let asked =
        Asked { old_tid: read(event, offset!(event_exec_old_tid)), argc, filename: event + u64::from(place & 0xffff) };
    report(task, &asked, || interpreter(task));
    emit::PASS_ON
}

/// Instead of an address that is not known: there is nothing to be read.
const UNKNOWN: u64 = u64::MAX;

/// The address of the interpreter's path, if `exec_prepared` has noted this exec.
#[inline(always)]
fn interpreter(task: Task) -> u64 {
    let Some(prepared) = PREPARED.get_ptr(task.0.address()) else { return UNKNOWN };
    // SAFETY: it points into the map, and only the task itself writes what is of this address.
    let Prepared { start_ns, exec_id, bprm } = unsafe { *prepared };
    let _ = PREPARED.remove(task.0.address());
    if start_ns != task.start_ns() || exec_id != task.exec_id() {
        return UNKNOWN;
    }
    let interpreter: u64 = read(bprm, offset!(binprm_interp));
    if interpreter == read::<u64>(bprm, offset!(binprm_filename)) { NO_INTERPRETER } else { interpreter }
}
