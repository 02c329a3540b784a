//! `sched_process_free(task)`, on request: [`delayed_put_task_struct`]. A zombie was reaped, or its parent ignores
//! `SIGCHLD`.
//!
//! `release_task` reaps a process and has no tracepoint. This one follows once no CPU uses the task any more. That is some
//! milliseconds later, in the context of the task that runs then.
//!
//! [`delayed_put_task_struct`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/exit.c

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::record::{KIND_REAP, Reap};

use crate::emit;
use crate::filter;
use crate::task::{Task, identity_if_older, real_parent_at};

const TASK: usize = 0;

#[btf_tracepoint(function = "sched_process_free")]
fn reap(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    // The leader is freed last, and it is the task that is reaped. If the exec of another thread has ended the leader, that
    // thread has its pid.
    if task.tid() != task.tgid() || !filter::was_admitted(task.address()) {
        return 0;
    }
    if let Some((mut entry, header)) = emit::reserve::<Reap>(KIND_REAP, size_of::<Reap>() as u32, 0) {
        let record = entry.fields();
        // SAFETY: the record is reserved, and every field of it is written before it is submitted.
        unsafe {
            (*record).header = header;
            (*record).task = task.identity();
            // Nothing keeps the parent's memory. It may belong to another task by now, which is then younger than the child. A
            // parent never is. User space accepts it as the parent only if it knows a process with exactly this start.
            (*record).parent = identity_if_older(real_parent_at(task.address()), task.start_ns());
        }
        entry.submit();
    }
    0
}
