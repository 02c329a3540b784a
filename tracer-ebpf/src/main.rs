//! tracer's kernel side: one small program per hook, each turning what the kernel shows into one record
//! (`tracer_common::record`) in the ring buffer.
//!
//! - `hook/`: one file a hook: what is read, and into which record.
//! - `kernel.rs`: the constants handed over at load time, and loads at their offsets.
//! - `task.rs`, `task/`: the only module that knows `task_struct` and what hangs on it.
//! - `path.rs`: walks dentries and mounts.
//! - `emit.rs`: the only file that touches the ring: reserves, numbers, submits, and counts what found no room.
#![no_std]
#![no_main]
// No calls to `memset`: bpf-linker does not expand it, so it would be a second subprogram, and up to 6.2 the verifier
// takes every number of a program that has one for exact, and does not merge the ways through a loop (6.1
// gave up after a million instructions).
#![no_builtins]

mod emit;
mod filter;
mod hook {
    mod cgroup;
    pub mod exec;
    mod exec_event;
    mod exec_failed;
    mod exit;
    mod fork;
    mod reap;
    mod running;
    mod signal;
}
mod kernel;
mod maps;
mod path;
mod task;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that it is never reached.
    loop {}
}

/// `bpf_probe_read_kernel` and its like are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
