//! The image of a process: its executable, its arguments, its working directory.

use tracer_common::offsets::ABSENT;
use tracer_common::record::{EXEC_DELETED, EXEC_INTERNAL_MOUNT, Exec};

use super::Task;
use crate::kernel::{Typed, offset, read};
use crate::path::Place;

/// `MNT_INTERNAL`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/mount.h>
const MNT_INTERNAL: u32 = 0x4000;

/// The image of a process.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    mm: Typed,
    file: Typed,
}

impl Task {
    #[inline(always)]
    pub(crate) fn image(self) -> Image {
        let mm = self.0.follow(offset!(task_mm));
        Image { mm, file: mm.follow(offset!(mm_exe_file)) }
    }

    /// Returns the working directory.
    #[inline(always)]
    pub(crate) fn cwd(self) -> Place {
        if offset!(task_fs) == ABSENT {
            return Place::UNKNOWN;
        }
        let fs = self.0.follow(offset!(task_fs));
        Place { mount: fs.load(offset!(fs_pwd_mnt)), dentry: fs.load(offset!(fs_pwd_dentry)) }
    }

    /// Writes the ids from before the exec that has just set this image, and returns whether it gained capabilities. The
    /// task opened the file with the credentials that it had before the exec ([`do_open_execat`]). An open file keeps
    /// them.
    ///
    /// An interpreter of binfmt_misc with flag `F` is an exception. It was opened when it was registered, with the credentials
    /// of that task. An exec changes neither real ids nor supplementary groups, so credentials that differ in these belong to
    /// another task. Then the real ids are used as the effective ids before the exec.
    ///
    /// # Safety
    /// `record` is valid for writes.
    ///
    /// [`do_open_execat`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/exec.c
    #[inline(always)]
    pub(crate) unsafe fn before_exec(self, image: Image, record: *mut Exec) -> bool {
        let new = self.cred();
        // SAFETY: the caller guarantees that the pointer is valid.
        unsafe {
            (*record).old_euid = new.load(offset!(cred_euid));
            (*record).old_egid = new.load(offset!(cred_egid));
        }
        if offset!(mm_exe_file) == ABSENT || offset!(file_cred) == ABSENT {
            return false;
        }
        let old = image.file.follow(offset!(file_cred));
        if old.is_null() {
            return false;
        }
        let (uid, gid): (u32, u32) = (new.load(offset!(cred_uid)), new.load(offset!(cred_gid)));
        let groups = |cred: Typed| cred.follow(offset!(cred_group_info)).address();
        let own = old.load::<u32>(offset!(cred_uid)) == uid
            && old.load::<u32>(offset!(cred_gid)) == gid
            && groups(old) == groups(new);
        let has: u64 = read(new.address(), offset!(cred_cap_permitted));
        // SAFETY: as above.
        let had: u64 = unsafe {
            if own {
                (*record).old_euid = old.load(offset!(cred_euid));
                (*record).old_egid = old.load(offset!(cred_egid));
                read(old.address(), offset!(cred_cap_permitted))
            } else {
                (*record).old_euid = uid;
                (*record).old_egid = gid;
                // Root had all of them. Other users keep the ambient ones, and get the rest from the file.
                if uid == 0 { has } else { read(new.address(), offset!(cred_cap_ambient)) }
            }
        };
        has & !had != 0
    }
}

impl Image {
    /// Returns true if the process has a memory map.
    #[inline(always)]
    pub(crate) fn is_there(self) -> bool {
        !self.mm.is_null()
    }

    /// Returns where the executable is, and `EXEC_*` bits about it.
    #[inline(always)]
    pub(crate) fn executable(self) -> (Place, u32) {
        // To the verifier a constant null is no pointer, and a read through it is refused.
        if offset!(mm_exe_file) == ABSENT || offset!(file_mnt) == ABSENT || offset!(file_dentry) == ABSENT {
            return (Place::UNKNOWN, 0);
        }
        let mut flags = 0;
        let (mount, dentry) = (self.file.follow(offset!(file_mnt)), self.file.follow(offset!(file_dentry)));
        if mount.load::<u32>(offset!(vfsmount_flags)) & MNT_INTERNAL != 0 {
            flags |= EXEC_INTERNAL_MOUNT;
        }
        // A dentry that was removed from its hash chain is unlinked. A root (or a memfd) was never on one.
        if dentry.load::<u64>(offset!(dentry_hash_pprev)) == 0
            && offset!(dentry_hash_pprev) != ABSENT
            && dentry.follow(offset!(dentry_parent)).address() != dentry.address()
        {
            flags |= EXEC_DELETED;
        }
        (Place { mount: mount.address(), dentry: dentry.address() }, flags)
    }

    /// Returns the address of the arguments in its memory, and their length in bytes.
    #[inline(always)]
    pub(crate) fn arguments(self) -> (u64, u64) {
        let from: u64 = self.mm.load(offset!(mm_arg_start));
        let until: u64 = self.mm.load(offset!(mm_arg_end));
        (from, until.saturating_sub(from))
    }

    /// Returns the start of its stack.
    #[inline(always)]
    pub(crate) fn stack(self) -> u64 {
        self.mm.load(offset!(mm_start_stack))
    }
}
