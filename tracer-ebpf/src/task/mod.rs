//! The only module that reads `task_struct` and the structures reached from it.
//!
//! - here: tasks as pointers that the verifier knows by type;
//! - `address.rs`: tasks that are known only by their address;
//! - `image.rs`: the image of a process: its executable, its arguments, its working directory;
//! - `process.rs`: a process by the address of its leader, for the iterator;
//! - `usage.rs`: the resource usage of a process;
//! - `reaper.rs`: the process that inherits the children of an exiting one.

mod address;
mod image;
mod process;
mod reaper;
mod usage;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use tracer_common::config::CGROUP_V2;
use tracer_common::limits::COMM_LEN;
use tracer_common::offsets::ABSENT;
use tracer_common::record::{ID_UNSET, Ids, TaskRef};

pub(crate) use self::address::{
    cgroup_at, current, current_identity, identity_at, identity_if_older, ids_at, namespaces_at, parent_at,
    process_name_at, real_parent_at,
};
pub(crate) use self::process::{End, process_at};
pub(crate) use self::reaper::reaper;
pub(crate) use self::usage::{usage_of_group, usage_of_thread};
use crate::kernel::{Typed, config, offset, read};

/// `PF_KTHREAD`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/sched.h>
const PF_KTHREAD: u32 = 0x0020_0000;
/// `SIGNAL_GROUP_EXIT`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/sched/signal.h>
const SIGNAL_GROUP_EXIT: u32 = 4;
/// `PIDTYPE_PGID` and `PIDTYPE_SID`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/pid_types.h>
const PIDTYPE_PGID: u32 = 2;
const PIDTYPE_SID: u32 = 3;

/// A task that the verifier knows by type.
#[derive(Clone, Copy)]
pub(crate) struct Task(Typed);

impl Task {
    #[inline(always)]
    pub(crate) fn new(task: *const u8) -> Self {
        Self(Typed::new(task))
    }

    #[inline(always)]
    pub(crate) fn from_typed(task: Typed) -> Self {
        Self(task)
    }

    /// Returns the running task. Only since 5.11.
    #[inline(always)]
    pub(crate) fn running() -> Self {
        // SAFETY: the helper takes no argument.
        Self::new(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// Returns its address, which another task may get once this one is freed.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0.address()
    }

    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        self.0.load(offset!(task_tgid))
    }

    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        self.0.load(offset!(task_pid))
    }

    #[inline(always)]
    pub(crate) fn is_kthread(self) -> bool {
        self.0.load::<u32>(offset!(task_flags)) & PF_KTHREAD != 0
    }

    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        Self(self.0.follow(offset!(task_group_leader)))
    }

    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(self.0.follow(offset!(task_real_parent)))
    }

    #[inline(always)]
    fn signal(self) -> Typed {
        self.0.follow(offset!(task_signal))
    }

    /// Returns how often it or the ancestors it was copied from have exec'd.
    #[inline(always)]
    pub(crate) fn exec_id(self) -> u64 {
        self.0.load(offset!(task_self_exec_id))
    }

    /// Returns when it was created, by the boot clock.
    #[inline(always)]
    pub(crate) fn start_ns(self) -> u64 {
        self.0.load(offset!(task_start_boottime))
    }

    /// Returns its process and its thread.
    #[inline(always)]
    pub(crate) fn identity(self) -> TaskRef {
        // A thread other than the leader has its own start time. The process started with its leader.
        let start_ns = self.leader().0.load(offset!(task_start_boottime));
        TaskRef { start_ns, tgid: self.tgid(), tid: self.tid() }
    }

    /// Returns the comm.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; COMM_LEN] {
        let at = offset!(task_comm);
        // As two words: the verifier accepts loads of any width within a char array.
        let words: [u64; 2] = [self.0.load(at), self.0.load(at + 8)];
        // SAFETY: bytes have no invalid values, and the sizes are the same.
        unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(words) }
    }

    /// Returns the comm with zeroes after its end. Kernels before 5.17 leave the rest of the old name there (`__set_task_comm`):
    /// <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/fs/exec.c>
    #[inline(always)]
    pub(crate) fn name(self) -> [u8; COMM_LEN] {
        // SAFETY: any bytes are two words, and the sizes are the same.
        let [first, second] = unsafe { core::mem::transmute::<[u8; COMM_LEN], [u64; 2]>(self.comm()) };
        let name = [before_nul(first), if has_nul(first) { 0 } else { before_nul(second) }];
        // SAFETY: any words are bytes, and the sizes are the same.
        unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(name) }
    }

    #[inline(always)]
    fn cred(self) -> Typed {
        self.0.follow(offset!(task_real_cred))
    }

    #[inline(always)]
    pub(crate) fn ids(self) -> Ids {
        let cred = self.cred();
        let signal = self.signal();
        let loginuid = offset!(task_loginuid);
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

    /// Returns the real and the effective user.
    #[inline(always)]
    pub(crate) fn users(self) -> [u32; 2] {
        let cred = self.cred();
        [cred.load(offset!(cred_uid)), cred.load(offset!(cred_euid))]
    }

    /// Returns its cgroup in the chosen hierarchy.
    #[inline(always)]
    pub(crate) fn cgroup(self) -> u64 {
        if offset!(task_cgroups) == ABSENT {
            return 0;
        }
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

    /// Returns the number of its mount namespace.
    #[inline(always)]
    pub(crate) fn mnt_ns(self) -> u32 {
        if offset!(task_nsproxy) == ABSENT || offset!(nsproxy_mnt_ns) == ABSENT {
            return 0;
        }
        self.0.follow(offset!(task_nsproxy)).follow(offset!(nsproxy_mnt_ns)).load(offset!(mnt_ns_inum))
    }

    /// Returns the depth of its pid namespace, 0 for the initial one.
    #[inline(always)]
    pub(crate) fn ns_level(self) -> u32 {
        if offset!(task_thread_pid) == ABSENT {
            return 0;
        }
        self.0.follow(offset!(task_thread_pid)).load(offset!(pid_level))
    }

    /// Returns the address of its pid in the namespace of a level. It is a number, because verifiers up to 6.1 refuse
    /// to add a variable to a typed pointer.
    #[inline(always)]
    fn upid(self, level: u32) -> u64 {
        let pid: u64 = read(self.0.address(), offset!(task_thread_pid));
        pid + u64::from(offset!(pid_numbers)) + u64::from(level) * u64::from(offset!(upid_size))
    }

    /// Returns its pid in the namespace of a level.
    #[inline(always)]
    pub(crate) fn pid_at_level(self, level: u32) -> u32 {
        read(self.upid(level), offset!(upid_nr))
    }

    /// Returns the number of its pid namespace, which has this level.
    #[inline(always)]
    pub(crate) fn pid_ns(self, level: u32) -> u32 {
        if offset!(upid_ns) == ABSENT {
            return 0;
        }
        read(read(self.upid(level), offset!(upid_ns)), offset!(pid_ns_inum))
    }

    /// Returns the init of its pid namespace, which has this level.
    #[inline(always)]
    pub(crate) fn ns_init(self, level: u32) -> TaskRef {
        let namespace = read(self.upid(level), offset!(upid_ns));
        identity_at(read(namespace, offset!(pid_ns_child_reaper)))
    }

    /// Returns true once the last thread of its process has begun to exit.
    #[inline(always)]
    pub(crate) fn is_group_dead(self) -> bool {
        self.signal().load::<u32>(offset!(signal_live)) == 0
    }

    /// Returns true if the OOM killer has chosen its process.
    #[inline(always)]
    pub(crate) fn is_oom_victim(self) -> bool {
        !self.signal().follow(offset!(signal_oom_mm)).is_null()
    }

    /// Returns the status that `wait()` reports for the process once its last thread is gone ([`wait_task_zombie`]).
    ///
    /// [`wait_task_zombie`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/exit.c
    #[inline(always)]
    pub(crate) fn group_status(self) -> u32 {
        let signal = self.signal();
        if signal.load::<u32>(offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
            signal.load(offset!(signal_group_exit_code))
        } else {
            self.leader().0.load(offset!(task_exit_code))
        }
    }

    /// Returns true if the status of the process is a signal that was not delivered to it. Then the kernel ended its last
    /// thread directly (`do_exit(SIGKILL)` of strict seccomp, an oops). Before 5.17 this is also true for a process with
    /// one thread that unblocked a pending signal. Since 6.0 it is never true.
    #[inline(always)]
    pub(crate) fn ended_without_signal(self) -> bool {
        let flags: u32 = self.signal().load(offset!(signal_flags));
        flags & SIGNAL_GROUP_EXIT == 0 && self.group_status() & 0x7f != 0
    }

    /// Returns the exit code of this thread.
    #[inline(always)]
    pub(crate) fn thread_status(self) -> u32 {
        self.0.load(offset!(task_exit_code))
    }

    /// Returns its handler of a signal: the address of a function, `SIG_IGN` (1), or `SIG_DFL` (0).
    #[inline(always)]
    pub(crate) fn handler(self, signal: u32) -> u64 {
        if offset!(task_sighand) == ABSENT || offset!(sighand_action) == ABSENT || offset!(k_sigaction_size) == ABSENT {
            return 0;
        }
        let sighand = self.0.follow(offset!(task_sighand));
        let entry = u64::from(offset!(sighand_action)) + u64::from(signal - 1) * u64::from(offset!(k_sigaction_size));
        read(sighand.address() + entry, offset!(k_sigaction_handler))
    }

    /// Returns the scheduler clock at which its runtime was last updated.
    #[inline(always)]
    pub(crate) fn exec_start(self) -> u64 {
        self.0.load(offset!(task_exec_start))
    }

    /// Returns the run queue of the CPU that the task runs on.
    #[inline(always)]
    fn run_queue(self) -> Typed {
        if offset!(task_cfs_rq) == ABSENT || offset!(cfs_rq_rq) == ABSENT {
            return Typed::NULL;
        }
        self.0.follow(offset!(task_cfs_rq)).follow(offset!(cfs_rq_rq))
    }

    /// Returns the last update of the scheduler's clock, 0 if unknown.
    #[inline(always)]
    pub(crate) fn rq_clock(self) -> u64 {
        if offset!(task_cfs_rq) == ABSENT || offset!(cfs_rq_rq) == ABSENT {
            return 0;
        }
        self.run_queue().load(offset!(rq_clock))
    }

    /// Returns the same without interrupt and stolen time.
    #[inline(always)]
    pub(crate) fn rq_clock_task(self) -> u64 {
        let queue = self.run_queue();
        if queue.is_null() { 0 } else { queue.load(offset!(rq_clock_task)) }
    }
}

/// Returns the inode number of a cgroup's directory.
#[inline(always)]
pub(crate) fn cgroup_id(cgroup: Typed) -> u64 {
    if offset!(cgroup_kn) == ABSENT {
        return 0;
    }
    cgroup.follow(offset!(cgroup_kn)).load(offset!(kernfs_node_id))
}

/// Returns the pid of a session or process group in the initial namespace.
#[inline(always)]
fn pid_of_type(signal: Typed, kind: u32) -> u32 {
    let pid = signal.follow(offset!(signal_pids) + 8 * kind);
    read(pid.address(), offset!(pid_numbers) + offset!(upid_nr))
}

/// Returns the controlling terminal as (major << 20) | minor, 0 if none.
#[inline(always)]
fn tty(signal: Typed) -> u32 {
    if offset!(signal_tty) == ABSENT || offset!(tty_driver) == ABSENT {
        return 0;
    }
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

/// Sets the top bit of each zero byte. Behind the first zero byte it may also set others.
#[inline(always)]
const fn zeroes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[inline(always)]
const fn has_nul(word: u64) -> bool {
    zeroes(word) != 0
}

/// Keeps the bytes before the first zero byte and clears the rest.
#[inline(always)]
const fn before_nul(word: u64) -> u64 {
    let first = zeroes(word) & zeroes(word).wrapping_neg();
    word & first.wrapping_sub(1)
}
