//! Tasks of which only the address is known.

use aya_ebpf::helpers::bpf_get_current_task;
use tracer_common::config::CGROUP_V2;
use tracer_common::limits::COMM_LEN;
use tracer_common::offsets::ABSENT;
use tracer_common::record::TaskRef;

use crate::kernel::{config, offset, read};

/// Identity of a task.
#[inline(always)]
pub(crate) fn identity_at(task: u64) -> TaskRef {
    if task == 0 {
        return TaskRef::default();
    }
    let leader: u64 = read(task, offset!(task_group_leader));
    TaskRef {
        start_ns: read(leader, offset!(task_start_boottime)),
        tgid: read(task, offset!(task_tgid)),
        tid: read(task, offset!(task_pid)),
    }
}

/// The same of a task that may be freed, and its memory in use for a younger one. Returns none for a task that was created after
/// `than_ns`, nor for one that a fork is making: that begins as a copy of the task that forks, with its number and its start
/// ([`dup_task_struct`]).
///
/// [`dup_task_struct`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/fork.c
#[inline(always)]
pub(crate) fn identity_if_older(task: u64, than_ns: u64) -> TaskRef {
    let identity = identity_at(task);
    let leader: u64 = read(task, offset!(task_group_leader));
    let whole = leader == task || is_in_list_of_its_pid(task);
    let born_ns: u64 = read(task, offset!(task_start_boottime));
    // The copy may be made between these looks.
    let again = identity_at(task);
    if whole && born_ns <= than_ns && identity == again { identity } else { TaskRef::default() }
}

/// What a copy is not, nor a thread that has ended: only its own list has this very task in it.
#[inline(always)]
fn is_in_list_of_its_pid(task: u64) -> bool {
    if offset!(task_thread_pid) == ABSENT || offset!(task_pid_links) == ABSENT || offset!(pid_tasks) == ABSENT {
        return false;
    }
    // The first list is that of `PIDTYPE_PID`: of the one task whose number it is.
    // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/pid.h
    let pid: u64 = read(task, offset!(task_thread_pid));
    read::<u64>(pid, offset!(pid_tasks)) == task + u64::from(offset!(task_pid_links))
}

/// Identity of the running task. `bpf_get_current_task_btf` is only there from 5.11 on.
#[inline(always)]
pub(crate) fn current_identity() -> TaskRef {
    identity_at(current())
}

/// Name of the process that a task belongs to: that of its leader.
#[inline(always)]
pub(crate) fn process_name_at(task: u64) -> [u8; COMM_LEN] {
    let leader: u64 = read(task, offset!(task_group_leader));
    read(leader, offset!(task_comm))
}

/// Address of the running task.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_get_current_task() }
}

/// Address of the parent of a task.
#[inline(always)]
pub(crate) fn real_parent_at(task: u64) -> u64 {
    let leader: u64 = read(task, offset!(task_group_leader));
    read(leader, offset!(task_real_parent))
}

/// Identity of the parent of a task.
#[inline(always)]
pub(crate) fn parent_at(task: u64) -> TaskRef {
    identity_at(real_parent_at(task))
}

/// uid, gid, euid and egid of a task.
#[inline(always)]
pub(crate) fn ids_at(task: u64) -> [u32; 4] {
    let cred: u64 = read(task, offset!(task_real_cred));
    [
        read(cred, offset!(cred_uid)),
        read(cred, offset!(cred_gid)),
        read(cred, offset!(cred_euid)),
        read(cred, offset!(cred_egid)),
    ]
}

/// Cgroup of a task, in the hierarchy that was chosen.
#[inline(always)]
pub(crate) fn cgroup_at(task: u64) -> u64 {
    if offset!(css_set_subsys) == ABSENT {
        return 0;
    }
    let set: u64 = read(task, offset!(task_cgroups));
    let controller = config!(cgroup_subsys);
    let cgroup: u64 = if controller == CGROUP_V2 {
        read(set, offset!(css_set_dfl_cgrp))
    } else {
        read(read(set, offset!(css_set_subsys) + 8 * controller), offset!(css_cgroup))
    };
    let node: u64 = read(cgroup, offset!(cgroup_kn));
    read(node, offset!(kernfs_node_id))
}

/// Numbers of the mount namespace and of the pid namespace (0: the initial one) of a task.
#[inline(always)]
pub(crate) fn namespaces_at(task: u64) -> [u32; 2] {
    if offset!(task_nsproxy) == ABSENT || offset!(nsproxy_mnt_ns) == ABSENT || offset!(upid_ns) == ABSENT {
        return [0; 2];
    }
    let proxy: u64 = read(task, offset!(task_nsproxy));
    let mnt_ns: u32 = read(read(proxy, offset!(nsproxy_mnt_ns)), offset!(mnt_ns_inum));
    let pid: u64 = read(task, offset!(task_thread_pid));
    let level: u32 = read(pid, offset!(pid_level));
    if level == 0 {
        return [mnt_ns, 0];
    }
    let upid = pid + u64::from(offset!(pid_numbers)) + u64::from(level) * u64::from(offset!(upid_size));
    [mnt_ns, read(read(upid, offset!(upid_ns)), offset!(pid_ns_inum))]
}
