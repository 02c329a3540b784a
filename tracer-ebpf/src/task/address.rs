//! Tasks that are known only by their address.

use aya_ebpf::helpers::bpf_get_current_task;
use tracer_common::config::CGROUP_V2;
use tracer_common::limits::COMM_LEN;
use tracer_common::offsets::ABSENT;
use tracer_common::record::TaskRef;

use crate::kernel::{config, offset, read};

/// Returns the identity of a task.
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

/// The same for a task that may be freed, and whose memory a younger task may use. Returns an empty identity for a task that
/// was created after `than_ns`, and for one that a fork is creating. Such a task begins as a copy of the forking task, with
/// the same pid and start time ([`dup_task_struct`]).
///
/// [`dup_task_struct`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/fork.c
#[inline(always)]
pub(crate) fn identity_if_older(task: u64, than_ns: u64) -> TaskRef {
    let identity = identity_at(task);
    let leader: u64 = read(task, offset!(task_group_leader));
    let whole = leader == task || is_in_list_of_its_pid(task);
    let born_ns: u64 = read(task, offset!(task_start_boottime));
    // The copy may be made between these reads.
    let again = identity_at(task);
    if whole && born_ns <= than_ns && identity == again { identity } else { TaskRef::default() }
}

/// Returns true if the list of its pid contains this task. False for a copy and for an exited thread.
#[inline(always)]
fn is_in_list_of_its_pid(task: u64) -> bool {
    if offset!(task_thread_pid) == ABSENT || offset!(task_pid_links) == ABSENT || offset!(pid_tasks) == ABSENT {
        return false;
    }
    // The first list is that of `PIDTYPE_PID`, with the one task of that pid.
    // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/pid.h
    let pid: u64 = read(task, offset!(task_thread_pid));
    read::<u64>(pid, offset!(pid_tasks)) == task + u64::from(offset!(task_pid_links))
}

/// Returns the identity of the running task. `bpf_get_current_task_btf` exists only since 5.11.
#[inline(always)]
pub(crate) fn current_identity() -> TaskRef {
    identity_at(current())
}

/// Returns the comm of a task's process: that of its leader.
#[inline(always)]
pub(crate) fn process_name_at(task: u64) -> [u8; COMM_LEN] {
    let leader: u64 = read(task, offset!(task_group_leader));
    read(leader, offset!(task_comm))
}

/// Returns the address of the running task.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_get_current_task() }
}

/// Returns the address of a task's parent.
#[inline(always)]
pub(crate) fn real_parent_at(task: u64) -> u64 {
    let leader: u64 = read(task, offset!(task_group_leader));
    read(leader, offset!(task_real_parent))
}

/// Returns the identity of a task's parent.
#[inline(always)]
pub(crate) fn parent_at(task: u64) -> TaskRef {
    identity_at(real_parent_at(task))
}

/// Returns uid, gid, euid and egid of a task.
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

/// Returns the cgroup of a task in the chosen hierarchy.
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

/// Returns the numbers of the mount namespace and the pid namespace (0: the initial one) of a task.
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
