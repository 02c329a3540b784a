//! What a `storm` line tells.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_zero64;

/// Where in a storm a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StormPhase {
    /// The rate was just passed. The period of this line is empty: what led to it was shown.
    #[default]
    Begin,
    /// It goes on.
    Ongoing,
    /// The rate of this period was lower: what comes next is shown again.
    End,
    /// The stream ends, the storm need not.
    Cut,
}

/// What one process and its descendants spawned in a period, above a rate. `process` is the culprit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Storm {
    /// Where in the storm this line stands.
    pub phase: StormPhase,
    /// Events a second in this period; for `begin` those of the second that made it a storm, up to that moment.
    pub rate: u64,
    /// Events a second that make a storm.
    pub threshold: u64,
    /// When it began (`CLOCK_BOOTTIME`, nanoseconds; may be beyond 2^53, as `boot_ns`). Together with the culprit's id it
    /// names the storm.
    pub began_boot_ns: u64,
    /// Length of the period that this line sums up, which ends at `boot_ns`.
    pub period_ns: u64,
    /// Events in the period: forks, execs, exits, reparents and others together.
    pub events: u64,
    /// … of which so many have no line of their own: all with `--collapse`, none with `--storm-alert`.
    pub folded: u64,
    /// Processes created.
    pub forks: u64,
    /// Execs.
    pub execs: u64,
    /// Processes ended.
    pub exits: u64,
    /// Changes of parent.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reparents: u64,
    /// Events of other kinds, e.g. of threads.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub others: u64,
    /// Exits with another code than 0 or by a signal.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub failed: u64,
    /// What was executed, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<StormCommand>,
    /// Execs of commands that are not listed.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub other_execs: u64,
    /// How processes ended, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<StormStatus>,
    /// CPU time in user mode of those that ended, nanoseconds: their own, not their children's.
    pub user_ns: u64,
    /// CPU time in the kernel of those that ended, nanoseconds.
    pub system_ns: u64,
    /// Events since it began, up to and with this line.
    pub total_events: u64,
}

/// A command of a storm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormCommand {
    /// Path of the executable; the name of the process where that is not known.
    pub exe: Arc<str>,
    /// How often it was executed.
    pub execs: u64,
}

/// A way in which processes of a storm ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormStatus {
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that killed it. Neither where the status is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// How many ended so.
    pub exits: u64,
}
