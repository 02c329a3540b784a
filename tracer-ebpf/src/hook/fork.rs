//! `sched_process_fork(parent, child)`: kernel/fork.c, `kernel_clone`, before the child first runs.
//!
//! Where a program there can be preempted, and passed over (Linux 7): `sched_wakeup_new(child)`, kernel/sched/core.c,
//! `wake_up_new_task`, which the creator calls right after. It comes with the run queue locked: nothing preempts it.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::record::{FORK_KTHREAD, FORK_THREAD, Fork, ForkNested, Header, KIND_FORK};

use crate::emit;
use crate::filter;
use crate::kernel::config;
use crate::task::Task;

const CREATOR: usize = 0;
const CHILD: usize = 1;

/// The only argument of `sched_wakeup_new`.
const WOKEN: usize = 0;

#[btf_tracepoint(function = "sched_process_fork")]
fn fork(ctx: BtfTracePointContext) -> i32 {
    report(Task::new(ctx.arg::<*const u8>(CREATOR)), Task::new(ctx.arg::<*const u8>(CHILD)))
}

/// For kernels on which programs at tracepoints can be preempted.
#[btf_tracepoint(function = "sched_wakeup_new")]
fn fork_waking(ctx: BtfTracePointContext) -> i32 {
    report(Task::running(), Task::new(ctx.arg::<*const u8>(WOKEN)))
}

#[inline(always)]
fn report(creator: Task, child: Task) -> i32 {
    let thread = creator.tgid() == child.tgid();
    if thread && (config!(threads) == 0 || !filter::admits(creator)) {
        return 0;
    }
    if !thread && !filter::admits_birth(creator, child) {
        return 0;
    }
    let level = child.ns_level();
    if level == 0 {
        if let Some((mut entry, header)) =
            emit::reserve::<Fork>(KIND_FORK, size_of::<Fork>() as u32, creator.rq_clock())
        {
            unsafe { fill(emit::fields(&mut entry), header, creator, child, thread, 0) };
            entry.submit(emit::wake_up());
        }
        return 0;
    }
    let len = size_of::<Fork>() as u32 + 4 * (level + 1);
    if let Some((mut entry, header)) = emit::reserve::<ForkNested>(KIND_FORK, len, creator.rq_clock()) {
        let record = emit::fields(&mut entry);
        unsafe {
            fill(&raw mut (*record).fork, header, creator, child, thread, level);
            (*record).fork.ids.pid_ns = child.pid_ns(level);
            for i in 0..=MAX_NS_LEVEL {
                if i as u32 > level {
                    break;
                }
                (*record).ns_pids[i] = child.pid_at_level(i as u32);
            }
        }
        entry.submit(emit::wake_up());
    }
    0
}

#[inline(always)]
unsafe fn fill(record: *mut Fork, header: Header, creator: Task, child: Task, thread: bool, ns_level: u32) {
    let mut flags = 0;
    if thread {
        flags |= FORK_THREAD;
    }
    if child.is_kthread() {
        flags |= FORK_KTHREAD;
    }
    unsafe {
        (*record).header = header;
        (*record).child = child.identity();
        (*record).parent = child.real_parent().identity();
        (*record).creator = creator.identity();
        (*record).ids = child.ids();
        (*record).ids.mnt_ns = child.mnt_ns();
        (*record).comm = child.comm();
        (*record).flags = flags;
        (*record).ns_level = ns_level;
    }
}
