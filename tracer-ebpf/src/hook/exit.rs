//! `sched_process_exit(task[, group_dead])`: [`do_exit`].
//!
//! [Since 6.16] it is hit before `exit_mm` and has an argument that says whether the whole thread group is dead. Older kernels
//! hit it after `exit_mm`, and the program reads `signal->live`. User space loads the program that fits the prototype in BTF.
//!
//! On kernels that skip preempted programs (Linux 7), the hook is the trace event of the same name instead. For trace
//! events the kernel disables preemption ([`include/trace/perf.h`]).
//!
//! [`do_exit`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/exit.c
//! [Since 6.16]: https://github.com/torvalds/linux/blob/038d61fd642278bab63ee8ef722c50d10ab01e8f/include/trace/events/sched.h
//! [`include/trace/perf.h`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/include/trace/perf.h

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{
    EXIT_DIRECT, EXIT_GROUP, EXIT_KTHREAD, EXIT_NS_INIT, EXIT_OOM, EXIT_REAPER_DEEP, EXIT_REAPER_SUBREAPER,
    EXIT_USAGE_PARTIAL, Exit, KIND_EXIT, TaskRef,
};

use crate::emit;
use crate::filter;
use crate::kernel::{PASS_ON, config, offset, read};
use crate::task::{Task, reaper, usage_of_group, usage_of_thread};

const TASK: usize = 0;
const GROUP_DEAD: usize = 1;

/// For kernels whose tracepoint says whether the group is dead.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    report(task, ctx.arg::<u64>(GROUP_DEAD) & 1 != 0)
}

/// For kernels that skip preempted programs on tracepoints.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn exit_event(event: *mut c_void) -> u32 {
    // The exiting task is always the running one.
    let task = Task::running();
    let group = if offset!(event_exit_group_dead) == ABSENT {
        task.is_group_dead()
    } else {
        read::<u8>(event as u64, offset!(event_exit_group_dead)) != 0
    };
    report(task, group);
    PASS_ON
}

/// For kernels before 6.16. Two threads that exit at once may both see a dead group. User space merges the two records.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit_by_live(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    report(task, task.is_group_dead())
}

#[inline(always)]
fn report(task: Task, group: bool) -> i32 {
    let tgid = task.tgid();
    // The leader describes the process, as in `/proc/PID`, whichever thread exits last.
    let leader = task.leader();
    if group && !filter::admits_end(leader) || !group && (config!(threads) == 0 || !filter::admits(leader)) {
        return 0;
    }
    if let Some((mut entry, header)) = emit::reserve::<Exit>(KIND_EXIT, size_of::<Exit>() as u32, task.rq_clock()) {
        let record = entry.fields();
        // SAFETY: the record is reserved, and every field of it is written before it is submitted.
        unsafe {
            (*record).header = header;
            (*record).task = task.identity();
            (*record).parent = leader.real_parent().identity();
            (*record).ids = leader.ids();
            (*record).comm = leader.comm();
            (*record).exec_start = task.exec_start();
            (*record).rq_clock_task = task.rq_clock_task();
            (*record).reaper = TaskRef::default();
            // Flags are collected in the record. In a register they would keep the verifier from seeing that the
            // paths through the code below are alike.
            let flags = Flags(&raw mut (*record).flags);
            write_volatile(flags.0, if task.is_kthread() { EXIT_KTHREAD } else { 0 });
            if group {
                flags.set(EXIT_GROUP);
                (*record).status = task.group_status();
                if task.ended_without_signal() {
                    flags.set(EXIT_DIRECT);
                }
                if task.is_oom_victim() {
                    flags.set(EXIT_OOM);
                }
                if !usage_of_group(&raw mut (*record).usage, task) {
                    flags.set(EXIT_USAGE_PARTIAL);
                }
                let heir = reaper(task);
                (*record).reaper = heir.task;
                filter::track_kin(heir.task.tgid);
                if heir.subreaper {
                    flags.set(EXIT_REAPER_SUBREAPER);
                }
                if heir.deep {
                    flags.set(EXIT_REAPER_DEEP);
                }
                if heir.is_self {
                    flags.set(EXIT_NS_INIT);
                }
            } else {
                (*record).status = task.thread_status();
                usage_of_thread(&raw mut (*record).usage, task);
            }
        }
        entry.submit();
    }
    if group {
        filter::forget(tgid, leader.address());
    }
    0
}

/// `EXIT_*` bits, in the record.
#[derive(Clone, Copy)]
struct Flags(*mut u32);

impl Flags {
    /// # Safety
    /// The record is reserved, and its flags are initialised.
    #[inline(always)]
    unsafe fn set(self, bits: u32) {
        // SAFETY: the caller guarantees that the pointer is valid.
        unsafe { write_volatile(self.0, read_volatile(self.0) | bits) };
    }
}
