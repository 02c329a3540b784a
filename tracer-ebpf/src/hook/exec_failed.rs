//! Failed `execve` and `execveat`, on request: their path, their arguments and the error.
//!
//! Two kinds of hook make the same record. User space uses the first that the kernel allows:
//! - fexit on the functions of the two system calls, which slows nothing else down;
//! - the tracepoints `syscalls:sys_exit_execve` and `sys_exit_execveat`, which put *every* system call of the machine
//!   on the slow path.
//!
//! A failed exec leaves its caller unchanged, so path and arguments are read at the end, through the saved registers.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use tracer_common::limits::{
    EXEC_HEAD_BYTES, FAILED_ARG_BYTES, FAILED_ARGS, FAILED_ARGV_BYTES, FULL_FOR_REST, PATH_BYTES,
};
use tracer_common::record::{
    DIRFD_CWD, ExecFailed, FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE, KIND_EXEC_FAILED, KIND_EXECAT_FAILED,
};

use crate::cursor::Cursor;
use crate::emit;
use crate::filter;
use crate::kernel::{PASS_ON, config, constant, read, read_user};
use crate::maps::EXEC_FAILED_SCRATCH;
use crate::task;

/// Highest error that a program can see. Higher ones are internal to the kernel (such as `ERESTARTSYS`): the call is
/// restarted and has not failed. <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/errno.h>
const LAST_ERRNO: i64 = 511;

/// Offset of the result in `struct syscall_trace_exit`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/trace/trace.h>
const RESULT: usize = 16;

/// Indexes of the arguments of execve and execveat.
const EXECVE_FILENAME: usize = 0;
const EXECVEAT_FILENAME: usize = 1;
const EXECVEAT_FLAGS: usize = 4;

const _: () = assert!(size_of::<ExecFailed>() + PATH_BYTES + FAILED_ARGV_BYTES as usize <= EXEC_HEAD_BYTES);

#[fexit]
fn execve_failed(ctx: FExitContext) -> i32 {
    execve(argument_of_function(&ctx), ctx.arg::<i64>(1))
}

#[fexit]
fn execveat_failed(ctx: FExitContext) -> i32 {
    execveat(argument_of_function(&ctx), ctx.arg::<i64>(1))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn execve_exit(event: *mut c_void) -> u32 {
    execve(registers(), result(event));
    PASS_ON
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn execveat_exit(event: *mut c_void) -> u32 {
    execveat(registers(), result(event));
    PASS_ON
}

/// Returns the only argument of the function, the registers. It is read as a number. The verifier of 5.10 refuses to load an
/// argument whose type BTF only declares: that is so for execveat there ("type FWD is not a struct").
#[inline(always)]
fn argument_of_function(ctx: &FExitContext) -> u64 {
    read(ctx.as_ptr() as u64, 0)
}

/// Returns the registers with which the running task entered the kernel. Both helpers exist since 5.15.
#[inline(always)]
fn registers() -> u64 {
    // SAFETY: the helpers return and take a pointer to the running task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
}

#[inline(always)]
fn result(event: *mut c_void) -> i64 {
    // SAFETY: it is within the event, whose size the verifier knows.
    unsafe { read_volatile(event.cast::<u8>().add(RESULT).cast()) }
}

#[inline(always)]
fn execve(registers: u64, result: i64) -> i32 {
    report::<KIND_EXEC_FAILED, EXECVE_FILENAME>(registers, result)
}

#[inline(always)]
fn execveat(registers: u64, result: i64) -> i32 {
    report::<KIND_EXECAT_FAILED, EXECVEAT_FILENAME>(registers, result)
}

/// Returns an argument of the system call.
#[inline(always)]
fn argument(registers: u64, index: usize) -> u64 {
    read(registers, constant(&crate::kernel::CONFIG.syscall_args[index]))
}

/// Reports a failed exec. The path is the argument `FILENAME`, and argv the next one.
#[inline(always)]
fn report<const KIND: u16, const FILENAME: usize>(registers: u64, result: i64) -> i32 {
    if !(-LAST_ERRNO..0).contains(&result) {
        return 0;
    }
    let current = task::current();
    let who = task::identity_at(current);
    if !filter::admits_at(current, who.tgid) {
        return 0;
    }
    let Some(scratch) = EXEC_FAILED_SCRATCH.get_ptr_mut(u32::from(KIND == KIND_EXECAT_FAILED)) else { return 0 };
    let Some((header, counters)) = emit::header(KIND, 0, 0) else { return 0 };
    if emit::is_full_for(emit::used(), FULL_FOR_REST) {
        counters.lost(KIND);
        return 0;
    }
    let record = scratch.cast::<ExecFailed>();
    let buffer = scratch.cast::<u8>();
    // SAFETY: `scratch` points to an entry of a per-CPU map that only this program uses. It is large enough for the record
    // and what the cursor appends. Any bytes are a record.
    unsafe {
        (*record).header = header;
        (*record).task = who;
        (*record).parent = task::parent_at(current);
        let [uid, gid, euid, egid] = task::ids_at(current);
        ((*record).uid, (*record).gid, (*record).euid, (*record).egid) = (uid, gid, euid, egid);
        (*record).errno = -result as u32;
        (*record).dirfd = DIRFD_CWD;
        (*record).at_flags = 0;
        if KIND == KIND_EXECAT_FAILED {
            (*record).dirfd = argument(registers, 0) as i32;
            (*record).at_flags = argument(registers, EXECVEAT_FLAGS) as u32;
        }
        // The cursor keeps its position in the record's length until the record is complete.
        let cursor = Cursor::new(buffer, &raw mut (*record).header.len, size_of::<ExecFailed>() as u32);
        let at = cursor.at();
        (*record).filename_state = cursor.user_string(argument(registers, FILENAME), PATH_BYTES);
        (*record).filename_len = (cursor.at() - at) as u16;
        argv(record, cursor, argument(registers, FILENAME + 1));
        let len = u64::from(cursor.at());
        if !emit::output(buffer, len as usize) {
            counters.lost(KIND);
        }
    }
    0
}

/// Appends the arguments one by one, since they are scattered over the program's memory. Null is an empty list.
///
/// # Safety
/// `record` is the one that the cursor appends to.
#[inline(always)]
unsafe fn argv(record: *mut ExecFailed, cursor: Cursor, list: u64) {
    let start = cursor.at();
    let mut limit = config!(argv_max);
    if limit > FAILED_ARGV_BYTES {
        limit = FAILED_ARGV_BYTES;
    }
    // In memory, not in registers: see `Cursor`.
    // SAFETY: the caller guarantees that the record is valid.
    let (state, count) = unsafe { (&raw mut (*record).argv_state, &raw mut (*record).argc) };
    // SAFETY: as above.
    unsafe {
        write_volatile(count, 0);
        write_volatile(state, if list == 0 { FIELD_COMPLETE } else { FIELD_CUT });
        if list != 0 {
            for i in 0..FAILED_ARGS {
                let Some(from) = read_user::<u64>(list + 8 * u64::from(i)) else {
                    write_volatile(state, FIELD_UNREADABLE);
                    break;
                };
                if from == 0 {
                    write_volatile(state, FIELD_COMPLETE);
                    break;
                }
                write_volatile(count, i + 1);
                let read = cursor.user_string(from, FAILED_ARG_BYTES);
                if read != FIELD_COMPLETE {
                    write_volatile(state, read);
                    break;
                }
                if cursor.at() - start > limit {
                    break;
                }
            }
        }
        let mut captured = cursor.at() - start;
        if captured > limit {
            captured = limit;
            write_volatile(state, FIELD_CUT);
        }
        (*record).argv_captured = captured;
        cursor.move_to(start + captured);
    }
}
