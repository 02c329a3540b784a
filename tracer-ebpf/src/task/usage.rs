//! The resource usage of a process.

use tracer_common::limits::MAX_EXIT_THREADS;
use tracer_common::offsets::ABSENT;
use tracer_common::record::Usage;

use super::Task;
use crate::kernel::{Typed, offset, read};

/// Writes the usage of one thread.
///
/// # Safety
/// `usage` is valid for writes.
#[inline(always)]
pub(crate) unsafe fn usage_of_thread(usage: *mut Usage, task: Task) {
    let task = task.0;
    // SAFETY: the caller vouches for the pointer.
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

/// Writes the usage of the process: its last thread, the released threads, and exited threads that are not yet released
/// (a leader that exited first). The kernel sums the released ones in `signal_struct` ([`__exit_signal`]). Returns false
/// if there were too many threads to read.
///
/// # Safety
/// `usage` is valid for writes.
///
/// [`__exit_signal`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/exit.c
#[inline(always)]
pub(crate) unsafe fn usage_of_group(usage: *mut Usage, task: Task) -> bool {
    // SAFETY: the caller vouches for the pointer.
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
        signal.load::<u32>(offset!(signal_nr_threads)) <= 1 || add_unreleased(usage, task.address(), signal)
    }
}

/// Adds the threads that are still on the list of the process, except the one that exits now. Returns false if there
/// are too many to read.
///
/// # Safety
/// `usage` is valid for reads and writes.
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
            // SAFETY: the caller vouches for the pointer.
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

/// Reads two counters, with one read if they are adjacent, as on every kernel so far.
#[inline(always)]
fn pair(thread: u64, first: u32, second: u32) -> [u64; 2] {
    if second == first + 8 { read(thread, first) } else { [read(thread, first), read(thread, second)] }
}
