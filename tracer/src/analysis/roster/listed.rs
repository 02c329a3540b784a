//! A line of the container table.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Container;
use crate::event::time::Timestamp;

/// Version of the shape of [`Listed`].
pub(super) const VERSION: u32 = 1;

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Its first process has exec'd the entrypoint.
    Running,
    /// It runs, and its processes are frozen (`docker pause`).
    Paused,
    /// It was created. Its entrypoint has not started yet.
    #[default]
    Created,
    /// Its first process has exited.
    Exited,
    /// It was removed without ever starting.
    Removed,
}

impl ContainerState {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Created => "created",
            Self::Exited => "exited",
            Self::Removed => "removed",
        }
    }
}

/// A container at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// Version of this shape, 1.
    pub v: u32,
    /// The time.
    pub time: Timestamp,
    /// The container. `container.end` says how it ended.
    pub container: Container,
    /// Its state.
    pub state: ContainerState,
    /// True once its cgroup was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// When its cgroup was created, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When its first process was forked. If it ran before and its first process is unknown: when its oldest was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Time from its start until now, or until its end, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_ns: Option<u64>,
    /// Processes in it now.
    pub processes: u64,
    /// Processes in it since its creation or since tracing began, including those of the runtime that prepared it.
    pub processes_ever: u64,
    /// Execs in it since then.
    pub execs_ever: u64,
    /// Execs per second in the interval.
    pub execs_per_second: f64,
    /// Length of the interval in nanoseconds, 0 for none.
    pub interval_ns: u64,
}

impl Listed {
    /// Returns its engine and its runtime, `docker/runc`, or one of the two.
    pub fn runtime(&self) -> Option<String> {
        let Container { engine, runtime, .. } = &self.container;
        match (engine, runtime) {
            (Some(engine), Some(runtime)) if engine != runtime => Some(format!("{engine}/{runtime}")),
            (Some(one), _) | (None, Some(one)) => Some(one.to_string()),
            (None, None) => None,
        }
    }

    /// Returns its Kubernetes pod: `NAMESPACE/NAME`, or the pod's uid while the name is unknown.
    pub fn pod(&self) -> Option<String> {
        let kubernetes = self.container.kubernetes.as_ref();
        let named = kubernetes.and_then(|kubernetes| {
            let pod = kubernetes.pod.as_deref()?;
            Some(kubernetes.namespace.as_ref().map_or_else(|| pod.to_owned(), |namespace| format!("{namespace}/{pod}")))
        });
        named.or_else(|| self.container.pod_uid.as_deref().map(ToOwned::to_owned))
    }

    /// Returns its exit code or signal. `None` if it has not ended, or its end was not seen.
    pub fn status(&self) -> Option<String> {
        let end = self.container.end.as_ref()?;
        end.signal.as_deref().map(ToOwned::to_owned).or_else(|| end.code.map(|code| code.to_string()))
    }

    /// Returns true if it ended with a code other than 0, or by a signal.
    pub fn failed(&self) -> bool {
        self.container.end.as_ref().is_some_and(|end| end.signal.is_some() || end.code.is_some_and(|code| code != 0))
    }

    /// Returns true if the text is its name, its id or the begin of its id.
    pub fn is_of(&self, container: &str) -> bool {
        self.container.id.starts_with(container) || self.container.name.as_deref() == Some(container)
    }

    /// Returns its name, or else its id.
    pub fn called(&self) -> &Arc<str> {
        self.container.name.as_ref().unwrap_or(&self.container.id)
    }
}
