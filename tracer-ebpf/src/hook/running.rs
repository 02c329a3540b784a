//! An iterator over all tasks ([`task_iter.c`]): every running process, each exactly once.
//!
//! The kernel looks up one pid after the other under RCU and passes the task with that pid. A thread that execs takes over
//! the pid of its process ([`de_thread`]). So the ids of a task may have changed since it was found. The pid by which it
//! was found has not: a task represents its process if that pid is the tgid. Everything else is read from the
//! current leader.
//!
//! [`task_iter.c`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/task_iter.c
//! [`de_thread`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/exec.c

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_seq_write};
use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{
    FIELD_UNREADABLE, Header, KIND_RUNNING, RUNNING_CWD_DELETED, RUNNING_ENDED, RUNNING_EXE_DELETED, RUNNING_GONE,
    RUNNING_KTHREAD, RUNNING_NO_MM, RUNNING_ZOMBIE, Running,
};

use crate::cursor::Cursor;
use crate::kernel::{Typed, offset, read};
use crate::maps::RUNNING_SCRATCH;
use crate::path::{self, Place};
use crate::task::{End, Task, identity_at, process_at};

/// Members of `struct bpf_iter__task`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/task_iter.c>
const META: u32 = 0;
const TASK: u32 = 8;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn running(context: *mut c_void) -> i32 {
    let context = Typed::new(context.cast());
    let (meta, found) = (context.follow(META), context.follow(TASK));
    // The last call has no task.
    if found.is_null() {
        return 0;
    }
    // Without these the iterator returns nothing, and user space reads `/proc`.
    if offset!(iter_meta_seq) == ABSENT || offset!(seq_file_private) == ABSENT || offset!(iter_task_tid) == ABSENT {
        return 0;
    }
    let seq = meta.follow(offset!(iter_meta_seq));
    // The verifier does not know the type behind this pointer.
    let state: u64 = seq.load(offset!(seq_file_private));
    let found = Task::from_typed(found);
    if read::<u32>(state, offset!(iter_task_tid)) != found.tgid() {
        return 0;
    }
    let Some(scratch) = RUNNING_SCRATCH.get_ptr_mut(0) else { return 0 };
    let record = scratch.cast::<Running>();
    // By address from here on: the verifier takes up to a millisecond for each pointer that it follows by type.
    let process = process_at(found.leader().address());
    // SAFETY: `scratch` points into a map that only this program uses. It is large enough for the record and what the cursor
    // appends. Any bytes are a record. The verifier knows `seq` by its type.
    unsafe {
        let boot_ns = bpf_ktime_get_boot_ns();
        (*record).header = Header { len: 0, kind: KIND_RUNNING, cpu: 0, seq: 0, boot_ns, rq_clock: 0 };
        (*record).task = identity_at(process.leader);
        (*record).parent = process.parent();
        (*record).ids = process.ids();
        (*record).comm = process.comm();
        let mut flags = match process.end() {
            End::None => 0,
            End::Under => RUNNING_ENDED,
            End::Zombie => RUNNING_ENDED | RUNNING_ZOMBIE,
            End::Gone => RUNNING_ENDED | RUNNING_GONE,
        };
        if process.is_kthread() {
            flags |= RUNNING_KTHREAD;
        }
        if process.mm == 0 {
            flags |= RUNNING_NO_MM;
        }
        let level = process.ns_level();
        (*record).ns_level = level;
        for i in 0..=MAX_NS_LEVEL {
            (*record).ns_pids[i] = if i as u32 <= level && level != 0 { process.pid_at_level(i as u32) } else { 0 };
        }
        // The cursor keeps its position in the record's length until the record is complete.
        let cursor = Cursor::new(scratch.cast(), &raw mut (*record).header.len, size_of::<Running>() as u32);
        ((*record).exe_state, (*record).cwd_state) = (FIELD_UNREADABLE, FIELD_UNREADABLE);
        let (exe, cwd) = (process.exe(), process.cwd());
        let at = cursor.at();
        if process.mm != 0 {
            (*record).exe_state = path::append(cursor, exe);
            if is_deleted(exe) {
                flags |= RUNNING_EXE_DELETED;
            }
        }
        (*record).exe_len = (cursor.at() - at) as u16;
        let at = cursor.at();
        if process.mm != 0 {
            (*record).cwd_state = path::append(cursor, cwd);
            if is_deleted(cwd) {
                flags |= RUNNING_CWD_DELETED;
            }
        }
        (*record).cwd_len = (cursor.at() - at) as u16;
        (*record).flags = flags;
        (*record).until_ns = bpf_ktime_get_boot_ns();
        // If the reader's buffer is full, the kernel calls the program again for this task.
        bpf_seq_write(seq.as_mut_ptr(), scratch.cast(), cursor.at());
    }
    0
}

/// Returns true if a dentry was removed from its hash chain. A root (or a memfd) was never on one.
#[inline(always)]
fn is_deleted(place: Place) -> bool {
    offset!(dentry_hash_pprev) != ABSENT
        && place.dentry != 0
        && read::<u64>(place.dentry, offset!(dentry_hash_pprev)) == 0
        && read::<u64>(place.dentry, offset!(dentry_parent)) != place.dentry
}
