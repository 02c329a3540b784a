//! Changes of parents, zombies and ancestors.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::id::ProcessId;

/// Why a process got another parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReparentReason {
    /// Reserved, never reported: another thread of the same parent process took over. The parent process stays the
    /// same.
    Thread,
    /// The nearest living ancestor that is a child subreaper (`PR_SET_CHILD_SUBREAPER`).
    Subreaper,
    /// The init of the pid namespace.
    Init,
}

/// A change of parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reparent {
    /// The parent that exited.
    pub from_id: ProcessId,
    /// The new parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_id: Option<ProcessId>,
    /// Its pid.
    pub to_pid: u32,
    /// Why this process is the new parent.
    pub reason: ReparentReason,
}

/// The end of a zombie: the kernel released it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Reap {
    /// Time from exit to reaping, nanoseconds. The kernel reports the reaping up to some tens of milliseconds late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombie_ns: Option<u64>,
    /// Pid of its last parent. That waited for it, or asked the kernel not to keep zombies (`SIGCHLD` ignored).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_pid: Option<u32>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_id: Option<ProcessId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_comm: Option<Arc<str>>,
    /// True when the kernel did not report the reaping: the process was gone from `/proc`. `time` is that of the
    /// report, and the time of the reaping is unknown. The reaper is known only if the parent at its exit is still
    /// alive.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub inferred: bool,
}

/// A process that exited some time ago and has not been reaped.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Zombie {
    /// Time since its exit, nanoseconds; at least this long for one that was found as a zombie.
    pub zombie_ns: u64,
    /// Pid of its current parent, which has to wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ProcessId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_comm: Option<Arc<str>>,
    /// How many zombies this parent has, this one included.
    pub unreaped: u64,
}

/// One of a process's ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Its id.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
}
