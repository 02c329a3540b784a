//! `sched_process_exit(task[, group_dead])`: kernel/exit.c, `do_exit`.
//!
//! Since 6.16 it comes before `exit_mm` and says whether the whole group is dead; before, it comes after
//! and one has to look at `signal->live`. User space loads the program that fits the prototype in BTF.
//!
//! Where a program there can be preempted, and passed over (Linux 7), the same tracepoint is taken as a trace event: for those
//! the kernel still disables preemption (include/trace/perf.h).

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::MAX_EXIT_THREADS;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{
    EXIT_DIRECT, EXIT_GROUP, EXIT_KTHREAD, EXIT_NS_INIT, EXIT_OOM, EXIT_REAPER_DEEP, EXIT_REAPER_SUBREAPER,
    EXIT_USAGE_PARTIAL, Exit, KIND_EXIT, TaskRef, Usage,
};

use crate::emit;
use crate::filter;
use crate::kernel::{Typed, config, offset, read};
use crate::task::{Task, reaper};

const TASK: usize = 0;
const GROUP_DEAD: usize = 1;

/// For kernels whose tracepoint says whether the group is dead.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    report(task, ctx.arg::<u64>(GROUP_DEAD) & 1 != 0)
}

/// For kernels on which programs at tracepoints can be preempted.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn exit_event(event: *mut c_void) -> u32 {
    // It is always the running task that ends.
    let task = Task::running();
    let group = if offset!(event_exit_group_dead) == ABSENT {
        unsafe { task.signal().load::<u32>(offset!(signal_live)) == 0 }
    } else {
        read::<u8>(event as u64, offset!(event_exit_group_dead)) != 0
    };
    report(task, group);
    emit::PASS_ON
}

/// For kernels before 6.16. Two threads that end at once may both find the group dead: user space merges the two.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit_by_live(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    let live: u32 = unsafe { task.signal().load(offset!(signal_live)) };
    report(task, live == 0)
}

#[inline(always)]
fn report(task: Task, group: bool) -> i32 {
    let tgid = task.tgid();
    // The process is described by its leader, as `/proc/PID` does, whichever of its threads is the last to end.
    let leader = task.leader();
    if group && !filter::admits_end(leader) || !group && (config!(threads) == 0 || !filter::admits(leader)) {
        return 0;
    }
    if let Some((mut entry, header)) = emit::reserve::<Exit>(KIND_EXIT, size_of::<Exit>() as u32, task.rq_clock()) {
        let record = emit::fields(&mut entry);
        unsafe {
            (*record).header = header;
            (*record).task = task.identity();
            (*record).parent = leader.real_parent().identity();
            (*record).ids = leader.ids();
            (*record).comm = leader.comm();
            (*record).exec_start = task.0.load(offset!(task_exec_start));
            (*record).rq_clock_task =
                if task.run_queue().is_null() { 0 } else { task.run_queue().load(offset!(rq_clock_task)) };
            (*record).reaper = TaskRef::default();
            // Flags are gathered in the record: in a register they would keep the verifier from seeing that
            // the ways through what follows are alike.
            let flags = Flags(&raw mut (*record).flags);
            write_volatile(flags.0, if task.is_kthread() { EXIT_KTHREAD } else { 0 });
            if group {
                flags.set(EXIT_GROUP);
                (*record).status = task.group_status();
                if task.ended_without_signal() {
                    flags.set(EXIT_DIRECT);
                }
                if !task.signal().follow(offset!(signal_oom_mm)).is_null() {
                    flags.set(EXIT_OOM);
                }
                usage_of_group(&raw mut (*record).usage, task, flags);
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
        entry.submit(emit::wake_up());
    }
    if group {
        filter::forget(tgid, leader.0.address());
    }
    0
}

/// `EXIT_*` bits, in the record.
#[derive(Clone, Copy)]
struct Flags(*mut u32);

impl Flags {
    #[inline(always)]
    unsafe fn set(self, bits: u32) {
        unsafe { write_volatile(self.0, read_volatile(self.0) | bits) };
    }
}

/// What one thread used.
#[inline(always)]
unsafe fn usage_of_thread(usage: *mut Usage, task: Task) {
    let task = task.0;
    unsafe {
        *usage = Usage {
            utime: task.load(offset!(task_utime)),
            stime: task.load(offset!(task_stime)),
            runtime: task.load(offset!(task_sum_exec_runtime)),
            nvcsw: task.load(offset!(task_nvcsw)),
            nivcsw: task.load(offset!(task_nivcsw)),
            minflt: task.load(offset!(task_min_flt)),
            majflt: task.load(offset!(task_maj_flt)),
            read_bytes: task.load(offset!(task_read_bytes)),
            write_bytes: task.load(offset!(task_write_bytes)),
            ..Usage::default()
        };
    }
}

/// What the process used: its last thread, those that are released (summed by the kernel in `signal_struct`,
/// kernel/exit.c `__exit_signal`), and those that are dead but not released (a leader that went first).
#[inline(always)]
unsafe fn usage_of_group(usage: *mut Usage, task: Task, flags: Flags) {
    unsafe {
        usage_of_thread(usage, task);
        let signal = task.signal();
        (*usage).utime += signal.load::<u64>(offset!(signal_utime));
        (*usage).stime += signal.load::<u64>(offset!(signal_stime));
        (*usage).runtime += signal.load::<u64>(offset!(signal_sum_sched_runtime));
        (*usage).nvcsw += signal.load::<u64>(offset!(signal_nvcsw));
        (*usage).nivcsw += signal.load::<u64>(offset!(signal_nivcsw));
        (*usage).minflt += signal.load::<u64>(offset!(signal_min_flt));
        (*usage).majflt += signal.load::<u64>(offset!(signal_maj_flt));
        (*usage).read_bytes += signal.load::<u64>(offset!(signal_read_bytes));
        (*usage).write_bytes += signal.load::<u64>(offset!(signal_write_bytes));
        (*usage).prev_utime = signal.load(offset!(signal_prev_utime));
        (*usage).prev_stime = signal.load(offset!(signal_prev_stime));
        (*usage).cutime = signal.load(offset!(signal_cutime));
        (*usage).cstime = signal.load(offset!(signal_cstime));
        (*usage).cnvcsw = signal.load(offset!(signal_cnvcsw));
        (*usage).cnivcsw = signal.load(offset!(signal_cnivcsw));
        (*usage).cminflt = signal.load(offset!(signal_cmin_flt));
        (*usage).cmajflt = signal.load(offset!(signal_cmaj_flt));
        (*usage).maxrss_pages = signal.load(offset!(signal_maxrss));
        (*usage).cmaxrss_pages = signal.load(offset!(signal_cmaxrss));
        if signal.load::<u32>(offset!(signal_nr_threads)) > 1 && !add_unreleased(usage, task.0.address(), signal) {
            flags.set(EXIT_USAGE_PARTIAL);
        }
    }
}

/// Adds the threads that are still on the list of the process, but for the one that ends now. False when there
/// were more than can be looked at.
#[inline(always)]
unsafe fn add_unreleased(usage: *mut Usage, this: u64, signal: Typed) -> bool {
    if offset!(signal_thread_head) == ABSENT || offset!(task_thread_node) == ABSENT {
        return false;
    }
    let head = signal.address() + u64::from(offset!(signal_thread_head));
    let mut node: u64 = read(head, 0);
    for _ in 0..MAX_EXIT_THREADS {
        if node == head || node == 0 {
            return true;
        }
        let thread = node - u64::from(offset!(task_thread_node));
        if thread != this {
            unsafe {
                let [user, system] = pair(thread, offset!(task_utime), offset!(task_stime));
                (*usage).utime += user;
                (*usage).stime += system;
                (*usage).runtime += read::<u64>(thread, offset!(task_sum_exec_runtime));
                let [voluntary, involuntary] = pair(thread, offset!(task_nvcsw), offset!(task_nivcsw));
                (*usage).nvcsw += voluntary;
                (*usage).nivcsw += involuntary;
                let [minor, major] = pair(thread, offset!(task_min_flt), offset!(task_maj_flt));
                (*usage).minflt += minor;
                (*usage).majflt += major;
                let [in_bytes, out_bytes] = pair(thread, offset!(task_read_bytes), offset!(task_write_bytes));
                (*usage).read_bytes += in_bytes;
                (*usage).write_bytes += out_bytes;
            }
        }
        node = read(node, 0);
    }
    false
}

/// Two counters, with one read where they lie side by side as they do on every kernel so far.
#[inline(always)]
fn pair(thread: u64, first: u32, second: u32) -> [u64; 2] {
    if second == first + 8 { read(thread, first) } else { [read(thread, first), read(thread, second)] }
}
