//! Decides which events are reported. Any other event costs one or two map lookups, and nothing else.
//!
//! A filter may admit more than matches, never less: user space checks each event again. It admits:
//! - matching processes, by descent (`FILTER_SUBTREE`), user, cgroup, or namespace of a container. From then on a process stays
//!   in the map `TRACKED` until it exits. So if its fork is reported, its exit is reported too;
//! - with `relatives`, the exits of their parents and of their possible reapers: these exits change the parent;
//! - with `relatives`, all events of helpers (container runtimes, sudo; the map `HELPERS`), and of their children until their
//!   next exec. A process that they start may match, and its fork and origin are then known.

use core::ptr::read_volatile;

use tracer_common::config::{
    FILTER_CGROUPS, FILTER_CONTAINERS, FILTER_NONE, FILTER_SUBTREE, FILTER_USERS, TRACKED_HELPER, TRACKED_MATCHING,
    TRACKED_RELATIVE,
};

use crate::emit::Counters;
use crate::kernel::config;
use crate::maps::{CGROUPS, HELPERS, NAMESPACES, OPEN, TRACKED, UNREAPED, USERS};
use crate::task::{Task, cgroup_at, ids_at, namespaces_at};

/// `BPF_NOEXIST`: <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NOEXIST: u64 = 1;

/// <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/asm-generic/errno-base.h>
const EEXIST: i32 = 17;

/// The states in which all events of a process are reported.
const WHOLE: u32 = TRACKED_MATCHING | TRACKED_HELPER;

/// Returns true if an event of this process matches that is no fork, exec or exit.
#[inline(always)]
pub(crate) fn admits(task: Task) -> bool {
    !filters() || is_open() || state(task.tgid()) & WHOLE != 0 || matches(task)
}

/// The same for a task known only by its address.
#[inline(always)]
pub(crate) fn admits_at(task: u64, tgid: u32) -> bool {
    !filters() || is_open() || state(tgid) & WHOLE != 0 || matches_at(task)
}

/// Returns true if a fork matches, and tracks the child from then on.
#[inline(always)]
pub(crate) fn admits_birth(creator: Task, child: Task) -> bool {
    if !filters() {
        return true;
    }
    let was = state(creator.tgid());
    let is = if config!(filter) == FILTER_SUBTREE {
        // Until user space has added the processes that ran before, any process may be a descendant.
        if is_open() || was & WHOLE == 0 && is_in_tracked_namespace(child) { TRACKED_MATCHING } else { was & WHOLE }
    } else {
        was & TRACKED_HELPER | if matches(child) { TRACKED_MATCHING } else { 0 }
    };
    if is == 0 {
        return is_open();
    }
    track(child.tgid(), is);
    // With CLONE_PARENT the parent is not the creator.
    track_kin(child.real_parent().tgid());
    true
}

/// Returns true if an exec matches: the process was tracked before it, or is from now on.
#[inline(always)]
pub(crate) fn admits_exec(task: Task) -> bool {
    if !filters() {
        return true;
    }
    let tgid = task.tgid();
    let was = state(tgid);
    let mut is = was & TRACKED_MATCHING;
    if is == 0 && matches(task) {
        is = TRACKED_MATCHING;
    }
    if config!(relatives) != 0 {
        let name = task.name();
        // A runtime executes itself by a descriptor, and its comm is then the number.
        if HELPERS.get_ptr(name).is_some() || was & TRACKED_HELPER != 0 && name[0].is_ascii_digit() {
            is |= TRACKED_HELPER;
        }
        if is == 0 && was != 0 {
            is = TRACKED_RELATIVE;
        }
    }
    if config!(filter) == FILTER_CONTAINERS && is & TRACKED_MATCHING != 0 {
        note_namespaces(task);
    }
    if is != was && is != 0 {
        track(tgid, is);
        track_kin(task.real_parent().tgid());
    }
    is_open() || (was | is) & WHOLE != 0
}

/// Returns true if an exec in progress may match in the end: it can change the user of its process.
#[inline(always)]
pub(crate) fn may_admit_exec(task: Task) -> bool {
    config!(filter) == FILTER_USERS || admits(task)
}

/// Returns true if the exit of a process matches.
#[inline(always)]
pub(crate) fn admits_end(task: Task) -> bool {
    !filters() || is_open() || state(task.tgid()) != 0 || matches(task)
}

/// Returns true if the move of a process to a cgroup matches.
#[inline(always)]
pub(crate) fn admits_move(task: Task, to: u64) -> bool {
    if !filters() {
        return true;
    }
    let tgid = task.tgid();
    let was = state(tgid);
    if by_cgroup() && was & TRACKED_MATCHING == 0 && CGROUPS.get_ptr(to).is_some() {
        track(tgid, was | TRACKED_MATCHING);
        track_kin(task.real_parent().tgid());
        return true;
    }
    is_open() || was & WHOLE != 0
}

/// Adds a new cgroup. It matches until user space decides.
#[inline(always)]
pub(crate) fn cgroup_made(id: u64) {
    if by_cgroup() && CGROUPS.insert(id, 1, 0).is_err() {
        count_untracked();
    }
}

/// Tracks a process that may become the parent of a matching one.
#[inline(always)]
pub(crate) fn track_kin(tgid: u32) {
    if config!(relatives) != 0
        && tgid != 0
        && TRACKED.get_ptr(tgid).is_none()
        && TRACKED.insert(tgid, TRACKED_RELATIVE, NOEXIST).is_err_and(|error| error != -EEXIST)
    {
        count_untracked();
    }
}

/// Returns true if the events of an exited process matched. `leader` is its task's address.
#[inline(always)]
pub(crate) fn was_admitted(leader: u64) -> bool {
    !filters() || UNREAPED.remove(leader).is_ok()
}

/// Removes an exited process, because its pid may be reused. `leader` is its task's address.
#[inline(always)]
pub(crate) fn forget(tgid: u32, leader: u64) {
    if filters() {
        if config!(reap) != 0 {
            let _ = UNREAPED.insert(leader, 1, 0);
        }
        let _ = TRACKED.remove(tgid);
    }
}

#[inline(always)]
fn filters() -> bool {
    config!(filter) != FILTER_NONE
}

#[inline(always)]
fn by_cgroup() -> bool {
    config!(filter) == FILTER_CGROUPS || config!(filter) == FILTER_CONTAINERS
}

#[inline(always)]
fn is_open() -> bool {
    // SAFETY: it points into the map. A program that reads an old value only reports too much.
    OPEN.get_ptr(0).is_some_and(|open| unsafe { read_volatile(open) } != 0)
}

/// Returns what is reported of a process, as `TRACKED_*` bits.
#[inline(always)]
fn state(tgid: u32) -> u32 {
    // SAFETY: it points into the map.
    TRACKED.get_ptr(tgid).map_or(0, |state| unsafe { read_volatile(state) })
}

#[inline(always)]
fn track(tgid: u32, state: u32) {
    if TRACKED.insert(tgid, state, 0).is_err() {
        count_untracked();
    }
}

#[inline(always)]
fn count_untracked() {
    if let Some(counters) = Counters::of_this_cpu() {
        counters.untracked();
    }
}

/// Returns true if a process matches by its current user, cgroup or namespaces.
#[inline(always)]
fn matches(task: Task) -> bool {
    match config!(filter) {
        FILTER_USERS => {
            let [uid, euid] = task.users();
            is_of(uid, euid)
        }
        FILTER_CGROUPS => CGROUPS.get_ptr(task.cgroup()).is_some(),
        FILTER_CONTAINERS => {
            let level = task.ns_level();
            CGROUPS.get_ptr(task.cgroup()).is_some()
                || NAMESPACES.get_ptr(task.mnt_ns()).is_some()
                || level != 0 && NAMESPACES.get_ptr(task.pid_ns(level)).is_some()
        }
        _ => false,
    }
}

#[inline(always)]
fn matches_at(task: u64) -> bool {
    match config!(filter) {
        FILTER_USERS => {
            let [uid, _, euid, _] = ids_at(task);
            is_of(uid, euid)
        }
        FILTER_CGROUPS => CGROUPS.get_ptr(cgroup_at(task)).is_some(),
        FILTER_CONTAINERS => {
            let [mnt_ns, pid_ns] = namespaces_at(task);
            CGROUPS.get_ptr(cgroup_at(task)).is_some()
                || NAMESPACES.get_ptr(mnt_ns).is_some()
                || NAMESPACES.get_ptr(pid_ns).is_some()
        }
        _ => false,
    }
}

#[inline(always)]
fn is_of(uid: u32, euid: u32) -> bool {
    USERS.get_ptr(uid).is_some() || euid != uid && USERS.get_ptr(euid).is_some()
}

/// Adds the namespaces of a container when its first process execs. Other processes may enter them before user
/// space can add them. User space removes them again if the container does not match.
#[inline(always)]
fn note_namespaces(task: Task) {
    let level = task.ns_level();
    if level == 0 || task.pid_at_level(level) != 1 {
        return;
    }
    let mnt_ns = task.mnt_ns();
    // A container may have no separate mount namespace.
    let own = mnt_ns != task.real_parent().mnt_ns();
    if own && NAMESPACES.insert(mnt_ns, 1, 0).is_err() || NAMESPACES.insert(task.pid_ns(level), 1, 0).is_err() {
        count_untracked();
    }
}

/// Returns true for a child that a process outside forks into a pid namespace whose init is tracked. That init
/// inherits all orphans there.
#[inline(always)]
fn is_in_tracked_namespace(child: Task) -> bool {
    let level = child.ns_level();
    config!(relatives) != 0 && level != 0 && state(child.ns_init(level).tgid) & WHOLE != 0
}
