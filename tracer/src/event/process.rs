//! What is told of a process.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Origin, is_false, is_zero};
use crate::id::ProcessId;
use crate::time::Timestamp;

/// Where the knowledge of a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Seen being born by the kernel side.
    Kernel,
    /// Found in `/proc`.
    Procfs,
}

/// A process. Strings are shared: cloning one costs a few reference counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// `(starttime << 22) | pid` in 16 hex digits; `starttime` is field 22 of `/proc/PID/stat`.
    pub id: ProcessId,
    /// Thread-group id, in the initial pid namespace as are all ids without `ns`.
    pub pid: u32,
    /// Thread id, when it is not the pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Its pid in each pid namespace, outermost first, when it is in a nested one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pids: Option<Arc<[u32]>>,
    /// Pid of the current parent, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Id of the current parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ProcessId>,
    /// Id of the process that forked it, when that is not the current parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_id: Option<ProcessId>,
    /// Real user id, in the initial user namespace as are all user and group ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Real group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Effective user id, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// Effective group id, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egid: Option<u32>,
    /// Audit login uid, when one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<u32>,
    /// Process group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgid: Option<u32>,
    /// Controlling terminal as `ps` names it, e.g. `pts/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<Arc<str>>,
    /// Name (`task_struct.comm`, at most 15 bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// The bytes of `comm` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm_b64: Option<Arc<str>>,
    /// Path of the executable, from the root of its mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
    /// The bytes of `exe` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_b64: Option<Arc<str>>,
    /// Arguments; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arc<[Arc<str>]>>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Arc<[Arc<str>]>>,
    /// Working directory at its last exec (or when it was found in `/proc`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Arc<str>>,
    /// The bytes of `cwd` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_b64: Option<Arc<str>>,
    /// When it was created, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// How often it has exec'd since tracing began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub execs: u32,
    /// Path of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Arc<str>>,
    /// systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Arc<str>>,
    /// Container id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// How it came into its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// True for a kernel thread.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kthread: bool,
    /// True for a process that was dead but not yet waited for when tracing began.
    #[serde(default, skip_serializing_if = "is_false")]
    pub zombie: bool,
    /// Where this knowledge comes from.
    pub source: Source,
    /// True when reconstructed after a loss or from a later event of the same process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inferred: bool,
}

impl Process {
    /// A process of which no more is known than which one it is.
    pub fn new(id: ProcessId, source: Source) -> Self {
        Self {
            id,
            pid: id.pid(),
            tid: None,
            ns_pids: None,
            ppid: None,
            parent_id: None,
            creator_id: None,
            uid: None,
            gid: None,
            euid: None,
            egid: None,
            loginuid: None,
            sid: None,
            pgid: None,
            tty: None,
            comm: None,
            comm_b64: None,
            exe: None,
            exe_b64: None,
            argv: None,
            argv_b64: None,
            cwd: None,
            cwd_b64: None,
            start_time: None,
            execs: 0,
            cgroup: None,
            unit: None,
            container: None,
            origin: None,
            kthread: false,
            zombie: false,
            source,
            inferred: false,
        }
    }
}
