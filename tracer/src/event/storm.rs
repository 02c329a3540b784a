//! Details of storms.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_zero64;

/// The phase of a storm that a line reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StormPhase {
    /// The rate just exceeded the threshold. The period of this line is empty: earlier events were written.
    #[default]
    Begin,
    /// The storm continues.
    Ongoing,
    /// The rate of this period was below the threshold: later events are written again.
    End,
    /// The stream ends, but not necessarily the storm.
    Cut,
}

/// What one process and its descendants spawned in a period, above a rate. `process` is their common ancestor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Storm {
    /// The phase of the storm that this line reports.
    pub phase: StormPhase,
    /// Events per second in this period. For `begin`, in the second that reached the threshold, up to that moment.
    pub rate: u64,
    /// Events per second that make a storm.
    pub threshold: u64,
    /// When it began (`CLOCK_BOOTTIME`, nanoseconds; may exceed 2^53, like `boot_ns`). Together with the id of
    /// `process` it identifies the storm.
    pub began_boot_ns: u64,
    /// Length of the period that this line sums up. The period ends at `boot_ns`.
    pub period_ns: u64,
    /// Events in the period: forks, execs, exits, reparents and others.
    pub events: u64,
    /// … of them without their own line: all with `--collapse`, none with `--storm-alert`.
    pub folded: u64,
    /// Processes created.
    pub forks: u64,
    /// Execs.
    pub execs: u64,
    /// Processes exited.
    pub exits: u64,
    /// Changes of parent.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reparents: u64,
    /// Events of other kinds, e.g. of threads.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub others: u64,
    /// Exits with a code other than 0 or by a signal.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub failed: u64,
    /// Executed commands, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<StormCommand>,
    /// Execs of commands that are not listed.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub other_execs: u64,
    /// Exit statuses, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<StormStatus>,
    /// CPU time in user mode of exited processes, nanoseconds: their own, not their children's.
    pub user_ns: u64,
    /// CPU time in the kernel of exited processes, nanoseconds.
    pub system_ns: u64,
    /// Events since it began, this line included.
    pub total_events: u64,
}

/// A command of a storm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormCommand {
    /// Path of the executable, or the process name if that is unknown.
    pub exe: Arc<str>,
    /// How often it was executed.
    pub execs: u64,
}

/// An exit status in a storm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormStatus {
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that killed it. Neither code nor signal if the status is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// Number of exits with this status.
    pub exits: u64,
}
