//! `sched_process_fork(parent, child)`: [`kernel_clone`], before the child first runs.
//!
//! On kernels that skip preempted programs (Linux 7), the hook is `sched_wakeup_new(child)` instead:
//! [`wake_up_new_task`], which the creator calls right after. The run queue is locked there, so nothing preempts the program.
//! It is also hit for threads that the kernel creates for a process (`create_io_thread`, `vhost_task_start`), which never
//! pass `sched_process_fork`.
//!
//! [`kernel_clone`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/fork.c
//! [`wake_up_new_task`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/kernel/sched/core.c

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

/// For kernels that skip preempted programs on tracepoints, and for threads that the kernel creates for a process.
#[btf_tracepoint(function = "sched_wakeup_new")]
fn fork_waking(ctx: BtfTracePointContext) -> i32 {
    report(Task::running(), Task::new(ctx.arg::<*const u8>(WOKEN)))
}

#[inline(always)]
fn report(creator: Task, child: Task) -> i32 {
    let thread = creator.tgid() == child.tgid();
    if thread && (config!(threads) == 0 || !filter::admits(creator.leader())) {
        return 0;
    }
    if !thread && !filter::admits_birth(creator, child) {
        return 0;
    }
    let (level, rq_clock) = (child.ns_level(), creator.rq_clock());
    // Built once for records of both sizes. For each typed pointer that is followed, the verifiers of 6.2 to 6.18
    // search all types of the kernel several times (`btf_nested_type_is_trusted`):
    // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/btf.c
    let fork = whole(creator, child, thread, level);
    if level == 0 {
        if let Some((mut entry, header)) = emit::reserve::<Fork>(KIND_FORK, size_of::<Fork>() as u32, rq_clock) {
            // SAFETY: the record is reserved.
            unsafe { *entry.fields() = Fork { header, ..fork } };
            entry.submit();
        }
        return 0;
    }
    let len = size_of::<Fork>() as u32 + 4 * (level + 1);
    if let Some((mut entry, header)) = emit::reserve::<ForkNested>(KIND_FORK, len, rq_clock) {
        let record = entry.fields();
        // SAFETY: the record is reserved. User space reads nothing after the written pids (`len`).
        unsafe {
            (*record).fork = Fork { header, ..fork };
            (*record).fork.ids.pid_ns = child.pid_ns(level);
            for i in 0..=MAX_NS_LEVEL {
                if i as u32 > level {
                    break;
                }
                (*record).ns_pids[i] = child.pid_at_level(i as u32);
            }
        }
        entry.submit();
    }
    0
}

/// Builds the record without its header.
#[inline(always)]
fn whole(creator: Task, child: Task, thread: bool, ns_level: u32) -> Fork {
    let mut flags = 0;
    if thread {
        flags |= FORK_THREAD;
    }
    if child.is_kthread() {
        flags |= FORK_KTHREAD;
    }
    let mut ids = child.ids();
    ids.mnt_ns = child.mnt_ns();
    Fork {
        header: Header { len: 0, kind: 0, cpu: 0, seq: 0, boot_ns: 0, rq_clock: 0 },
        child: child.identity(),
        parent: child.real_parent().identity(),
        creator: creator.identity(),
        ids,
        comm: child.comm(),
        flags,
        ns_level,
    }
}
