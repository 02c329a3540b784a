//! Paths as the kernel prints them without a chroot: from the root of the mount namespace, across mounts.
//!
//! The same walk as [`prepend_path`], without its retry after a concurrent rename.
//!
//! [`prepend_path`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/d_path.c

use tracer_common::limits::{NAME_BYTES, PATH_BYTES, PATH_DEPTH};
use tracer_common::offsets::ABSENT;
use tracer_common::record::{FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE};

use crate::cursor::Cursor;
use crate::kernel::{offset, read};

/// The location of a file: its mount and its dentry.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Address of the `struct vfsmount`; 0 if unknown.
    pub(crate) mount: u64,
    /// Address of the `struct dentry`; 0 if unknown.
    pub(crate) dentry: u64,
}

impl Place {
    pub(crate) const UNKNOWN: Self = Self { mount: 0, dentry: 0 };
}

/// Appends the components of a path, innermost first, each with its NUL. Returns how complete it is.
#[inline(always)]
pub(crate) fn append(cursor: Cursor, location: Place) -> u8 {
    let Place { mut mount, mut dentry } = location;
    // Only the enclosing `struct mount` contains the mount point.
    if mount == 0 || dentry == 0 || offset!(mount_mnt) == ABSENT {
        return FIELD_UNREADABLE;
    }
    let start = cursor.at();
    let mut root: u64 = read(mount, offset!(vfsmount_root));
    // A constant trip count: the verifiers of 5.10 and 6.1 refuse a loop with a bound from run time.
    for _ in 0..PATH_DEPTH {
        if dentry == root {
            // Top of this mount: continue at its mount point, until a mount is its own parent.
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
        if !cursor.append(name, NAME_BYTES) {
            return FIELD_UNREADABLE;
        }
        // A memfd or a pipe is not in the tree: its dentry is its own parent, but not the root of a mount.
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

/// Reads `d_parent` and `d_name.name`. They are close together in every kernel so far, so one read gets both.
#[inline(always)]
fn parent_and_name(dentry: u64) -> (u64, u64) {
    let (parent_at, name_at) = (offset!(dentry_parent), offset!(dentry_name));
    if name_at == parent_at + 16 {
        let [parent, _, name]: [u64; 3] = read(dentry, parent_at);
        return (parent, name);
    }
    (read(dentry, parent_at), read(dentry, name_at))
}
