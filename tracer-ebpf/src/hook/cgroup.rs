//! `cgroup_mkdir(cgrp, path)`, `cgroup_attach_task(dst_cgrp, path, task, threadgroup)`, `cgroup_rmdir(cgrp, path)`:
//! [`cgroup.c`] and, for v1, [`cgroup-v1.c`]. Only v1 has `cgroup_rename(cgrp, path)`.
//!
//! A cgroup is reported before its directory can be opened (`cgroup_mkdir`, before `kernfs_activate`). So no process
//! can be in it yet. Only cgroups of one hierarchy are reported. v1 has many, and container managers create a cgroup in each.
//!
//! [`cgroup.c`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/cgroup/cgroup.c
//! [`cgroup-v1.c`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/cgroup/cgroup-v1.c

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::limits::CGROUP_PATH_BYTES;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{
    CGROUP_JOINED, CGROUP_MADE, CGROUP_REMOVED, CGROUP_RENAMED, Cgroup, CgroupRoom, KIND_CGROUP, TaskRef,
};

use crate::emit;
use crate::filter;
use crate::kernel::{Typed, config, offset, read};
use crate::task::{Task, cgroup_id, current_identity};

const CGROUP: usize = 0;
const PATH: u32 = 1;
const TASK: usize = 2;
const THREADGROUP: usize = 3;

#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    if !is_of_hierarchy(&ctx) {
        return 0;
    }
    // This comes before the record: when user space reads that, it may remove the cgroup again.
    filter::cgroup_made(cgroup_id(Typed::new(ctx.arg::<*const u8>(CGROUP))));
    report(&ctx, CGROUP_MADE, current_identity())
}

#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const u8>(TASK));
    // A thread may be in another cgroup than its process (v1 `tasks`, threaded v2). The process has the leader's cgroup.
    let whole = ctx.arg::<u64>(THREADGROUP) & 1 != 0 || task.tid() == task.tgid();
    if !whole
        || !is_of_hierarchy(&ctx)
        || !filter::admits_move(task, cgroup_id(Typed::new(ctx.arg::<*const u8>(CGROUP))))
    {
        return 0;
    }
    report(&ctx, CGROUP_JOINED, task.identity())
}

#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    if !is_of_hierarchy(&ctx) {
        return 0;
    }
    report(&ctx, CGROUP_REMOVED, current_identity())
}

/// Hit after the rename (`cgroup1_rename`), with the new path.
#[btf_tracepoint(function = "cgroup_rename")]
fn cgroup_rename(ctx: BtfTracePointContext) -> i32 {
    if !is_of_hierarchy(&ctx) {
        return 0;
    }
    report(&ctx, CGROUP_RENAMED, current_identity())
}

/// Returns true if the cgroup is in the chosen hierarchy.
#[inline(always)]
fn is_of_hierarchy(ctx: &BtfTracePointContext) -> bool {
    let cgroup = Typed::new(ctx.arg::<*const u8>(CGROUP));
    if offset!(cgroup_root) == ABSENT || offset!(cgroup_root_hierarchy) == ABSENT {
        return false;
    }
    let hierarchy: u32 = cgroup.follow(offset!(cgroup_root)).load(offset!(cgroup_root_hierarchy));
    hierarchy == config!(cgroup_hierarchy)
}

/// Reports a cgroup. The four programs never interrupt each other: the kernel calls them under a spinlock for the path.
#[inline(always)]
fn report(ctx: &BtfTracePointContext, deed: u32, task: TaskRef) -> i32 {
    let cgroup = Typed::new(ctx.arg::<*const u8>(CGROUP));
    if let Some((mut entry, mut header)) = emit::reserve::<CgroupRoom>(KIND_CGROUP, size_of::<Cgroup>() as u32, 0) {
        let record = entry.fields();
        // SAFETY: the record is reserved, and has space for the longest path. User space reads nothing after its length. The
        // helper takes any address to read from.
        unsafe {
            // Read as a number: the verifier of 5.10 accepts only pointers to structures as arguments.
            let path: u64 = read(ctx.as_ptr() as u64, 8 * PATH);
            let to = (&raw mut (*record).path).cast::<c_void>();
            let mut written = bpf_probe_read_kernel_str(to, CGROUP_PATH_BYTES as u32, path as *const c_void);
            if written < 0 {
                written = 0;
            }
            header.len += written as u32;
            (*record).cgroup.header = header;
            (*record).cgroup.id = cgroup_id(cgroup);
            (*record).cgroup.task = task;
            (*record).cgroup.action = deed;
            (*record).cgroup.path_len = written as u32;
        }
        entry.submit();
    }
    0
}
