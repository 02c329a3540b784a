//! The process that inherits the children of an exiting one.

use tracer_common::limits::MAX_REAPER_DEPTH;
use tracer_common::offsets::ABSENT;
use tracer_common::record::TaskRef;

use super::{Task, identity_at};
use crate::kernel::{Typed, offset, read};

/// The process that inherits the children of one that exits now.
pub(crate) struct Reaper {
    pub(crate) task: TaskRef,
    /// True for a child subreaper, false for the namespace's init.
    pub(crate) subreaper: bool,
    /// True if the exiting process is itself the namespace's init.
    pub(crate) is_self: bool,
    /// True if there are too many ancestors to check, so the reaper is unknown.
    pub(crate) deep: bool,
}

/// Does what [`find_new_reaper`] does after the last thread has exited. Returns the nearest living child subreaper among
/// the ancestors in the same pid namespace, or else the namespace's init.
///
/// [`find_new_reaper`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/exit.c
#[inline(always)]
pub(crate) fn reaper(task: Task) -> Reaper {
    let none = Reaper { task: TaskRef::default(), subreaper: false, is_self: false, deep: false };
    let level = task.ns_level();
    'subreaper: {
        if !bit(task.signal(), offset!(signal_has_child_subreaper)) {
            break 'subreaper;
        }
        // By address, not by type: for each typed load the verifier searches the members of the structure. Times the
        // depth, that took half a second.
        let mut ancestor = task.real_parent().0.address();
        for _ in 0..MAX_REAPER_DEPTH {
            let pid: u64 = read(ancestor, offset!(task_thread_pid));
            let signal: u64 = read(ancestor, offset!(task_signal));
            let tgid: u32 = read(ancestor, offset!(task_tgid));
            // The idle task is the root of everything.
            if tgid == 0 || read::<u32>(pid, offset!(pid_level)) != level {
                break 'subreaper;
            }
            if is_child_subreaper(signal) && read::<u32>(signal, offset!(signal_live)) != 0 {
                return Reaper { task: identity_at(ancestor), subreaper: true, ..none };
            }
            ancestor = read(ancestor, offset!(task_real_parent));
        }
        return Reaper { deep: true, ..none };
    }
    if offset!(task_thread_pid) == ABSENT
        || offset!(upid_ns) == ABSENT
        || offset!(upid_size) == ABSENT
        || offset!(pid_ns_child_reaper) == ABSENT
    {
        return none;
    }
    let init = task.ns_init(level);
    Reaper { task: init, is_self: init.tgid == task.tgid(), ..none }
}

#[inline(always)]
fn is_child_subreaper(signal: u64) -> bool {
    let bit = offset!(signal_is_child_subreaper);
    bit != ABSENT && read::<u8>(signal, bit / 8) >> (bit % 8) & 1 != 0
}

#[inline(always)]
fn bit(of: Typed, bit_offset: u32) -> bool {
    if bit_offset == ABSENT {
        return false;
    }
    let word: u8 = of.load(bit_offset / 8);
    word >> (bit_offset % 8) & 1 != 0
}
