//! The one language spoken past the process table: an [`Event`], owned, enriched and serialisable.
//!
//! These types *are* schema 1: the JSON Schema in `docs/schema/v1.json` is generated from them, keys are
//! written in the order of the fields, and an absent key means unknown or not applicable.

mod container;
mod exec;
mod exit;
pub mod field;
mod frame;
pub mod id;
mod image;
mod kin;
mod process;
pub mod schema;
mod storm;
pub mod time;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::time::Timestamp;
pub use container::{Container, ContainerEnd, Kubernetes, Origin};
pub use exec::{ArgvInfo, Capture, Exec, ExecFailed};
pub use exit::{Cause, Exit, Usage};
pub use frame::{Bye, Dropped, Filtering, Hello, Lost};
pub use image::Image;
pub use kin::{Ancestor, Reap, Reparent, ReparentReason, Zombie};
pub use process::{Process, Source};
pub use storm::{Storm, StormCommand, StormPhase, StormStatus};

/// Version of the schema that this build writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What an [`Event`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// First line of a stream.
    Hello,
    /// A process that was already running when tracing began; or one whose birth was missed, which says `inferred`, and is
    /// told again once more than its id is known.
    Process,
    /// A process was created.
    Fork,
    /// A process replaced its image.
    Exec,
    /// A process tried to replace its image, and the kernel refused (on request).
    ExecFailed,
    /// A process ended.
    Exit,
    /// A process got another parent, because its own ended.
    Reparent,
    /// A dead process was waited for (on request).
    Reap,
    /// A dead process has not been waited for in a while (on request).
    Zombie,
    /// A thread was created (on request).
    ThreadStart,
    /// A thread ended while its process lives on (on request).
    ThreadExit,
    /// A container was created: its control group was made. The process is the one that did it.
    ContainerCreate,
    /// What the files of a container's engine and runtime say of it: name, image and more. Said once it was read; the lines
    /// after it have name and image too.
    ContainerInfo,
    /// A container's first process became its entrypoint.
    ContainerStart,
    /// A program was put into a container that runs.
    ContainerExec,
    /// A container ended: its first process, and then all others.
    ContainerExit,
    /// A container's control group was removed.
    ContainerRemove,
    /// Records were lost here.
    Lost,
    /// Events were left out here, because the reader was behind (on request).
    Dropped,
    /// What a process and its descendants spawned above a rate (on request).
    Storm,
    /// Last line of a stream.
    Bye,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 21] = [
        Self::Hello,
        Self::Process,
        Self::Fork,
        Self::Exec,
        Self::ExecFailed,
        Self::Exit,
        Self::Reparent,
        Self::Reap,
        Self::Zombie,
        Self::ThreadStart,
        Self::ThreadExit,
        Self::ContainerCreate,
        Self::ContainerInfo,
        Self::ContainerStart,
        Self::ContainerExec,
        Self::ContainerExit,
        Self::ContainerRemove,
        Self::Lost,
        Self::Dropped,
        Self::Storm,
        Self::Bye,
    ];

    /// The name it has in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Process => "process",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::ExecFailed => "exec_failed",
            Self::Exit => "exit",
            Self::Reparent => "reparent",
            Self::Reap => "reap",
            Self::Zombie => "zombie",
            Self::ThreadStart => "thread_start",
            Self::ThreadExit => "thread_exit",
            Self::ContainerCreate => "container_create",
            Self::ContainerInfo => "container_info",
            Self::ContainerStart => "container_start",
            Self::ContainerExec => "container_exec",
            Self::ContainerExit => "container_exit",
            Self::ContainerRemove => "container_remove",
            Self::Lost => "lost",
            Self::Dropped => "dropped",
            Self::Storm => "storm",
            Self::Bye => "bye",
        }
    }

    /// True for the lines that frame and annotate a stream, which no filter takes away: `hello`, `lost`, `dropped`,
    /// `storm`, `bye`.
    pub const fn is_framing(self) -> bool {
        matches!(self, Self::Hello | Self::Lost | Self::Dropped | Self::Storm | Self::Bye)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line of a stream.
// What few of them have is boxed: an event is made, moved and dropped up to a million times a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Schema version, 1.
    pub v: u32,
    /// What it tells of.
    #[serde(rename = "event")]
    pub kind: Kind,
    /// 0, 1, 2 … of this stream; a hole is what a filter left out.
    pub seq: u64,
    /// When, in UTC: RFC 3339 with nanoseconds.
    pub time: Timestamp,
    /// `CLOCK_BOOTTIME` of the event, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ns: Option<u64>,
    /// CPU on which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The process it is about, as it is after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How much of argv there is (exec, exec_failed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_info: Option<ArgvInfo>,
    /// Details of an exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Box<Exec>>,
    /// What a process tried to run, and why it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_failed: Option<Box<ExecFailed>>,
    /// How a process or thread ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Box<Exit>>,
    /// Who became the parent, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparent: Option<Box<Reparent>>,
    /// Who waited for a dead process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reap: Option<Box<Reap>>,
    /// Who has not waited for a dead process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombie: Option<Box<Zombie>>,
    /// The container it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// What was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Box<Lost>>,
    /// What was left out because the reader was behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Box<Dropped>>,
    /// What a storm spawned (with `--collapse` or `--storm-alert`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Box<Storm>>,
    /// The process's ancestors, nearest first (with `--ancestors`, and for a storm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestors: Option<Vec<Ancestor>>,
    /// What is being traced, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Box<Hello>>,
    /// What became of it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bye: Option<Box<Bye>>,
}

impl Event {
    /// An event of a kind, with nothing else told yet.
    pub fn new(kind: Kind, time: Timestamp) -> Self {
        Self {
            v: SCHEMA_VERSION,
            kind,
            seq: 0,
            time,
            boot_ns: None,
            cpu: None,
            process: None,
            argv_info: None,
            exec: None,
            exec_failed: None,
            exit: None,
            reparent: None,
            reap: None,
            zombie: None,
            container: None,
            lost: None,
            dropped: None,
            storm: None,
            ancestors: None,
            hello: None,
            bye: None,
        }
    }

    /// True if the kernel did not tell it: it was found out in `/proc`, after a loss say. (A process of which only that much is
    /// known says `inferred` in all its events.)
    pub fn is_inferred(&self) -> bool {
        match self.kind {
            Kind::Process => self.process.as_ref().is_some_and(|process| process.inferred),
            Kind::Exec => self.exec.is_none(),
            Kind::Exit => self.exit.as_ref().is_none_or(|exit| exit.code.is_none() && exit.signal.is_none()),
            Kind::Reap => self.reap.as_ref().is_some_and(|reap| reap.inferred),
            _ => false,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero64(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_false(b: &bool) -> bool {
    !*b
}
