//! The only module that knows `task_struct` and what hangs on it: here what the verifier knows by type, in `address.rs` what
//! is known by its address alone.

mod address;
mod process;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use tracer_common::config::CGROUP_V2;
use tracer_common::limits::{COMM_LEN, MAX_REAPER_DEPTH};
use tracer_common::offsets::ABSENT;
use tracer_common::record::{ID_UNSET, Ids, TaskRef};

pub use self::address::{
    cgroup_at, current, current_identity, identity_at, identity_if_older, ids_at, namespaces_at, parent_at,
    process_name_at, real_parent_at,
};
pub use self::process::{End, process_at};
use crate::kernel::{Typed, config, offset, read};

/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `SIGNAL_GROUP_EXIT`, include/linux/sched/signal.h.
const SIGNAL_GROUP_EXIT: u32 = 4;
/// `PIDTYPE_PGID` and `PIDTYPE_SID`, include/linux/pid_types.h.
const PIDTYPE_PGID: u32 = 2;
const PIDTYPE_SID: u32 = 3;

/// A task the verifier knows by type.
#[derive(Clone, Copy)]
pub struct Task(pub Typed);

impl Task {
    #[inline(always)]
    pub fn new(task: *const u8) -> Self {
        Self(Typed(task))
    }

    /// The running task. Only from 5.11 on.
    #[inline(always)]
    pub fn running() -> Self {
        Self::new(unsafe { bpf_get_current_task_btf() }.cast())
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        unsafe { self.0.load(offset!(task_tgid)) }
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        unsafe { self.0.load(offset!(task_pid)) }
    }

    #[inline(always)]
    pub fn is_kthread(self) -> bool {
        unsafe { self.0.load::<u32>(offset!(task_flags)) & PF_KTHREAD != 0 }
    }

    #[inline(always)]
    pub fn leader(self) -> Self {
        Self(unsafe { self.0.follow(offset!(task_group_leader)) })
    }

    #[inline(always)]
    pub fn real_parent(self) -> Self {
        Self(unsafe { self.0.follow(offset!(task_real_parent)) })
    }

    #[inline(always)]
    pub fn signal(self) -> Typed {
        unsafe { self.0.follow(offset!(task_signal)) }
    }

    #[inline(always)]
    pub fn mm(self) -> Typed {
        unsafe { self.0.follow(offset!(task_mm)) }
    }

    #[inline(always)]
    pub fn fs(self) -> Typed {
        unsafe { self.0.follow(offset!(task_fs)) }
    }

    /// How often it, or one that it comes from, has exec'd.
    #[inline(always)]
    pub fn exec_id(self) -> u64 {
        unsafe { self.0.load(offset!(task_self_exec_id)) }
    }

    /// When it was created, by the boot clock.
    #[inline(always)]
    pub fn start_ns(self) -> u64 {
        unsafe { self.0.load(offset!(task_start_boottime)) }
    }

    /// Which process it belongs to, and which of its threads it is.
    #[inline(always)]
    pub fn identity(self) -> TaskRef {
        // A thread that is not the leader has a start of its own; the process started with its leader.
        let start_ns = unsafe { self.leader().0.load(offset!(task_start_boottime)) };
        TaskRef { start_ns, tgid: self.tgid(), tid: self.tid() }
    }

    /// Copies the name.
    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        let at = offset!(task_comm);
        // As two words: the verifier takes loads of a char array of any width that lies within it.
        let words: [u64; 2] = unsafe { [self.0.load(at), self.0.load(at + 8)] };
        // SAFETY: bytes have no invalid values, and the sizes are the same.
        unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(words) }
    }

    /// The name with nothing behind its end: before 5.17 the kernel leaves there what was (fs/exec.c, `__set_task_comm`).
    #[inline(always)]
    pub fn name(self) -> [u8; COMM_LEN] {
        // SAFETY: bytes have no invalid values, and the sizes are the same.
        let [first, second] = unsafe { core::mem::transmute::<[u8; COMM_LEN], [u64; 2]>(self.comm()) };
        let name = [before_nul(first), if has_nul(first) { 0 } else { before_nul(second) }];
        // SAFETY: as above.
        unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(name) }
    }

    #[inline(always)]
    pub fn cred(self) -> Typed {
        unsafe { self.0.follow(offset!(task_real_cred)) }
    }

    #[inline(always)]
    pub fn ids(self) -> Ids {
        let cred = self.cred();
        let signal = self.signal();
        let loginuid = offset!(task_loginuid);
        unsafe {
            Ids {
                uid: cred.load(offset!(cred_uid)),
                gid: cred.load(offset!(cred_gid)),
                euid: cred.load(offset!(cred_euid)),
                egid: cred.load(offset!(cred_egid)),
                loginuid: if loginuid == ABSENT { ID_UNSET } else { self.0.load(loginuid) },
                sid: pid_of_type(signal, PIDTYPE_SID),
                pgid: pid_of_type(signal, PIDTYPE_PGID),
                tty: tty(signal),
                cgroup: self.cgroup(),
                mnt_ns: 0,
                pid_ns: 0,
            }
        }
    }

    /// Real and effective user.
    #[inline(always)]
    pub fn users(self) -> [u32; 2] {
        let cred = self.cred();
        unsafe { [cred.load(offset!(cred_uid)), cred.load(offset!(cred_euid))] }
    }

    /// Its cgroup in the hierarchy that was chosen.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        if offset!(task_cgroups) == ABSENT {
            return 0;
        }
        unsafe {
            let set = self.0.follow(offset!(task_cgroups));
            let controller = config!(cgroup_subsys);
            if controller == CGROUP_V2 {
                if offset!(css_set_dfl_cgrp) == ABSENT {
                    return 0;
                }
                return cgroup_id(set.follow(offset!(css_set_dfl_cgrp)));
            }
            if offset!(css_set_subsys) == ABSENT || offset!(css_cgroup) == ABSENT {
                return 0;
            }
            cgroup_id(set.follow(offset!(css_set_subsys) + 8 * controller).follow(offset!(css_cgroup)))
        }
    }

    /// Number of its mount namespace.
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        if offset!(task_nsproxy) == ABSENT || offset!(nsproxy_mnt_ns) == ABSENT {
            return 0;
        }
        unsafe { self.0.follow(offset!(task_nsproxy)).follow(offset!(nsproxy_mnt_ns)).load(offset!(mnt_ns_inum)) }
    }

    /// Depth of its pid namespace, 0 for the initial one.
    #[inline(always)]
    pub fn ns_level(self) -> u32 {
        if offset!(task_thread_pid) == ABSENT {
            return 0;
        }
        unsafe { self.0.follow(offset!(task_thread_pid)).load(offset!(pid_level)) }
    }

    /// Address of its pid in the namespace of a level. As a number: to a typed pointer the verifiers up to 6.1 do
    /// not let a variable be added.
    #[inline(always)]
    fn upid(self, level: u32) -> u64 {
        let pid: u64 = read(self.0.address(), offset!(task_thread_pid));
        pid + u64::from(offset!(pid_numbers)) + u64::from(level) * u64::from(offset!(upid_size))
    }

    /// Its pid in the namespace of a level.
    #[inline(always)]
    pub fn pid_at_level(self, level: u32) -> u32 {
        read(self.upid(level), offset!(upid_nr))
    }

    /// Number of its pid namespace, which is of this level.
    #[inline(always)]
    pub fn pid_ns(self, level: u32) -> u32 {
        if offset!(upid_ns) == ABSENT {
            return 0;
        }
        read(read(self.upid(level), offset!(upid_ns)), offset!(pid_ns_inum))
    }

    /// The first process of its pid namespace, which is of this level.
    #[inline(always)]
    pub fn ns_init(self, level: u32) -> TaskRef {
        let namespace = read(self.upid(level), offset!(upid_ns));
        identity_at(read(namespace, offset!(pid_ns_child_reaper)))
    }

    /// The status that `wait()` reports of the whole process once its last thread is gone
    /// (kernel/exit.c, `wait_task_zombie`).
    #[inline(always)]
    pub fn group_status(self) -> u32 {
        let signal = self.signal();
        unsafe {
            if signal.load::<u32>(offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
                signal.load(offset!(signal_group_exit_code))
            } else {
                self.leader().0.load(offset!(task_exit_code))
            }
        }
    }

    /// True if a signal is the status of the whole process and yet none was delivered to it: the kernel ended its last
    /// thread directly (`do_exit(SIGKILL)` of strict seccomp, an oops). Before 5.17 this also holds for a process of one
    /// thread that unblocked a signal that was pending.
    #[inline(always)]
    pub fn ended_without_signal(self) -> bool {
        let flags: u32 = unsafe { self.signal().load(offset!(signal_flags)) };
        flags & SIGNAL_GROUP_EXIT == 0 && self.group_status() & 0x7f != 0
    }

    /// This thread's own exit code.
    #[inline(always)]
    pub fn thread_status(self) -> u32 {
        unsafe { self.0.load(offset!(task_exit_code)) }
    }

    /// The run queue of the CPU that the task runs on.
    #[inline(always)]
    pub fn run_queue(self) -> Typed {
        if offset!(task_cfs_rq) == ABSENT || offset!(cfs_rq_rq) == ABSENT {
            return Typed(core::ptr::null());
        }
        unsafe { self.0.follow(offset!(task_cfs_rq)).follow(offset!(cfs_rq_rq)) }
    }

    /// The scheduler's clock when it last looked, 0 if unknown.
    #[inline(always)]
    pub fn rq_clock(self) -> u64 {
        if offset!(task_cfs_rq) == ABSENT || offset!(cfs_rq_rq) == ABSENT {
            return 0;
        }
        unsafe { self.run_queue().load(offset!(rq_clock)) }
    }
}

/// The inode number of a cgroup's directory.
#[inline(always)]
pub fn cgroup_id(cgroup: Typed) -> u64 {
    if offset!(cgroup_kn) == ABSENT {
        return 0;
    }
    unsafe { cgroup.follow(offset!(cgroup_kn)).load(offset!(kernfs_node_id)) }
}

/// The pid of a session or process group, in the initial namespace.
#[inline(always)]
unsafe fn pid_of_type(signal: Typed, kind: u32) -> u32 {
    let pid = unsafe { signal.follow(offset!(signal_pids) + 8 * kind) };
    read(pid.address(), offset!(pid_numbers) + offset!(upid_nr))
}

/// Controlling terminal as (major << 20) | minor, 0 if none.
#[inline(always)]
unsafe fn tty(signal: Typed) -> u32 {
    if offset!(signal_tty) == ABSENT || offset!(tty_driver) == ABSENT {
        return 0;
    }
    unsafe {
        let tty = signal.follow(offset!(signal_tty));
        if tty.is_null() {
            return 0;
        }
        let driver = tty.follow(offset!(tty_driver));
        let major: u32 = driver.load(offset!(tty_driver_major));
        let first: u32 = driver.load(offset!(tty_driver_minor_start));
        let index: u32 = tty.load(offset!(tty_index));
        (major << 20) | (first + index)
    }
}

/// Who would inherit the children of a process that ends now.
pub struct Reaper {
    pub task: TaskRef,
    /// A child subreaper, not the namespace's init.
    pub subreaper: bool,
    /// The process is itself the namespace's init.
    pub is_self: bool,
    /// There are more ancestors than are looked at: it is not known.
    pub deep: bool,
}

/// As `find_new_reaper` (kernel/exit.c) once no thread of the process is left: the nearest living ancestor
/// in the same pid namespace that is a child subreaper, else the namespace's init.
#[inline(always)]
pub fn reaper(task: Task) -> Reaper {
    let none = Reaper { task: TaskRef::default(), subreaper: false, is_self: false, deep: false };
    let level = task.ns_level();
    'subreaper: {
        if !bit(task.signal(), offset!(signal_has_child_subreaper)) {
            break 'subreaper;
        }
        // By address, not by type: for each typed load the verifier looks through the members of the structure, which
        // times the depth took it half a second.
        let mut ancestor = task.real_parent().0.address();
        for _ in 0..MAX_REAPER_DEPTH {
            let pid: u64 = read(ancestor, offset!(task_thread_pid));
            let signal: u64 = read(ancestor, offset!(task_signal));
            let tgid: u32 = read(ancestor, offset!(task_tgid));
            // The idle task is the root of everything.
            if tgid == 0 || read::<u32>(pid, offset!(pid_level)) != level {
                break 'subreaper;
            }
            if is_child_subreaper(signal) && read::<u32>(signal, offset!(signal_live)) != 0 {
                return Reaper { task: identity_at(ancestor), subreaper: true, ..none };
            }
            ancestor = read(ancestor, offset!(task_real_parent));
        }
        return Reaper { deep: true, ..none };
    }
    if offset!(task_thread_pid) == ABSENT
        || offset!(upid_ns) == ABSENT
        || offset!(upid_size) == ABSENT
        || offset!(pid_ns_child_reaper) == ABSENT
    {
        return none;
    }
    let init = task.ns_init(level);
    Reaper { task: init, is_self: init.tgid == task.tgid(), ..none }
}

/// The top bit of each byte that is zero; of those behind the first such it may be set as well.
#[inline(always)]
const fn zeroes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[inline(always)]
const fn has_nul(word: u64) -> bool {
    zeroes(word) != 0
}

/// The bytes before the first that is zero, and zeroes. All of them if none is.
#[inline(always)]
const fn before_nul(word: u64) -> u64 {
    let first = zeroes(word) & zeroes(word).wrapping_neg();
    word & first.wrapping_sub(1)
}

#[inline(always)]
fn is_child_subreaper(signal: u64) -> bool {
    let bit = offset!(signal_is_child_subreaper);
    bit != ABSENT && read::<u8>(signal, bit / 8) >> (bit % 8) & 1 != 0
}

#[inline(always)]
fn bit(of: Typed, bit_offset: u32) -> bool {
    if bit_offset == ABSENT {
        return false;
    }
    let word: u8 = unsafe { of.load(bit_offset / 8) };
    word >> (bit_offset % 8) & 1 != 0
}
