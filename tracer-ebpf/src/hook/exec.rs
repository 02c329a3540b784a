//! `sched_process_exec(task, old_pid, bprm)`: [`exec_binprm`], when the new image is in place.
//!
//! On kernels that skip preempted programs (Linux 7), the hook is the trace event instead: `exec_event.rs`.
//!
//! [`exec_binprm`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/exec.c

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::{
    ARGV_CLASSES, ARGV_STAGED_BYTES, EXEC_HEAD_BYTES, FULL_FOR_ARGV, FULL_FOR_PATHS, FULL_FOR_REST, INTERPRETER_BYTES,
    PATH_BYTES,
};
use tracer_common::record::{
    EXEC_CAPS_GAINED, EXEC_NO_MM, Exec, FIELD_COMPLETE, FIELD_CUT, FIELD_DEGRADED, FIELD_UNREADABLE, KIND_EXEC,
};

use crate::cursor::Cursor;
use crate::emit::{self, Counters};
use crate::filter;
use crate::kernel::{Typed, config, offset};
use crate::log;
use crate::maps::EXEC_SCRATCH;
use crate::path;
use crate::task::Task;

const TASK: usize = 0;
const OLD_TID: usize = 1;
const BPRM: usize = 2;

/// Bounds the fixed part and the paths for the verifier.
const HEAD_MASK: u64 = EXEC_HEAD_BYTES as u64 - 1;
const _: () = assert!(size_of::<Exec>() + 3 * PATH_BYTES + INTERPRETER_BYTES < EXEC_HEAD_BYTES);

#[btf_tracepoint(function = "sched_process_exec")]
fn exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    if !filter::admits_exec(task) {
        return 0;
    }
    let bprm = Typed::new(ctx.arg::<*const u8>(BPRM));
    let filename: u64 = bprm.load(offset!(binprm_filename));
    let request = Request { old_tid: ctx.arg::<u64>(OLD_TID) as u32, argc: bprm.load(offset!(binprm_argc)), filename };
    report(task, &request, || {
        // The pointers differ if a handler such as binfmt_script has set another program.
        let interpreter: u64 = bprm.load(offset!(binprm_interp));
        if interpreter == filename { NO_INTERPRETER } else { interpreter }
    });
    0
}

/// Stands for the address of the interpreter's path if there is none.
pub(crate) const NO_INTERPRETER: u64 = 0;

/// The arguments of `execve`.
pub(crate) struct Request {
    /// The calling thread.
    pub(crate) old_tid: u32,
    /// Number of arguments.
    pub(crate) argc: u32,
    /// Address of the path as given.
    pub(crate) filename: u64,
}

/// Reports the exec that `task` has just done. The address of the interpreter's path is read late. Otherwise the verifier
/// would check all code in between again for each path to an address.
#[inline(always)]
pub(crate) fn report(task: Task, request: &Request, interpreter: impl FnOnce() -> u64) {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    let Some((header, counters)) = emit::header(KIND_EXEC, 0, task.rq_clock()) else { return };
    let used = emit::used();
    if emit::is_full_for(used, FULL_FOR_REST) {
        counters.lost(KIND_EXEC);
        return;
    }
    let record = scratch.cast::<Exec>();
    // SAFETY: `scratch` points into a per-CPU map that only this program uses. It is large enough for the record and what
    // the cursor appends. Any bytes are a record. The arguments of `submit` meet its conditions.
    unsafe {
        (*record).header = header;
        (*record).task = task.identity();
        (*record).task.tid = request.old_tid;
        (*record).parent = task.real_parent().identity();
        (*record).ids = task.ids();
        (*record).ids.mnt_ns = task.mnt_ns();
        (*record).comm = task.comm();
        (*record).argc = request.argc;
        let image = task.image();
        let mut flags = if task.before_exec(image, record) { EXEC_CAPS_GAINED } else { 0 };
        // The cursor keeps its position in the record's length until the record is complete.
        let cursor = Cursor::new(scratch.cast(), &raw mut (*record).header.len, size_of::<Exec>() as u32);
        if !image.is_there() {
            flags |= EXEC_NO_MM;
        }
        let (exe, bits) = image.executable();
        flags |= bits;
        (*record).exe_state = FIELD_DEGRADED;
        (*record).exe_len = 0;
        (*record).cwd_state = FIELD_DEGRADED;
        (*record).cwd_len = 0;
        if emit::is_full_for(used, FULL_FOR_PATHS) {
            counters.paths_degraded();
        } else {
            let at = cursor.at();
            (*record).exe_state = path::append(cursor, exe);
            (*record).exe_len = (cursor.at() - at) as u16;

            let at = cursor.at();
            (*record).cwd_state = path::append(cursor, task.cwd());
            (*record).cwd_len = (cursor.at() - at) as u16;
        }

        let at = cursor.at();
        (*record).filename_state = cursor.kernel_string(request.filename, PATH_BYTES);
        (*record).filename_len = (cursor.at() - at) as u16;

        (*record).interp_len = 0;
        (*record).interp_state = FIELD_COMPLETE;
        let interpreter = interpreter();
        if interpreter != NO_INTERPRETER {
            let at = cursor.at();
            (*record).interp_state = cursor.kernel_string(interpreter, INTERPRETER_BYTES);
            (*record).interp_len = (cursor.at() - at) as u16;
        }
        (*record).flags = flags;

        let (argv, bytes) = image.arguments();
        submit(record, u64::from(cursor.at()), argv, bytes, used, counters);
        log::exec(record);
    }
}

/// Adds argv and submits the record: staged with its exact size if argv is small, otherwise reserved by size class.
///
/// Lengths are u64 throughout. With u32 the compiler would bound a zero-extended copy. The verifier would not
/// know that the original is bounded too.
///
/// # Safety
/// `record` is an [`ExecScratch`](crate::maps::ExecScratch) whose first `head` bytes are written.
#[inline(always)]
unsafe fn submit(record: *mut Exec, head: u64, argv: u64, bytes: u64, used: u64, counters: Counters) {
    let limit = u64::from(config!(argv_max));
    let want = if bytes > limit { limit } else { bytes };
    // SAFETY: the caller guarantees that the record is valid.
    unsafe {
        (*record).argv_bytes = bytes as u32;
        (*record).argv_state = if want < bytes { FIELD_CUT } else { FIELD_COMPLETE };
        // As the ring fills, long argv are truncated and marked first, before any record is lost.
        let room = if emit::is_full_for(used, FULL_FOR_PATHS) { 0 } else { ARGV_STAGED_BYTES as u64 };
        if emit::is_full_for(used, FULL_FOR_ARGV) && want > room {
            (*record).argv_state = FIELD_DEGRADED;
            if staged(record, head, argv, room) {
                counters.argv_degraded();
            } else {
                counters.lost(KIND_EXEC);
            }
            return;
        }
        if want <= ARGV_STAGED_BYTES as u64 {
            if staged(record, head, argv, want) {
                return;
            }
        } else {
            // From the smallest fitting class downwards: a shorter argv is better than no exec at all.
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
            counters.argv_degraded();
        } else {
            counters.lost(KIND_EXEC);
        }
    }
}

/// Appends a small argv and copies the whole record into the ring. Returns false if it does not fit.
///
/// # Safety
/// As for [`submit`].
#[inline(always)]
unsafe fn staged(record: *mut Exec, head: u64, argv: u64, want: u64) -> bool {
    // SAFETY: the caller guarantees that the record is valid. Its scratch has space for `ARGV_STAGED_BYTES` after the head.
    // The helper takes any address to read from.
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
        emit::output(buffer, len as usize)
    }
}

/// Copies argv from user memory directly into a reserved record of one size class. Returns false if `want` fits
/// a smaller class (at most `below`), or if the ring has no space.
///
/// # Safety
/// As for [`submit`].
#[inline(always)]
unsafe fn reserved<const ROOM: usize>(record: *mut Exec, head: u64, argv: u64, want: u64, below: usize) -> bool {
    if want <= below as u64 {
        return false;
    }
    let Some(mut entry) = emit::reserve_bytes(EXEC_HEAD_BYTES + ROOM) else { return false };
    let to = entry.start();
    // SAFETY: the caller guarantees that the record is valid. The reserved one has space for the largest head and `ROOM`
    // more bytes. The helpers take any address to read from.
    unsafe {
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
    }
    entry.submit();
    true
}
