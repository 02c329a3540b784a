//! `sched_process_exec` as a trace event, for kernels that skip preempted programs on tracepoints (Linux 7).
//! For trace events the kernel disables preemption ([`include/trace/perf.h`]).
//!
//! A trace event has no `linux_binprm`, and only that has the interpreter. So a program on `sched_prepare_exec(task, bprm)`,
//! a tracepoint of Linux 6.9, saves its address before. If the kernel skips that program, the interpreter is unreadable,
//! and nothing else is missing.
//!
//! [`include/trace/perf.h`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/include/trace/perf.h

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::filter;
use crate::hook::exec::{NO_INTERPRETER, Request, report};
use crate::kernel::{PASS_ON, offset, read, read_user};
use crate::maps::{PREPARED, Prepared};
use crate::task::Task;

/// Arguments of `sched_prepare_exec`.
const TASK: usize = 0;
const BPRM: usize = 1;

/// Saves the `linux_binprm` that the trace event lacks.
#[btf_tracepoint(function = "sched_prepare_exec")]
fn exec_prepared(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    if filter::may_admit_exec(task) {
        // The kernel increments the id right after, in `begin_new_exec`:
        // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/exec.c
        let exec_id = task.exec_id() + 1;
        let bprm = ctx.arg::<u64>(BPRM);
        // If this fails, the interpreter is reported as unreadable.
        let _ = PREPARED.insert(task.address(), Prepared { start_ns: task.start_ns(), exec_id, bprm }, 0);
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn exec_event(event: *mut c_void) -> u32 {
    let event = event as u64;
    let task = Task::running();
    if !filter::admits_exec(task) {
        return PASS_ON;
    }
    let place: u32 = read(event, offset!(event_exec_filename));
    // A new stack begins with the number of arguments, in a word of the new program's word size.
    let argc = read_user(task.image().stack()).unwrap_or(0);
    let filename = event + u64::from(place & 0xffff);
    let request = Request { old_tid: read(event, offset!(event_exec_old_tid)), argc, filename };
    report(task, &request, || interpreter(task));
    PASS_ON
}

/// Stands for an unknown address: nothing can be read there.
const UNKNOWN: u64 = u64::MAX;

/// Returns the address of the interpreter's path, if `exec_prepared` has saved it for this exec.
#[inline(always)]
fn interpreter(task: Task) -> u64 {
    let Some(prepared) = PREPARED.get_ptr(task.address()) else { return UNKNOWN };
    // SAFETY: it points into the map, and only the task itself writes the entry of its address.
    let Prepared { start_ns, exec_id, bprm } = unsafe { *prepared };
    let _ = PREPARED.remove(task.address());
    if start_ns != task.start_ns() || exec_id != task.exec_id() {
        return UNKNOWN;
    }
    let interpreter: u64 = read(bprm, offset!(binprm_interp));
    if interpreter == read::<u64>(bprm, offset!(binprm_filename)) { NO_INTERPRETER } else { interpreter }
}
