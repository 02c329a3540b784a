//! tracer's kernel side: one small program per hook. Each turns what the kernel shows into one record
//! (`tracer_common::record`) in the ring buffer.
//!
//! - `hook/`: one file per hook: what it reads, and into which record. A hook reads its own arguments and nothing else.
//! - `task/`: the only module that reads `task_struct` and the structures that are reached from it.
//! - `path.rs`: walks dentries and mounts. `cursor.rs`: where the next byte of a record goes.
//! - `filter.rs`: which processes are reported.
//! - `emit.rs`: the only module that touches the ring.
//! - `log.rs`: reports rare faults, in a second object.
//! - `kernel.rs`: constants from user space, and reads of kernel memory.
#![no_std]
#![no_main]
// No calls to `memset`: bpf-linker does not expand it, so it would be a second subprogram. Up to 6.2 the verifier tracks
// every number exactly in a program that has one, and does not merge the ways through a loop (6.1 gave up after a million
// instructions).
#![no_builtins]

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
    // The verifier proves that it is never reached.
    loop {}
}

/// `bpf_probe_read_kernel` and its like are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
