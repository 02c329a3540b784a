//! What is told of the start of a container.

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

/// How it is known that a process belongs to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// It stands in the line of who created whom, or descends from one that does.
    Line,
    /// It ran in the container.
    Container,
    /// Its arguments name the container, by its id or name.
    Id,
    /// Of a client: the arguments end with those of the entrypoint, or name the image.
    Argv,
    /// Only by the time: the daemon's child while the container was started; the client that was asking then.
    Time,
}

/// A program that ran while a container was started; or a process that only became a copy of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ran {
    /// What it did; absent for what is no step of the way to the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How it is known to belong to this start.
    pub tie: Tie,
    /// The process.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// Pid of whoever created it.
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
    /// Arguments; those of its creator if it has exec'd nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arguments>,
    /// True if this is a program that was exec'd, false for a process that was only forked.
    pub execed: bool,
    /// When it began, in nanoseconds since the start began: its exec; its fork if it has exec'd nothing; of what ran
    /// already, the fork of the next step.
    pub at_ns: u64,
    /// Of a step up to the entrypoint: time until the next step began. They add up to `total_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ns: Option<u64>,
    /// Time until it ended or exec'd the next, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ns: Option<u64>,
    /// Exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that ended it, when it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
}

/// The start of a container, from its client's exec to the exec of its entrypoint: with that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Version of this shape, 1.
    pub v: u32,
    /// The container.
    pub container: Container,
    /// When it began: the client's exec. Where no client was seen, the first step that was.
    pub began: Timestamp,
    /// When it was ready: the exec of the entrypoint. Absent if it never came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Timestamp>,
    /// Time from the one to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// How the client was found; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Tie>,
    /// The way from the client to the entrypoint, and its first child.
    pub steps: Vec<Ran>,
    /// What else ran before it was ready.
    pub others: Vec<Ran>,
    /// True if something may be missing, because events were lost or too much had happened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

impl Start {
    /// The step of a role; the first of several.
    #[cfg(any(feature = "internals", test))]
    pub fn step(&self, role: Role) -> Option<&Ran> {
        self.steps.iter().find(|step| step.role == Some(role))
    }

    /// True if it is meant by a name or an id, or how that begins.
    pub fn is_of(&self, container: &str) -> bool {
        self.container.id.starts_with(container) || self.container.name.as_deref() == Some(container)
    }
}
