//! tracer's kernel side: one small program per hook. Each writes one record (`tracer_common::record`) about its event
//! to the ring buffer.
//!
//! - `hook/`: one file per hook. A hook reads its own arguments and fills one record.
//! - `task/`: the only module that reads `task_struct` and the structures reached from it.
//! - `path.rs`: walks dentries and mounts. `cursor.rs`: the write position in a record.
//! - `filter.rs`: which processes are reported.
//! - `emit.rs`: the only module that touches the ring.
//! - `log.rs`: reports rare faults, in a second object.
//! - `kernel.rs`: constants from user space, and reads of kernel memory.
#![no_std]
#![no_main]
// No calls to `memset`: bpf-linker does not expand it, so it would be a second subprogram. In a program with one, verifiers
// up to 6.2 track every number exactly and do not merge the paths through a loop. (6.1 gave up after a million
// instructions.)
#![no_builtins]
#![allow(clippy::inline_always, reason = "a subprogram costs verifiers more than the same code in each program")]
#![allow(clippy::needless_pass_by_value, reason = "aya passes its contexts by value")]
#![allow(clippy::no_mangle_with_rust_abi, reason = "aya's macros declare the programs")]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a value would be copied to the stack, which has 512 bytes"
)]

mod cursor;
mod emit;
mod filter;
mod hook {
    mod cgroup;
    pub(crate) mod exec;
    mod exec_event;
    mod exec_failed;
    mod exit;
    mod fork;
    mod reap;
    mod running;
    mod signal;
}
mod kernel;
mod log;
mod maps;
mod path;
mod task;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that this is unreachable.
    loop {}
}

/// Only GPL-compatible programs may call `bpf_probe_read_kernel` and similar helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
