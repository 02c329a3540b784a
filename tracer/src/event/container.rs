//! Containers.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ProcessId;

/// How a process came into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is the container's first process, or descends from that.
    Entrypoint,
    /// It was put into it by the runtime's `exec` (as `docker exec` does), or descends from one that was.
    Exec,
}

/// The container that a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id; its name where the runtime has no ids.
    pub id: Arc<str>,
    /// What made it, as far as its cgroup tells: `docker`, `podman`, `containerd`, `cri-o`, `runc`, `crun`, `lxc` and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Arc<str>>,
    /// Uid of its Kubernetes pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// Path of its control group.
    pub cgroup: Arc<str>,
    /// How it ended, and what ran in it (`container_exit`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ContainerEnd>,
}

/// How a container ended, and what ran in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerEnd {
    /// Exit code of its first process, when that exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that ended its first process, when that was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// Id of its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_id: Option<ProcessId>,
    /// Time from the birth of its first process to the end of that, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ns: Option<u64>,
    /// Processes that were in it while it was traced, those of the runtime that prepared it included.
    pub processes: u64,
    /// Programs that were started in it.
    pub execs: u64,
    /// CPU time in user mode of its processes that ended, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel of its processes that ended, nanoseconds.
    pub system_ns: u64,
    /// Largest resident set of any one of them, bytes.
    pub max_rss_bytes: u64,
}
