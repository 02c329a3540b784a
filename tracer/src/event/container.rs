//! Containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::id::ProcessId;
use crate::record::text::Arguments;

/// How a process entered its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is the container's first process or descends from it.
    Entrypoint,
    /// It was started by the runtime's `exec` (as `docker exec` does), or descends from such a process.
    Exec,
    /// It came from outside without the runtime (`nsenter`, `setns`), or descends from such a process. It was forked or
    /// exec'd in the mount or pid namespace of the container's first process, outside any container's cgroup. Or it was
    /// moved to this container's cgroup.
    Host,
}

/// The container that a process is in. All its processes share one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessContainer {
    /// Id of the container, or its name where the runtime has no ids.
    pub id: Arc<str>,
    /// Name of the container, once known. In Kubernetes, its name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Image of the container as passed to the engine, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Name of its Kubernetes pod, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// Kubernetes namespace of the pod, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
}

impl ProcessContainer {
    /// Returns a container of which only the id is known.
    pub fn new(id: Arc<str>) -> Self {
        Self { id, name: None, image: None, pod: None, namespace: None }
    }
}

/// The container that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id, or its name where the runtime has no ids.
    pub id: Arc<str>,
    /// Its name in the engine, once known. In Kubernetes, its name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Its image as passed to the engine, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Its host name, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// The engine that created it, if its cgroup shows that: `docker`, `podman`, `containerd`, `cri-o`, `runc`, `crun`,
    /// `lxc` and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Arc<str>>,
    /// The runtime that created it (`runc`, `crun`, …), where that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Arc<str>>,
    /// Uid of its Kubernetes pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Arc<str>>,
    /// Path of its control group.
    pub cgroup: Arc<str>,
    /// Its identity in Kubernetes, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// True while its control group is frozen, as by `docker pause`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Directory of its OCI bundle (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Arc<str>>,
    /// Its command, from its bundle (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Arguments>,
    /// The annotations of its bundle (`container_info`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Arc<BTreeMap<Arc<str>, Arc<str>>>>,
    /// How it exited, and what ran in it (`container_exit`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ContainerEnd>,
}

impl Container {
    /// Returns a container of which only the id and the cgroup are known.
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

/// Identity of a container in Kubernetes, from the annotations of its bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kubernetes {
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// Namespace of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// Its name in the pod. The pod's sandbox has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// Id of the pod's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<Arc<str>>,
}

/// How a container exited, and what ran in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerEnd {
    /// Exit code of its first process, if it exited normally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that killed its first process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// Id of its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_id: Option<ProcessId>,
    /// Time from the creation of its first process to the exit of that process, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ns: Option<u64>,
    /// Processes that were in it while it was traced. This includes processes of the runtime that prepared it, and
    /// processes from outside.
    pub processes: u64,
    /// Programs that were executed in it.
    pub execs: u64,
    /// CPU time in user mode of its exited processes, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel of its exited processes, nanoseconds.
    pub system_ns: u64,
    /// Largest resident set of any of its processes, bytes.
    pub max_rss_bytes: u64,
    /// Peak memory of its cgroup until its first process exited, bytes, page cache included (`memory.peak`, v1:
    /// `memory.max_usage_in_bytes`). Absent if the cgroup was removed before it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}
