//! Paths as the kernel itself would print them from outside: from the root of the mount namespace, across mounts.
//!
//! The same walk as `prepend_path` (fs/d_path.c), without its retry on a concurrent rename.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use tracer_common::limits::{EXEC_HEAD_BYTES, NAME_BYTES, PATH_BYTES, PATH_DEPTH};
use tracer_common::offsets::ABSENT;
use tracer_common::record::{FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE};

use crate::kernel::{offset, read};

/// Where the next byte goes in a record that is being put together.
///
/// It lives in memory, not in a register: what the verifier loads from a map is just some number, so the many
/// ways through the walks below all look alike to it after each step. Kept in a register, and later part of a length
/// that has to be known exactly, it made the verifier follow each way by itself (6.18: 505,000 instructions
/// instead of 20,000).
#[derive(Clone, Copy)]
pub struct Cursor {
    buffer: *mut u8,
    at: *mut u32,
}

impl Cursor {
    /// A cursor over `buffer` that keeps its place in `at`, starting there.
    ///
    /// # Safety
    /// `buffer` has room for `EXEC_HEAD_BYTES` and the largest single write more; `at` lies in a map.
    #[inline(always)]
    pub unsafe fn new(buffer: *mut u8, at: *mut u32, start: u32) -> Self {
        unsafe { write_volatile(at, start) };
        Self { buffer, at }
    }

    /// How much is written.
    #[inline(always)]
    pub fn at(self) -> u32 {
        // SAFETY: it lies in a map.
        unsafe { read_volatile(self.at) & (EXEC_HEAD_BYTES as u32 - 1) }
    }

    /// Where the next byte goes.
    #[inline(always)]
    pub fn next(self) -> *mut c_void {
        // SAFETY: the mask keeps it within the buffer.
        unsafe { self.buffer.add(self.at() as usize).cast() }
    }

    /// So many bytes were written.
    #[inline(always)]
    pub fn advance(self, bytes: u32) {
        self.move_to(self.at() + bytes);
    }

    /// The next byte goes here.
    #[inline(always)]
    pub fn move_to(self, at: u32) {
        unsafe { write_volatile(self.at, at) };
    }
}

/// What names a file or directory: a mount, and a name in what is mounted. 0 if unknown.
#[derive(Clone, Copy)]
pub struct Place {
    pub mount: u64,
    pub dentry: u64,
}

/// Appends the components of a path, innermost first, each with its NUL. Returns how complete it is.
#[inline(always)]
pub fn append(cursor: Cursor, mut mount: u64, mut dentry: u64) -> u8 {
    // Only a mount tells where it is mounted.
    if mount == 0 || dentry == 0 || offset!(mount_mnt) == ABSENT {
        return FIELD_UNREADABLE;
    }
    let start = cursor.at();
    let mut root: u64 = read(mount, offset!(vfsmount_root));
    // A constant trip count: the verifiers of 5.10 and 6.1 refuse a loop whose bound is known only at run time.
    for _ in 0..PATH_DEPTH {
        if dentry == root {
            // Top of this mount: go on where it is mounted, until a mount is its own parent.
            let this = mount - u64::from(offset!(mount_mnt));
            let parent: u64 = read(this, offset!(mount_parent));
            if parent == this || parent == 0 {
                return FIELD_COMPLETE;
            }
            dentry = read(this, offset!(mount_mountpoint));
            mount = parent + u64::from(offset!(mount_mnt));
            root = read(mount, offset!(vfsmount_root));
            continue;
        }
        let (parent, name) = parent_and_name(dentry);
        let written = unsafe { bpf_probe_read_kernel_str(cursor.next(), NAME_BYTES as u32, name as *const c_void) };
        if written <= 0 {
            return FIELD_UNREADABLE;
        }
        cursor.advance(written as u32);
        // A dentry that is its own parent but no mount's root has no place in the tree: a memfd, a pipe.
        if parent == dentry {
            return FIELD_COMPLETE;
        }
        if cursor.at() - start > (PATH_BYTES - NAME_BYTES) as u32 {
            return FIELD_CUT;
        }
        dentry = parent;
    }
    FIELD_CUT
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
