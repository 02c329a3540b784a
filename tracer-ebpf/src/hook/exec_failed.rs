//! `execve` and `execveat` that fail, on request: what was asked for, and why the kernel refused.
//!
//! Two ways to the same record, of which user space takes the first that the kernel allows:
//! - fexit on the system calls' own functions, which costs nobody else anything;
//! - the tracepoints `syscalls:sys_exit_execve` and `sys_exit_execveat`, which put *every* system call of the machine
//!   on the slow path.
//!
//! A failed exec leaves its caller as it was: path and arguments are where the registers point, read when it is over.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use core::slice;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_user, bpf_probe_read_user_str, bpf_task_pt_regs,
};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use tracer_common::limits::{
    EXEC_HEAD_BYTES, FAILED_ARG_BYTES, FAILED_ARGS, FAILED_ARGV_BYTES, FULL_FOR_REST, PATH_BYTES,
};
use tracer_common::record::{
    DIRFD_CWD, ExecFailed, FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE, KIND_EXEC_FAILED, KIND_EXECAT_FAILED,
};

use crate::emit;
use crate::filter;
use crate::kernel::{config, constant, read};
use crate::maps::{EVENTS, EXEC_FAILED_SCRATCH};
use crate::path::Cursor;
use crate::task;

/// Highest error a program can be given. Those above are the kernel's own (`ERESTARTSYS` and its like,
/// include/linux/errno.h): the call begins anew, and has not failed.
const LAST_ERRNO: i64 = 511;

/// Where `struct syscall_trace_exit` has the result (kernel/trace/trace.h).
const RESULT: usize = 16;

/// Arguments of execve and execveat, in their order.
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
    emit::PASS_ON
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
fn execveat_exit(event: *mut c_void) -> u32 {
    execveat(registers(), result(event));
    emit::PASS_ON
}

/// The only argument of the function, which is the registers. Read as a number: the verifier of 5.10 lets nobody load an
/// argument whose type BTF only declares, as it does there for execveat ("type FWD is not a struct").
#[inline(always)]
fn argument_of_function(ctx: &FExitContext) -> u64 {
    read(ctx.as_ptr() as u64, 0)
}

/// The registers with which the running task came into the kernel. Both helpers are there from 5.15 on.
#[inline(always)]
fn registers() -> u64 {
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
}

#[inline(always)]
fn result(event: *mut c_void) -> i64 {
    // SAFETY: it lies within the event; the verifier knows its size.
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

/// An argument of the system call.
#[inline(always)]
fn argument(registers: u64, index: usize) -> u64 {
    read(registers, constant(&raw const crate::kernel::CONFIG.syscall_args[index]))
}

/// The path is the argument `FILENAME`; argv comes next.
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
    let Some((header, stats)) = emit::header(KIND, 0, 0) else { return 0 };
    if emit::is_full_for(emit::used(), FULL_FOR_REST) {
        emit::lost(stats, KIND);
        return 0;
    }
    let record = scratch.cast::<ExecFailed>();
    let buffer = scratch.cast::<u8>();
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
        // The record's own length serves as the cursor's place until the record is done.
        let cursor = Cursor::new(buffer, &raw mut (*record).header.len, size_of::<ExecFailed>() as u32);
        let at = cursor.at();
        (*record).filename_state = string(cursor, argument(registers, FILENAME), PATH_BYTES);
        (*record).filename_len = (cursor.at() - at) as u16;
        argv(record, cursor, argument(registers, FILENAME + 1));
        let len = u64::from(cursor.at());
        if EVENTS.output::<[u8]>(slice::from_raw_parts(buffer, len as usize), emit::wake_up()).is_err() {
            emit::lost(stats, KIND);
        }
    }
    0
}

/// Appends the arguments, one by one: they lie where the program has them. Null stands for an empty list.
#[inline(always)]
unsafe fn argv(record: *mut ExecFailed, cursor: Cursor, list: u64) {
    let start = cursor.at();
    let mut limit = config!(argv_max);
    if limit > FAILED_ARGV_BYTES {
        limit = FAILED_ARGV_BYTES;
    }
    // In memory, not in registers: see `Cursor`.
    let (state, count) = unsafe { (&raw mut (*record).argv_state, &raw mut (*record).argc) };
    unsafe {
        write_volatile(count, 0);
        write_volatile(state, if list == 0 { FIELD_COMPLETE } else { FIELD_CUT });
        if list != 0 {
            for i in 0..FAILED_ARGS {
                let mut from = 0u64;
                let at = (list + 8 * u64::from(i)) as *const c_void;
                if bpf_probe_read_user((&raw mut from).cast(), 8, at) != 0 {
                    write_volatile(state, FIELD_UNREADABLE);
                    break;
                }
                if from == 0 {
                    write_volatile(state, FIELD_COMPLETE);
                    break;
                }
                write_volatile(count, i + 1);
                let read = string(cursor, from, FAILED_ARG_BYTES);
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

/// Appends a string of the program with its NUL. Returns how complete it is.
#[inline(always)]
fn string(cursor: Cursor, from: u64, room: usize) -> u8 {
    let written = unsafe { bpf_probe_read_user_str(cursor.next(), room as u32, from as *const c_void) };
    if written < 0 {
        return FIELD_UNREADABLE;
    }
    if written == 0 {
        // An empty string, of which older kernels do not count the NUL (seen on 5.10 and 6.1):
        // strncpy_from_user_nofault in https://github.com/torvalds/linux/blob/v6.1/mm/maccess.c
        unsafe { write_volatile(cursor.next().cast::<u8>(), 0) };
        cursor.advance(1);
        return FIELD_COMPLETE;
    }
    cursor.advance(written as u32);
    if written as usize == room { FIELD_CUT } else { FIELD_COMPLETE }
}
