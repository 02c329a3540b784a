//! `sched_process_exec(task, old_pid, bprm)`: fs/exec.c, `exec_binprm`, when the new image is in place.
//!
//! Where a program there can be preempted, and passed over (Linux 7), it is taken as a trace event: `exec_event.rs`.

use core::ffi::c_void;
use core::slice;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::{
    ARGV_CLASSES, ARGV_STAGED_BYTES, EXEC_HEAD_BYTES, FULL_FOR_ARGV, FULL_FOR_PATHS, FULL_FOR_REST, INTERPRETER_BYTES,
    PATH_BYTES,
};
use tracer_common::offsets::ABSENT;
use tracer_common::record::{
    EXEC_CAPS_GAINED, EXEC_DELETED, EXEC_INTERNAL_MOUNT, EXEC_NO_MM, Exec, FIELD_COMPLETE, FIELD_CUT, FIELD_DEGRADED,
    FIELD_UNREADABLE, KIND_EXEC,
};
use tracer_common::stats::CpuStats;

use crate::emit;
use crate::filter;
use crate::kernel::{Typed, config, offset, read};
use crate::maps::{EVENTS, EXEC_SCRATCH};
use crate::path::{self, Cursor};
use crate::task::Task;

const TASK: usize = 0;
const OLD_TID: usize = 1;
const BPRM: usize = 2;

/// `MNT_INTERNAL`, include/linux/mount.h.
const MNT_INTERNAL: u32 = 0x4000;

/// Bounds the fixed part and the paths for the verifier.
const HEAD_MASK: u64 = EXEC_HEAD_BYTES as u64 - 1;
const _: () = assert!(size_of::<Exec>() + 3 * PATH_BYTES + INTERPRETER_BYTES < EXEC_HEAD_BYTES);

#[btf_tracepoint(function = "sched_process_exec")]
fn exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    if !filter::admits_exec(task) {
        return 0;
    }
    let bprm = Typed(ctx.arg::<*const u8>(BPRM));
    let filename: u64 = unsafe { bprm.load(offset!(binprm_filename)) };
    let asked =
        Asked { old_tid: ctx.arg::<u64>(OLD_TID) as u32, argc: unsafe { bprm.load(offset!(binprm_argc)) }, filename };
    report(task, &asked, || {
        // The same pointer unless a handler such as binfmt_script put another program in.
        let interpreter: u64 = unsafe { bprm.load(offset!(binprm_interp)) };
        if interpreter == filename { NO_INTERPRETER } else { interpreter }
    });
    0
}

/// Instead of the address of an interpreter's path.
pub const NO_INTERPRETER: u64 = 0;

/// What was asked for, from wherever the program has it.
pub struct Asked {
    /// The thread that asked.
    pub old_tid: u32,
    /// How many arguments there are.
    pub argc: u32,
    /// Address of the path as given.
    pub filename: u64,
}

/// Tells the exec that `task` has just done. The address of the interpreter's path is asked for late: the verifier would
/// look through all that comes between once more for each way that leads to one.
#[inline(always)]
pub fn report(task: Task, asked: &Asked, interpreter: impl FnOnce() -> u64) {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    let Some((header, stats)) = emit::header(KIND_EXEC, 0, task.rq_clock()) else { return };
    let used = emit::used();
    if emit::is_full_for(used, FULL_FOR_REST) {
        emit::lost(stats, KIND_EXEC);
        return;
    }
    let record = scratch.cast::<Exec>();
    let buffer = scratch.cast::<u8>();
    unsafe {
        (*record).header = header;
        (*record).task = task.identity();
        (*record).task.tid = asked.old_tid;
        (*record).parent = task.real_parent().identity();
        (*record).ids = task.ids();
        (*record).ids.mnt_ns = task.mnt_ns();
        (*record).comm = task.comm();
        (*record).argc = asked.argc;
        let mm = task.mm();
        let file = mm.follow(offset!(mm_exe_file));
        let mut flags = credentials(record, task, file);
        // The record's own length serves as the cursor's place until the record is done.
        let cursor = Cursor::new(buffer, &raw mut (*record).header.len, size_of::<Exec>() as u32);
        if mm.is_null() {
            flags |= EXEC_NO_MM;
        }
        // A constant null is no pointer to the verifier: nothing may be read through it.
        let (mut mount, mut dentry) = (0, 0);
        if offset!(mm_exe_file) != ABSENT && offset!(file_mnt) != ABSENT && offset!(file_dentry) != ABSENT {
            let (typed_mount, typed_dentry) = (file.follow(offset!(file_mnt)), file.follow(offset!(file_dentry)));
            if typed_mount.load::<u32>(offset!(vfsmount_flags)) & MNT_INTERNAL != 0 {
                flags |= EXEC_INTERNAL_MOUNT;
            }
            // A name that was taken off its hash chain is gone; a root (or a memfd) was never on one.
            if typed_dentry.load::<u64>(offset!(dentry_hash_pprev)) == 0
                && offset!(dentry_hash_pprev) != ABSENT
                && typed_dentry.follow(offset!(dentry_parent)).address() != typed_dentry.address()
            {
                flags |= EXEC_DELETED;
            }
            (mount, dentry) = (typed_mount.address(), typed_dentry.address());
        }
        (*record).exe_state = FIELD_DEGRADED;
        (*record).exe_len = 0;
        (*record).cwd_state = FIELD_DEGRADED;
        (*record).cwd_len = 0;
        if emit::is_full_for(used, FULL_FOR_PATHS) {
            (*stats).paths_degraded += 1;
        } else {
            let at = cursor.at();
            (*record).exe_state = path::append(cursor, mount, dentry);
            (*record).exe_len = (cursor.at() - at) as u16;

            let (mut mount, mut dentry) = (0, 0);
            if offset!(task_fs) != ABSENT {
                let fs = task.fs();
                (mount, dentry) = (fs.load(offset!(fs_pwd_mnt)), fs.load(offset!(fs_pwd_dentry)));
            }
            let at = cursor.at();
            (*record).cwd_state = path::append(cursor, mount, dentry);
            (*record).cwd_len = (cursor.at() - at) as u16;
        }

        let at = cursor.at();
        (*record).filename_state = string(cursor, asked.filename, PATH_BYTES);
        (*record).filename_len = (cursor.at() - at) as u16;

        (*record).interp_len = 0;
        (*record).interp_state = FIELD_COMPLETE;
        let interpreter = interpreter();
        if interpreter != NO_INTERPRETER {
            let at = cursor.at();
            (*record).interp_state = string(cursor, interpreter, INTERPRETER_BYTES);
            (*record).interp_len = (cursor.at() - at) as u16;
        }
        (*record).flags = flags;

        let from: u64 = mm.load(offset!(mm_arg_start));
        let until: u64 = mm.load(offset!(mm_arg_end));
        submit(record, u64::from(cursor.at()), from, until.saturating_sub(from), used, stats);
    }
}

/// Ids before, and whether capabilities were gained. The new image's file was opened by the task with the
/// credentials it had before the exec (fs/exec.c, `do_open_execat`), and an open file keeps them.
///
/// Not so an interpreter of binfmt_misc with flag `F`: that was opened when it was registered, with the credentials of the
/// task that did that. An exec changes neither real ids nor supplementary groups, so credentials that differ in these are
/// another's. Then the effective ids before the exec are taken to be the real ones.
#[inline(always)]
unsafe fn credentials(record: *mut Exec, task: Task, file: Typed) -> u32 {
    unsafe {
        let new = task.cred();
        (*record).old_euid = new.load(offset!(cred_euid));
        (*record).old_egid = new.load(offset!(cred_egid));
        if offset!(mm_exe_file) == ABSENT || offset!(file_cred) == ABSENT {
            return 0;
        }
        let old = file.follow(offset!(file_cred));
        if old.is_null() {
            return 0;
        }
        let (uid, gid): (u32, u32) = (new.load(offset!(cred_uid)), new.load(offset!(cred_gid)));
        let groups = |cred: Typed| cred.follow(offset!(cred_group_info)).address();
        let own = old.load::<u32>(offset!(cred_uid)) == uid
            && old.load::<u32>(offset!(cred_gid)) == gid
            && groups(old) == groups(new);
        let has: u64 = read(new.address(), offset!(cred_cap_permitted));
        let had: u64 = if own {
            (*record).old_euid = old.load(offset!(cred_euid));
            (*record).old_egid = old.load(offset!(cred_egid));
            read(old.address(), offset!(cred_cap_permitted))
        } else {
            (*record).old_euid = uid;
            (*record).old_egid = gid;
            // Root had them all. Others keep those that are ambient, and get the rest from the file.
            if uid == 0 { has } else { read(new.address(), offset!(cred_cap_ambient)) }
        };
        if has & !had != 0 { EXEC_CAPS_GAINED } else { 0 }
    }
}

/// Appends a string of the kernel with its NUL. Returns how complete it is.
#[inline(always)]
fn string(cursor: Cursor, from: u64, room: usize) -> u8 {
    let written = unsafe { bpf_probe_read_kernel_str(cursor.next(), room as u32, from as *const c_void) };
    if written <= 0 {
        return FIELD_UNREADABLE;
    }
    cursor.advance(written as u32);
    if written as usize == room { FIELD_CUT } else { FIELD_COMPLETE }
}

/// Adds argv and hands the record over: staged and exact when argv is small, reserved by class when not.
///
/// Lengths are u64 all the way: of a u32 the compiler would bound a zero-extended copy, and the verifier
/// not know that the original is bounded too.
#[inline(always)]
unsafe fn submit(record: *mut Exec, head: u64, argv: u64, bytes: u64, used: u64, stats: *mut CpuStats) {
    let limit = u64::from(config!(argv_max));
    let want = if bytes > limit { limit } else { bytes };
    unsafe {
        (*record).argv_bytes = bytes as u32;
        (*record).argv_state = if want < bytes { FIELD_CUT } else { FIELD_COMPLETE };
        // As the ring fills, long argv are cut first, and told, while nothing is lost yet.
        let room = if emit::is_full_for(used, FULL_FOR_PATHS) { 0 } else { ARGV_STAGED_BYTES as u64 };
        if emit::is_full_for(used, FULL_FOR_ARGV) && want > room {
            (*record).argv_state = FIELD_DEGRADED;
            if staged(record, head, argv, room) {
                (*stats).argv_degraded += 1;
            } else {
                emit::lost(stats, KIND_EXEC);
            }
            return;
        }
        if want <= ARGV_STAGED_BYTES as u64 {
            if staged(record, head, argv, want) {
                return;
            }
        } else {
            // From the smallest class that holds it downwards: rather a shorter argv than no exec at all.
            if reserved::<{ ARGV_CLASSES[3] }>(record, head, argv, want, ARGV_CLASSES[2])
                || reserved::<{ ARGV_CLASSES[2] }>(record, head, argv, want, ARGV_CLASSES[1])
                || reserved::<{ ARGV_CLASSES[1] }>(record, head, argv, want, ARGV_CLASSES[0])
                || reserved::<{ ARGV_CLASSES[0] }>(record, head, argv, want, ARGV_STAGED_BYTES)
            {
                return;
            }
        }
        (*record).argv_state = FIELD_DEGRADED;
        if staged(record, head, argv, 0) {
            (*stats).argv_degraded += 1;
        } else {
            emit::lost(stats, KIND_EXEC);
        }
    }
}

/// Puts a small argv behind the rest and copies the whole into the ring.
#[inline(always)]
unsafe fn staged(record: *mut Exec, head: u64, argv: u64, want: u64) -> bool {
    unsafe {
        let buffer = record.cast::<u8>();
        let head = head & HEAD_MASK;
        let mut captured = want;
        if captured > ARGV_STAGED_BYTES as u64 {
            captured = ARGV_STAGED_BYTES as u64;
        }
        let to = buffer.add(head as usize);
        if captured != 0 && bpf_probe_read_user(to.cast(), captured as u32, argv as *const c_void) != 0 {
            captured = 0;
            (*record).argv_state = FIELD_UNREADABLE;
        }
        (*record).argv_captured = captured as u32;
        let len = head + captured;
        (*record).header.len = len as u32;
        EVENTS.output::<[u8]>(slice::from_raw_parts(buffer, len as usize), emit::wake_up()).is_ok()
    }
}

/// Copies argv from user memory straight into a reserved record of one class. False if the class does not
/// fit (`want` belongs to a smaller one: more than `below` are wanted in this) or the ring has no room.
#[inline(always)]
unsafe fn reserved<const ROOM: usize>(record: *mut Exec, head: u64, argv: u64, want: u64, below: usize) -> bool {
    if want <= below as u64 {
        return false;
    }
    let Some(mut entry) = EVENTS.reserve_bytes(EXEC_HEAD_BYTES + ROOM, 0) else { return false };
    unsafe {
        let to = entry.as_mut_ptr();
        let head = head & HEAD_MASK;
        let mut captured = want;
        if captured > ROOM as u64 {
            captured = ROOM as u64;
            (*record).argv_state = FIELD_DEGRADED;
        }
        if bpf_probe_read_user(to.add(head as usize).cast(), captured as u32, argv as *const c_void) != 0 {
            captured = 0;
            (*record).argv_state = FIELD_UNREADABLE;
        }
        (*record).argv_captured = captured as u32;
        (*record).header.len = (head + captured) as u32;
        bpf_probe_read_kernel(to.cast(), head as u32, record.cast());
        entry.submit(emit::wake_up());
    }
    true
}
