//! Details of exits.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::event::id::ProcessId;

/// How a process or thread exited.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Exit code (`WEXITSTATUS`), if it exited normally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that killed it, e.g. `SIGKILL`, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// True when a core was dumped (`WCOREDUMP`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub core: bool,
    /// Time since it was created, in nanoseconds. For a process found in `/proc`, its start is rounded to the clock
    /// tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    /// Who or what killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Its resource usage as `wait4()` reports it: all its threads and the children it waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Its own resource usage, without the children it waited for. Absent when it waited for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_usage: Option<Usage>,
    /// True when it had too many threads at its exit to add up: some of their usage is missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub usage_partial: bool,
}

impl Exit {
    /// Returns the process's own resource usage.
    pub fn own(&self) -> Option<&Usage> {
        self.own_usage.as_ref().or(self.usage.as_ref())
    }

    /// Returns true for an exit that is not exit code 0.
    pub fn failed(&self) -> bool {
        self.signal.is_some() || self.code.is_some_and(|code| code != 0)
    }
}

/// Who or what sent the signal that killed a process.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Pid of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pid: Option<u32>,
    /// Id of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<ProcessId>,
    /// Name of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_comm: Option<Arc<str>>,
    /// Real user id of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_uid: Option<u32>,
    /// True when the kernel sent the signal (fault, timer, limit, pipe without a reader) or ended the process directly.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kernel: bool,
    /// True when the process caught or blocked the signal and then sent it to itself. The sender is the first one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub raised_again: bool,
    /// True when the OOM killer chose this process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
}

/// Resources used.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// CPU time in user mode, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// Largest resident set, bytes.
    pub max_rss_bytes: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Bytes read from storage (`/proc/PID/io` `read_bytes`). Children that were waited for are always included.
    pub read_bytes: u64,
    /// Bytes written to storage. Children that were waited for are always included.
    pub write_bytes: u64,
    /// Times it gave up the CPU voluntarily.
    pub voluntary_switches: u64,
    /// Times the CPU was taken from it.
    pub involuntary_switches: u64,
}
