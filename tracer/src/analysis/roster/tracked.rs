//! The tracked facts of one container.

use super::listed::{ContainerState, Listed, VERSION};
use crate::enrich::path;
use crate::event::id::TICK_NS;
use crate::event::time::Timestamp;
use crate::event::{Container, ContainerEnd, Event, Kubernetes, Process, ProcessContainer};

/// A point in time by both clocks. The wall clock may be set, so durations come from the boot clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) boot_ns: u64,
    pub(super) time: Timestamp,
}

impl Moment {
    /// Returns when an event happened.
    ///
    /// A snapshot event has no boot time, but its process has a start time by both clocks. `hello` and `bye` have neither.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let of_snapshot = || {
            let start = Self::of_snapshot(event.process.as_ref()?)?;
            Some(start.boot_ns.saturating_add_signed(event.time.0 - start.time.0))
        };
        let boot_ns = event.boot_ns.or_else(of_snapshot)?;
        Some(Self { boot_ns, time: event.time })
    }

    /// Returns when the process of an event at this moment started.
    pub(super) fn of_start(self, process: &Process) -> Option<Self> {
        let time = process.start_time?;
        Some(Self { boot_ns: self.boot_ns.saturating_add_signed(time.0 - self.time.0), time })
    }

    /// Returns when a process of the snapshot started. Its id holds the boot time.
    pub(super) fn of_snapshot(process: &Process) -> Option<Self> {
        Some(Self { boot_ns: process.id.start_ticks() * TICK_NS, time: process.start_time? })
    }
}

/// A container since its first event.
#[derive(Debug)]
pub(super) struct Tracked {
    container: Container,
    state: ContainerState,
    removed: bool,
    created: Option<Timestamp>,
    started: Option<Moment>,
    ended: Option<Moment>,
    /// Processes in it now.
    now: u64,
    /// Processes that were ever in it.
    ever: u64,
    execs_ever: u64,
    /// The number of an interval, and the execs in it.
    execs: (u64, u64),
}

impl Tracked {
    pub(super) fn new(container: Container) -> Self {
        Self {
            container,
            state: ContainerState::default(),
            removed: false,
            created: None,
            started: None,
            ended: None,
            now: 0,
            ever: 0,
            execs_ever: 0,
            execs: (0, 0),
        }
    }

    /// Takes in the cgroup of one of its processes, which names the engine.
    pub(super) fn learn_cgroup(&mut self, process: &Process) {
        let Some(cgroup) = process.cgroup.as_ref().filter(|_| self.container.cgroup.is_empty()) else { return };
        self.container.cgroup = cgroup.clone();
        if let Some(found) = path::read(cgroup).container.filter(|found| *found.id == *self.container.id) {
            self.container.cgroup = found.cgroup.into();
            self.container.engine = found.engine.map(Into::into);
            self.container.pod_uid = found.pod.as_deref().map(Into::into);
        }
    }

    /// Takes in the names from an event of one of its processes. Keeps what was known before.
    pub(super) fn learn_names(&mut self, shown: &ProcessContainer) {
        let known = &mut self.container;
        known.name = known.name.take().or_else(|| shown.name.clone());
        known.image = known.image.take().or_else(|| shown.image.clone());
        if known.kubernetes.is_none() && shown.pod.is_some() {
            let (pod, namespace) = (shown.pod.clone(), shown.namespace.clone());
            known.kubernetes = Some(Kubernetes { pod, namespace, ..Kubernetes::default() });
        }
    }

    /// Takes in an event about the container. Keeps what was known before.
    pub(super) fn learn(&mut self, about: &Container) {
        let known = std::mem::replace(&mut self.container, about.clone());
        let now = &mut self.container;
        now.name = now.name.take().or(known.name);
        now.image = now.image.take().or(known.image);
        now.hostname = now.hostname.take().or(known.hostname);
        now.engine = now.engine.take().or(known.engine);
        now.runtime = now.runtime.take().or(known.runtime);
        now.pod_uid = now.pod_uid.take().or(known.pod_uid);
        now.kubernetes = now.kubernetes.take().or(known.kubernetes);
        now.bundle = now.bundle.take().or(known.bundle);
        now.args = now.args.take().or(known.args);
        now.annotations = now.annotations.take().or(known.annotations);
        now.end = known.end;
    }

    /// Takes in its creation. Returns true if an ended container had the same id.
    pub(super) fn create(&mut self, at: Moment) -> bool {
        let again = self.is_gone();
        if again {
            let container = Container { end: None, ..self.container.clone() };
            *self = Self::new(container);
        }
        self.created = Some(at.time);
        again
    }

    pub(super) fn start(&mut self, at: Moment) {
        self.state = ContainerState::Running;
        self.started = Some(at);
    }

    /// Marks it as running. `forked` is the fork of one of its processes.
    pub(super) fn found_running(&mut self, forked: Option<Moment>) {
        if !self.is_gone() {
            self.state = ContainerState::Running;
        }
        self.started = match (self.started, forked) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn end(&mut self, at: Moment, end: Option<&ContainerEnd>) {
        self.state = ContainerState::Exited;
        self.ended = Some(at);
        if let Some(end) = end {
            // These also count what a filter or a loss hid here.
            (self.ever, self.execs_ever) = (end.processes, end.execs);
        }
        self.container.end = end.cloned();
    }

    pub(super) fn remove(&mut self, at: Moment) {
        self.removed = true;
        match self.state {
            ContainerState::Created => self.state = ContainerState::Removed,
            ContainerState::Running | ContainerState::Paused => self.state = ContainerState::Exited,
            ContainerState::Exited | ContainerState::Removed => {}
        }
        self.ended.get_or_insert(at);
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, ContainerState::Exited | ContainerState::Removed)
    }

    pub(super) const fn enter(&mut self) {
        self.now += 1;
        self.ever += 1;
    }

    pub(super) const fn leave(&mut self) {
        self.now = self.now.saturating_sub(1);
    }

    pub(super) const fn count_exec(&mut self, interval: u64) {
        if self.execs.0 != interval {
            self.execs = (interval, 0);
        }
        self.execs.1 += 1;
        self.execs_ever += 1;
    }

    pub(super) fn listed(&self, interval: u64, interval_ns: u64, now: Moment) -> Listed {
        let execs = if self.execs.0 == interval { self.execs.1 } else { 0 };
        let rate = if interval_ns == 0 { 0.0 } else { execs as f64 * 1e9 / interval_ns as f64 };
        let lifetime = self.container.end.as_ref().and_then(|end| end.lifetime_ns);
        let until = self.ended.unwrap_or(now);
        let up = self.started.map(|started| until.boot_ns.saturating_sub(started.boot_ns));
        Listed {
            v: VERSION,
            time: now.time,
            container: self.container.clone(),
            state: if self.state == ContainerState::Running && self.container.paused {
                ContainerState::Paused
            } else {
                self.state
            },
            removed: self.removed,
            created: self.created,
            started: self.started.map(|at| at.time),
            ended: self.ended.map(|at| at.time),
            up_ns: lifetime.or(up),
            processes: self.now,
            processes_ever: self.ever,
            execs_ever: self.execs_ever,
            // More digits are of no use.
            execs_per_second: (rate * 1000.0).round() / 1000.0,
            interval_ns,
        }
    }
}
