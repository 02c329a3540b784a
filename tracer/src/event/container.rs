//! Containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::id::ProcessId;
use crate::record::text::Arguments;

/// How a process came into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is the container's first process, or descends from that.
    Entrypoint,
    /// It was put into it by the runtime's `exec` (as `docker exec` does), or descends from one that was.
    Exec,
    /// It came from outside without the runtime (`nsenter`, `setns`): it was born or exec'd in the mount or pid namespace of the
    /// container's first process and is in no container's cgroup, or was put into this one's; or it descends from such a one.
    Host,
}

/// The container that a process is in. Every process in it shares one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessContainer {
    /// Id of the container; its name where the runtime has no ids.
    pub id: Arc<str>,
    /// Name of the container, once it is known; in Kubernetes, its name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Image of the container, as it was given to the engine, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Name of its Kubernetes pod, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// Kubernetes namespace of the pod, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
}

impl ProcessContainer {
    /// A container of which only the id is known.
    pub fn new(id: Arc<str>) -> Self {
        Self { id, name: None, image: None, pod: None, namespace: None }
    }
}

/// The container that a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id; its name where the runtime has no ids.
    pub id: Arc<str>,
    /// Its name, once that is known: what its engine calls it, in Kubernetes the name it has in its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Its image, as whoever started it wrote it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Its host name, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// What made it, as far as its cgroup tells: `docker`, `podman`, `containerd`, `cri-o`, `runc`, `crun`, `lxc` and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Arc<str>>,
    /// The runtime that was told to make it (`runc`, `crun`, …), where that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Arc<str>>,
    /// Uid of its Kubernetes pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Arc<str>>,
    /// Path of its control group.
    pub cgroup: Arc<str>,
    /// What it is in Kubernetes, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// True while its control group is frozen, as `docker pause` does it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Directory of its OCI bundle (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Arc<str>>,
    /// What it is to run, as its bundle says (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Arguments>,
    /// The annotations of its bundle (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Arc<BTreeMap<Arc<str>, Arc<str>>>>,
    /// How it ended, and what ran in it (`container_exit`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ContainerEnd>,
}

impl Container {
    /// A container of which no more is known than which one it is.
    pub fn new(id: Arc<str>, cgroup: Arc<str>) -> Self {
        Self {
            id,
            name: None,
            image: None,
            hostname: None,
            engine: None,
            runtime: None,
            pod_uid: None,
            cgroup,
            kubernetes: None,
            paused: false,
            bundle: None,
            args: None,
            annotations: None,
            end: None,
        }
    }
}

/// What a container is in Kubernetes, as the annotations of its bundle say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kubernetes {
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// Namespace of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// Its name in the pod. The pod's sandbox has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// Id of the pod's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<Arc<str>>,
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
    /// Processes that were in it while it was traced, those of the runtime that prepared it and those from outside included.
    pub processes: u64,
    /// Programs that were started in it.
    pub execs: u64,
    /// CPU time in user mode of its processes that ended, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel of its processes that ended, nanoseconds.
    pub system_ns: u64,
    /// Largest resident set of any one of them, bytes.
    pub max_rss_bytes: u64,
    /// The most memory that was charged to its cgroup at a time until its first process had ended, bytes, page cache included
    /// (`memory.peak`, v1: `memory.max_usage_in_bytes`); absent where the cgroup was gone before it could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}
