//! What is told of a container at one time.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Container;
use crate::event::time::Timestamp;

/// Version of the shape of [`Listed`].
pub(super) const VERSION: u32 = 1;

/// How far a container has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its first process has become its entrypoint.
    Running,
    /// It runs, and its processes are frozen (`docker pause`).
    Paused,
    /// It was made; its entrypoint is not started yet.
    #[default]
    Created,
    /// Its first process has ended.
    Exited,
    /// It was removed and had never been started.
    Removed,
}

impl State {
    /// Its name.
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
    /// The container; how it ended is in `container.end`.
    pub container: Container,
    /// How far it has come.
    pub state: State,
    /// True once its cgroup was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// When its cgroup was made, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When its first process was born; of one that ran already and whose first process is not known, its oldest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Time from its start until now, or until its end, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_ns: Option<u64>,
    /// Processes that are in it.
    pub processes: u64,
    /// Processes that were in it since it was made or tracing began, those of the runtime that prepared it included.
    pub processes_ever: u64,
    /// Programs that were started in it since then.
    pub execs_ever: u64,
    /// The same a second, in the interval.
    pub execs_per_second: f64,
    /// How long the interval was, in nanoseconds; 0 for none.
    pub interval_ns: u64,
}

impl Listed {
    /// What made it and what runs it: `docker/runc`, or one of the two.
    pub fn runtime(&self) -> Option<String> {
        let Container { engine, runtime, .. } = &self.container;
        match (engine, runtime) {
            (Some(engine), Some(runtime)) if engine != runtime => Some(format!("{engine}/{runtime}")),
            (Some(one), _) | (None, Some(one)) => Some(one.to_string()),
            (None, None) => None,
        }
    }

    /// Its pod: in Kubernetes `NAMESPACE/NAME`, or the pod's uid as long as no more is known.
    pub fn pod(&self) -> Option<String> {
        let kubernetes = self.container.kubernetes.as_ref();
        let named = kubernetes.and_then(|kubernetes| {
            let pod = kubernetes.pod.as_deref()?;
            Some(kubernetes.namespace.as_ref().map_or_else(|| pod.to_owned(), |namespace| format!("{namespace}/{pod}")))
        });
        named.or_else(|| self.container.pod_uid.as_deref().map(ToOwned::to_owned))
    }

    /// How it ended, once it has: its exit code, or the signal. None as well if nobody saw that.
    pub fn status(&self) -> Option<String> {
        let end = self.container.end.as_ref()?;
        end.signal.as_deref().map(ToOwned::to_owned).or_else(|| end.code.map(|code| code.to_string()))
    }

    /// True if it ended with another code than 0, or by a signal.
    pub fn failed(&self) -> bool {
        self.container.end.as_ref().is_some_and(|end| end.signal.is_some() || end.code.is_some_and(|code| code != 0))
    }

    /// True if it is meant by a name or an id, or how that begins.
    pub fn is_of(&self, container: &str) -> bool {
        self.container.id.starts_with(container) || self.container.name.as_deref() == Some(container)
    }

    /// What it is called: its name, or else its id.
    pub fn called(&self) -> &Arc<str> {
        self.container.name.as_ref().unwrap_or(&self.container.id)
    }
}
