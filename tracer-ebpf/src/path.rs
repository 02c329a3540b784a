//! Paths as the kernel itself would print them from outside: from the root of the mount namespace, across mounts.
//!
//! The same walk as `prepend_path` (fs/d_path.c), without its retry on a concurrent rename.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use tracer_common::limits::{EXEC_HEAD_BYTES, NAME_BYTES, PATH_BYTES, PATH_DEPTH};
use tracer_common::record::{FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE};

use crate::kernel::{offset, read};

/// Bounds an index into the scratch space for the verifier; it is never that large.
pub const INDEX_MASK: u32 = EXEC_HEAD_BYTES as u32 - 1;

/// Appends the components of a path, innermost first, each with its NUL, to `buffer` at `start`.
/// Returns where it ended and how complete it is.
///
/// # Safety
/// `buffer` has room for `INDEX_MASK` + [`NAME_BYTES`] bytes.
#[inline(always)]
pub unsafe fn append(buffer: *mut u8, start: u32, mut mount: u64, mut dentry: u64) -> (u32, u8) {
    if mount == 0 || dentry == 0 {
        return (start, FIELD_UNREADABLE);
    }
    let mut at = start;
    let mut root: u64 = read(mount, offset!(vfsmount_root));
    // A constant trip count: the verifiers of 5.10 and 6.1 refuse a loop whose bound is known only at run time.
    for _ in 0..PATH_DEPTH {
        if dentry == root {
            // Top of this mount: go on where it is mounted, until a mount is its own parent.
            let this = mount - u64::from(offset!(mount_mnt));
            let parent: u64 = read(this, offset!(mount_parent));
            if parent == this || parent == 0 {
                return (at, FIELD_COMPLETE);
            }
            dentry = read(this, offset!(mount_mountpoint));
            mount = parent + u64::from(offset!(mount_mnt));
            root = read(mount, offset!(vfsmount_root));
            continue;
        }
        let (parent, name) = parent_and_name(dentry);
        let written =
            unsafe { bpf_probe_read_kernel_str(buffer.add((at & INDEX_MASK) as usize).cast(), NAME_BYTES as u32, name as *const _) };
        if written <= 0 {
            return (at, FIELD_UNREADABLE);
        }
        at += written as u32 & 0x1ff;
        // A dentry that is its own parent but no mount's root has no place in the tree: a memfd, a pipe.
        if parent == dentry {
            return (at, FIELD_COMPLETE);
        }
        if at - start > (PATH_BYTES - NAME_BYTES) as u32 {
            return (at, FIELD_CUT);
        }
        dentry = parent;
    }
    (at, FIELD_CUT)
}

/// `d_parent` and `d_name.name`. They lie side by side in every kernel so far, so one read gets both.
#[inline(always)]
fn parent_and_name(dentry: u64) -> (u64, u64) {
    let (parent_at, name_at) = (offset!(dentry_parent), offset!(dentry_name));
    if name_at == parent_at + 16 {
        let [parent, _, name]: [u64; 3] = read(dentry, parent_at);
        return (parent, name);
    }
    (read(dentry, parent_at), read(dentry, name_at))
}
