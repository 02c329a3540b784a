//! What is known of one container.

use super::listed::{Listed, State, VERSION};
use crate::enrich::path;
use crate::event::id::TICK_NS;
use crate::event::time::Timestamp;
use crate::event::{Container, ContainerEnd, Event, Kubernetes, Process, ProcessContainer};

/// A point in time by both clocks: the wall clock may be set, and durations come from the boot clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) boot_ns: u64,
    pub(super) time: Timestamp,
}

impl Moment {
    /// When an event happened. A line of the snapshot has no time of the boot clock, but its process has a start by both;
    /// lines that frame a stream have neither.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let of_snapshot = || {
            let start = Self::of_snapshot(event.process.as_ref()?)?;
            Some(start.boot_ns.saturating_add_signed(event.time.0 - start.time.0))
        };
        let boot_ns = event.boot_ns.or_else(of_snapshot)?;
        Some(Self { boot_ns, time: event.time })
    }

    /// When the process of an event of this moment started.
    pub(super) fn of_start(self, process: &Process) -> Option<Self> {
        let time = process.start_time?;
        Some(Self { boot_ns: self.boot_ns.saturating_add_signed(time.0 - self.time.0), time })
    }

    /// When a process of the snapshot started: its id has the time of the boot clock.
    pub(super) fn of_snapshot(process: &Process) -> Option<Self> {
        Some(Self { boot_ns: process.id.start_ticks() * TICK_NS, time: process.start_time? })
    }
}

/// A container, from when it was first heard of.
#[derive(Debug)]
pub(super) struct Life {
    container: Container,
    state: State,
    removed: bool,
    created: Option<Timestamp>,
    started: Option<Moment>,
    ended: Option<Moment>,
    now: u64,
    ever: u64,
    execs_ever: u64,
    /// Of the interval of that number.
    execs: (u64, u64),
}

impl Life {
    /// One of which a line tells.
    pub(super) fn new(container: Container) -> Self {
        Self {
            container,
            state: State::default(),
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

    /// A process is in it by its cgroup, which tells what made it.
    pub(super) fn learn_cgroup(&mut self, process: &Process) {
        let Some(cgroup) = process.cgroup.as_ref().filter(|_| self.container.cgroup.is_empty()) else { return };
        self.container.cgroup = cgroup.clone();
        if let Some(found) = path::read(cgroup).container.filter(|found| *found.id == *self.container.id) {
            self.container.cgroup = found.cgroup.into();
            self.container.engine = found.engine.map(Into::into);
            self.container.pod_uid = found.pod.as_deref().map(Into::into);
        }
    }

    /// What the line of a process in it says. Nothing that was known is forgotten.
    pub(super) fn learn_names(&mut self, shown: &ProcessContainer) {
        let known = &mut self.container;
        known.name = known.name.take().or_else(|| shown.name.clone());
        known.image = known.image.take().or_else(|| shown.image.clone());
        if known.kubernetes.is_none() && shown.pod.is_some() {
            let (pod, namespace) = (shown.pod.clone(), shown.namespace.clone());
            known.kubernetes = Some(Kubernetes { pod, namespace, ..Kubernetes::default() });
        }
    }

    /// What a line about it says. Nothing that was known is forgotten.
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

    /// It was made. True if another of this id had ended before.
    pub(super) fn begin_anew(&mut self, at: Moment) -> bool {
        let again = self.is_gone();
        if again {
            let container = Container { end: None, ..self.container.clone() };
            *self = Self::new(container);
        }
        self.created = Some(at.time);
        again
    }

    pub(super) fn start(&mut self, at: Moment) {
        self.state = State::Running;
        self.started = Some(at);
    }

    /// It ran before, and this is when one of its processes was born.
    pub(super) fn found_running(&mut self, born: Option<Moment>) {
        if !self.is_gone() {
            self.state = State::Running;
        }
        self.started = match (self.started, born) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn end(&mut self, at: Moment, end: Option<&ContainerEnd>) {
        self.state = State::Exited;
        self.ended = Some(at);
        if let Some(end) = end {
            // Whatever a filter or a loss kept from us.
            (self.ever, self.execs_ever) = (end.processes, end.execs);
        }
        self.container.end = end.cloned();
    }

    pub(super) fn remove(&mut self, at: Moment) {
        self.removed = true;
        match self.state {
            State::Created => self.state = State::Removed,
            State::Running | State::Paused => self.state = State::Exited,
            State::Exited | State::Removed => {}
        }
        self.ended.get_or_insert(at);
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, State::Exited | State::Removed)
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
            state: if self.state == State::Running && self.container.paused { State::Paused } else { self.state },
            removed: self.removed,
            created: self.created,
            started: self.started.map(|at| at.time),
            ended: self.ended.map(|at| at.time),
            up_ns: lifetime.or(up),
            processes: self.now,
            processes_ever: self.ever,
            execs_ever: self.execs_ever,
            // No more than anybody can use.
            execs_per_second: (rate * 1000.0).round() / 1000.0,
            interval_ns,
        }
    }
}
