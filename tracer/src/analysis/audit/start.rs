//! The report on the start of a container.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::event::Container;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::record::text::Arguments;

/// Version of the shape of [`Start`].
pub(super) const VERSION: u32 = 1;

/// The evidence that a process belongs to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// It is a creator of the container's first process, or descends from one.
    Line,
    /// It ran in the container.
    Container,
    /// Its arguments name the container by id or name.
    Id,
    /// For a client: its arguments end with those of the entrypoint, or name the image.
    Argv,
    /// Only the time: a child of the daemon while the container started, or a client with a request at that time.
    Time,
}

/// A program that ran while a container was started, or a process that was only forked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ran {
    /// Its role. Absent if it is no step on the way to the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The evidence that it belongs to this start.
    pub tie: Evidence,
    /// The process.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// Pid of the process that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_pid: Option<u32>,
    /// Effective user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// Path of the executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
    /// Arguments. Those of its creator if it has exec'd nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arguments>,
    /// True for a program that was exec'd, false for a process that was only forked.
    pub execed: bool,
    /// When it began, in nanoseconds since the start began. This is its exec, or its fork if it has exec'd nothing. For a
    /// process that ran before, it is the fork of the next step.
    pub at_ns: u64,
    /// For a step up to the entrypoint: time until the next step began. These add up to `total_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ns: Option<u64>,
    /// Time until it exited or exec'd the next program, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ns: Option<u64>,
    /// Exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that killed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
}

/// The start of a container, from the exec of its client to the exec of its entrypoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Version of this shape, 1.
    pub v: u32,
    /// The container.
    pub container: Container,
    /// When it began: the exec of the client, or the first known step if no client was found.
    pub began: Timestamp,
    /// When it was ready: the exec of the entrypoint. Absent if that never happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Timestamp>,
    /// Time from `began` to `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// How the client was found. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Evidence>,
    /// The steps from the client to the entrypoint, and its first child.
    pub steps: Vec<Ran>,
    /// Other programs that ran before it was ready.
    pub others: Vec<Ran>,
    /// True if something may be missing: events were lost, or the history was full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

impl Start {
    /// Returns the first step of a role.
    #[cfg(any(feature = "internals", test))]
    pub fn step(&self, role: Role) -> Option<&Ran> {
        self.steps.iter().find(|step| step.role == Some(role))
    }

    /// Returns true if the text is the container's name, its id or the begin of its id.
    pub fn is_of(&self, container: &str) -> bool {
        self.container.id.starts_with(container) || self.container.name.as_deref() == Some(container)
    }
}
