//! `sched_process_free(task)`, on request: kernel/exit.c, `delayed_put_task_struct`. A process that was dead has been
//! waited for, or its parent wants to hear nothing of its children (`SIGCHLD` ignored).
//!
//! `release_task`, where that happens, has no tracepoint; this one follows when no CPU looks at the task any more, some
//! milliseconds later, and in the context of whoever runs then.

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
    // The leader is the last of a process to go, and is what is waited for. One that an exec of another thread did away
    // with has given its number to that thread.
    if task.tid() != task.tgid() || !filter::was_admitted(task.0.address()) {
        return 0;
    }
    if let Some((mut entry, header)) = emit::reserve::<Reap>(KIND_REAP, size_of::<Reap>() as u32, 0) {
        let record = emit::fields(&mut entry);
        unsafe {
            (*record).header = header;
            (*record).task = task.identity();
            // Nobody holds the parent for us: it may be gone, and its memory be another's, who is younger than the child: a
            // parent never is. User space takes it for the parent only if it knows one with just this start.
            (*record).parent = identity_if_older(real_parent_at(task.0.address()), task.start_ns());
        }
        entry.submit(emit::wake_up());
    }
    0
}
