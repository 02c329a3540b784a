//! What is told of parents and children.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::id::ProcessId;

/// Why a process got another parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReparentReason {
    /// Reserved, never told: another thread of the same parent process took over. The parent is a process, and remains
    /// the same.
    Thread,
    /// The nearest living ancestor that is a child subreaper (`PR_SET_CHILD_SUBREAPER`).
    Subreaper,
    /// The init of the pid namespace.
    Init,
}

/// A change of parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reparent {
    /// The parent that ended.
    pub from_id: ProcessId,
    /// The new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_id: Option<ProcessId>,
    /// Its pid.
    pub to_pid: u32,
    /// Why this one.
    pub reason: ReparentReason,
}

/// The end of a zombie: the kernel let go of it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Reap {
    /// How long it was dead by then, nanoseconds; the kernel tells up to some tens of milliseconds late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombie_ns: Option<u64>,
    /// Pid of its last parent: who waited for it, or lets the kernel do without (`SIGCHLD` ignored).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_pid: Option<u32>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_id: Option<ProcessId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_comm: Option<Arc<str>>,
    /// The kernel did not tell it: `/proc` did not have it any more. The time is when it is told. When it was waited for is not
    /// known, and by whom only if the parent that it had when it died lives on.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub inferred: bool,
}

/// A process that is dead for some time, and was not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Zombie {
    /// How long, nanoseconds; at least so long for one that was found dead.
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
    /// How many dead children this parent has left unreaped, this one included.
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
