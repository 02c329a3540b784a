//! The [`Event`] is the output of the process table and the input of every consumer. It owns its data and serializes to
//! JSON.
//!
//! These types *are* schema 1. The JSON Schema in `docs/schema/v1.json` is generated from them. Keys are written in the
//! order of the fields, and an absent key means unknown or not applicable.

mod container;
mod detail;
mod exec;
mod exit;
#[cfg(all(feature = "cli", not(feature = "internals")))]
pub(crate) mod field;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod field;
mod frame;
#[cfg(not(feature = "internals"))]
pub(crate) mod id;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod id;
mod image;
mod json;
mod process;
mod relative;
#[cfg(all(feature = "cli", not(feature = "internals")))]
pub(crate) mod schema;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod schema;
mod storm;
#[cfg(not(feature = "internals"))]
pub(crate) mod time;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod time;

pub use container::{Container, ContainerEnd, Kubernetes, Origin, ProcessContainer};
pub use detail::{Detail, Kind};
pub use exec::{ArgvInfo, Capture, Exec, ExecFailed};
pub use exit::{Cause, Exit, Usage};
pub use frame::{Bye, Dropped, Filtering, Hello, HelloSource, Lost, LostReason};
pub use id::{ParseIdError, ProcessId};
pub use image::Image;
pub use process::{Process, Provenance};
pub use relative::{Ancestor, Reap, Reparent, ReparentReason, Zombie};
pub use storm::{Storm, StormCommand, StormPhase, StormStatus};
pub use time::Timestamp;

pub use crate::record::text::{Arguments, ArgumentsIter};

/// Version of the schema that this build writes.
pub const SCHEMA_VERSION: u32 = 1;

/// One line of a stream: a head that every line has, the process that it is about, and the details of its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Schema version, 1.
    pub v: u32,
    /// Number of the line in its stream: 0, 1, 2 and so on. Filters leave gaps.
    pub seq: u64,
    /// When it happened, in UTC. The schema says how far the times of two lines can be out of order.
    pub time: Timestamp,
    /// `CLOCK_BOOTTIME` of the event, in nanoseconds.
    pub boot_ns: Option<u64>,
    /// CPU on which it happened.
    pub cpu: Option<u32>,
    /// The process that the event is about, in its state after the event.
    pub process: Option<Process>,
    /// What happened.
    pub detail: Detail,
    /// The ancestors of the process, nearest first, if they were requested.
    pub ancestors: Option<Vec<Ancestor>>,
}

impl Event {
    /// Returns an event with only a time and details.
    pub fn new(detail: Detail, time: Timestamp) -> Self {
        Self { v: SCHEMA_VERSION, seq: 0, time, boot_ns: None, cpu: None, process: None, detail, ancestors: None }
    }

    /// Returns true if the kernel did not report this event: it was inferred from `/proc`, for example after a loss. If
    /// that is all that is known of a process, all its events have `inferred`.
    pub fn is_inferred(&self) -> bool {
        match &self.detail {
            Detail::Process => self.process.as_ref().is_some_and(|process| process.inferred),
            Detail::Exec(exec) => exec.is_none(),
            Detail::Exit(exit) => exit.code.is_none() && exit.signal.is_none(),
            Detail::Reap(reap) => reap.inferred,
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
