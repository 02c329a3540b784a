//! A process by the address of its leader, even if the leader has exited.

use tracer_common::limits::{COMM_LEN, MAX_EXIT_THREADS};
use tracer_common::offsets::ABSENT;
use tracer_common::record::{ID_UNSET, Ids, TaskRef};

use super::address::{cgroup_at, ids_at, namespaces_at, parent_at};
use super::{PF_KTHREAD, PIDTYPE_PGID, PIDTYPE_SID};
use crate::kernel::{offset, read};
use crate::path::Place;

/// `EXIT_DEAD` and `EXIT_ZOMBIE`. Both are set while another process is reaping it.
/// <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/sched.h>
const EXIT_DEAD: u32 = 0x10;
const EXIT_ZOMBIE: u32 = 0x20;

/// A process.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    /// Its leader.
    pub(crate) leader: u64,
    signal: u64,
    /// A living thread, which has memory, directories and a cgroup. An exited leader has none.
    thread: u64,
    /// Its memory, 0 if it has none.
    pub(crate) mm: u64,
}

/// The stage of a process's exit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It lives.
    None,
    /// None of its threads lives.
    Under,
    /// It can be reaped.
    Zombie,
    /// It has been reaped.
    Gone,
}

/// Returns the process with this leader.
#[inline(always)]
pub(crate) fn process_at(leader: u64) -> Process {
    let signal: u64 = read(leader, offset!(task_signal));
    let mut process = Process { leader, signal, thread: leader, mm: read(leader, offset!(task_mm)) };
    if process.mm == 0 && offset!(signal_thread_head) != ABSENT && offset!(task_thread_node) != ABSENT {
        let head = signal + u64::from(offset!(signal_thread_head));
        let mut node: u64 = read(head, 0);
        for _ in 0..MAX_EXIT_THREADS {
            if node == head || node == 0 {
                break;
            }
            let thread = node - u64::from(offset!(task_thread_node));
            let mm: u64 = read(thread, offset!(task_mm));
            if mm != 0 {
                (process.thread, process.mm) = (thread, mm);
                break;
            }
            node = read(node, 0);
        }
    }
    process
}

impl Process {
    #[inline(always)]
    pub(crate) fn parent(self) -> TaskRef {
        parent_at(self.leader)
    }

    #[inline(always)]
    pub(crate) fn is_kthread(self) -> bool {
        read::<u32>(self.leader, offset!(task_flags)) & PF_KTHREAD != 0
    }

    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; COMM_LEN] {
        read(self.leader, offset!(task_comm))
    }

    /// Returns the stage of its exit. It lives also while a thread execs, and after its leader has exited.
    #[inline(always)]
    pub(crate) fn end(self) -> End {
        if read::<u32>(self.signal, offset!(signal_live)) != 0 {
            return End::None;
        }
        match read::<u32>(self.leader, offset!(task_exit_state)) {
            EXIT_DEAD => End::Gone,
            state if state & EXIT_ZOMBIE != 0 && read::<u32>(self.signal, offset!(signal_nr_threads)) <= 1 => {
                End::Zombie
            }
            _ => End::Under,
        }
    }

    /// Returns the depth of its pid namespace, 0 for the initial one.
    #[inline(always)]
    pub(crate) fn ns_level(self) -> u32 {
        if offset!(task_thread_pid) == ABSENT || offset!(upid_size) == ABSENT {
            return 0;
        }
        read(read(self.leader, offset!(task_thread_pid)), offset!(pid_level))
    }

    /// Returns its pid in the namespace of a level.
    #[inline(always)]
    pub(crate) fn pid_at_level(self, level: u32) -> u32 {
        let pid: u64 = read(self.leader, offset!(task_thread_pid));
        let upid = pid + u64::from(offset!(pid_numbers)) + u64::from(level) * u64::from(offset!(upid_size));
        read(upid, offset!(upid_nr))
    }

    #[inline(always)]
    pub(crate) fn ids(self) -> Ids {
        let [uid, gid, euid, egid] = ids_at(self.leader);
        let [mnt_ns, pid_ns] = namespaces_at(self.thread);
        let loginuid = offset!(task_loginuid);
        Ids {
            uid,
            gid,
            euid,
            egid,
            loginuid: if loginuid == ABSENT { ID_UNSET } else { read(self.leader, loginuid) },
            sid: self.pid_of_type(PIDTYPE_SID),
            pgid: self.pid_of_type(PIDTYPE_PGID),
            tty: self.tty(),
            cgroup: cgroup_at(self.thread),
            mnt_ns,
            pid_ns,
        }
    }

    #[inline(always)]
    fn pid_of_type(self, kind: u32) -> u32 {
        let pid: u64 = read(self.signal, offset!(signal_pids) + 8 * kind);
        if pid == 0 { 0 } else { read(pid, offset!(pid_numbers) + offset!(upid_nr)) }
    }

    /// Returns the controlling terminal as (major << 20) | minor, 0 if none.
    #[inline(always)]
    fn tty(self) -> u32 {
        if offset!(signal_tty) == ABSENT || offset!(tty_driver) == ABSENT {
            return 0;
        }
        let tty: u64 = read(self.signal, offset!(signal_tty));
        if tty == 0 {
            return 0;
        }
        let driver: u64 = read(tty, offset!(tty_driver));
        let (major, first): (u32, u32) =
            (read(driver, offset!(tty_driver_major)), read(driver, offset!(tty_driver_minor_start)));
        (major << 20) | (first + read::<u32>(tty, offset!(tty_index)))
    }

    /// Returns its executable.
    #[inline(always)]
    pub(crate) fn exe(self) -> Place {
        let file: u64 = if self.mm == 0 { 0 } else { read(self.mm, offset!(mm_exe_file)) };
        if file == 0 {
            return Place::UNKNOWN;
        }
        Place { mount: read(file, offset!(file_mnt)), dentry: read(file, offset!(file_dentry)) }
    }

    /// Returns its working directory.
    #[inline(always)]
    pub(crate) fn cwd(self) -> Place {
        let fs: u64 = read(self.thread, offset!(task_fs));
        if fs == 0 {
            return Place::UNKNOWN;
        }
        Place { mount: read(fs, offset!(fs_pwd_mnt)), dentry: read(fs, offset!(fs_pwd_dentry)) }
    }
}
