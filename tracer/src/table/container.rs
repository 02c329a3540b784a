//! The lifecycle of containers (create, start, exec, exit, remove), and totals of their processes.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::entry::boot_to_utc;
use super::store::Slot;
use super::{Moment, Table, info};
use crate::enrich::Container;
use crate::enrich::info::InfoRequest;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{self, ContainerEnd, Detail, Event, Origin, ProcessContainer};

/// Containers by id.
pub(super) type Lifecycles = FxHashMap<Arc<str>, Lifecycle>;

/// A step in the lifecycle of a container. Each step is one event.
pub(super) enum Step {
    Create,
    Info,
    Start,
    Exec,
    Exit(ContainerEnd),
    Remove,
}

/// What is known about an existing container.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) container: Arc<Container>,
    /// How the events of its processes show it.
    pub(super) summary: Arc<ProcessContainer>,
    /// Its first process, once that has executed the entrypoint.
    pub(super) init: Option<(ProcessId, u64)>,
    /// Numbers of that process's mount and pid namespace while it lives. 0 for a namespace that the container shares.
    pub(super) namespaces: [u32; 2],
    /// How that process exited: its status, if seen, and when.
    ended: Option<(Option<u32>, u64)>,
    /// Its creation was reported, or it existed before tracing began.
    pub(super) created: bool,
    /// Its exit was reported.
    exit_reported: bool,
    /// No more replies will come, or lookups are off.
    complete: bool,
    /// When it exited, and when its cgroup was removed. Set while those events wait for a reply.
    waiting: Option<Moment>,
    removed: Option<Moment>,
    /// It has no separate cgroup: it is removed with its last process.
    bare: bool,
    /// When the last request about it was handed out.
    pub(super) requested_ns: Option<u64>,
    living: u64,
    pub(super) sums: ContainerEnd,
}

impl Lifecycle {
    /// Returns true from creation until its cgroup is removed. In that time no runtime creates another with this id.
    pub(super) fn exists(&self) -> bool {
        self.created && self.removed.is_none()
    }

    /// Returns since when its exit event has waited for a reply.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let ended_ns = self.waiting.or(self.removed)?.boot_ns;
        Some(self.requested_ns.map_or(ended_ns, |requested_ns| requested_ns.max(ended_ns)))
    }
}

impl Table {
    /// Returns the container of a process.
    pub(super) fn container_of(&self, slot: Slot) -> Option<Arc<Container>> {
        self.store[slot].cgroup.as_ref()?.container.clone()
    }

    /// Counts a process that entered a container, or moved from one to another.
    pub(super) fn count_process(&mut self, slot: Slot, before: Option<&Container>) {
        let now = self.container_of(slot);
        if now.as_ref().map(|container| &container.id) == before.map(|container| &container.id) {
            return;
        }
        if let Some(lifecycle) = before.and_then(|container| self.containers.get_mut(&container.id)) {
            lifecycle.living = lifecycle.living.saturating_sub(1);
        }
        if let Some(container) = now {
            let lifecycle = self.lifecycle(&container);
            lifecycle.living += 1;
            lifecycle.sums.processes += 1;
        }
    }

    fn lifecycle(&mut self, container: &Arc<Container>) -> &mut Lifecycle {
        let info = self.infos.get(&container.id);
        self.containers.entry(container.id.clone()).or_insert_with(|| Lifecycle {
            container: container.clone(),
            summary: info
                .map_or_else(|| container.summary.clone(), |info| Arc::new(info::summary(&container.id, info))),
            init: None,
            namespaces: [0; 2],
            ended: None,
            created: false,
            exit_reported: false,
            complete: false,
            waiting: None,
            bare: false,
            requested_ns: None,
            removed: None,
            living: 0,
            sums: ContainerEnd::default(),
        })
    }

    /// Counts a process that was found in an existing container.
    pub(super) fn find_container(&mut self, slot: Slot) {
        let Some(container) = self.container_of(slot) else { return };
        if self.store[slot].is_living() {
            self.count_process(slot, None);
        }
        if !std::mem::replace(&mut self.lifecycle(&container).created, true) {
            self.request_info(&container);
        }
    }

    fn request_info(&mut self, container: &Container) {
        let (id, cgroup) = (container.id.clone(), Some(container.cgroup.clone()));
        self.request(InfoRequest::LookUp { id, cgroup, bundle: None, runtime: None });
    }

    /// Records the first process of a container. Returns false if it already has one.
    pub(super) fn begin_lifecycle(&mut self, slot: Slot, container: &Arc<Container>) -> bool {
        let begun = (self.store[slot].id(), self.store[slot].start_ns);
        let lifecycle = self.lifecycle(container);
        if lifecycle.init.is_some() {
            return false;
        }
        lifecycle.init = Some(begun);
        self.keep_namespaces(slot, container);
        true
    }

    /// Reports a container whose own cgroup was created or named.
    pub(super) fn container_created(&mut self, id: u64, maker: Option<Slot>, at: Moment, out: &mut Vec<Event>) {
        let cgroup = self.cgroups.get(id);
        let Some(container) = cgroup.as_ref().and_then(|cgroup| cgroup.container.clone()) else { return };
        if cgroup.is_none_or(|cgroup| cgroup.path != container.cgroup) {
            return;
        }
        if self.containers.get(&container.id).is_some_and(|lifecycle| lifecycle.removed.is_some()) {
            // Another container with the same id: the exit of the earlier one waits no longer.
            self.stop_waiting(&container.id, out);
        }
        let lifecycle = self.lifecycle(&container);
        if std::mem::replace(&mut lifecycle.created, true) {
            return;
        }
        // It may so far be known only from its runtime's command line.
        lifecycle.container = container.clone();
        self.report_container(Step::Create, &container, maker, at, out);
        self.report_info(&container.id, at, out);
        self.request_info(&container);
    }

    /// Reports the creation of a container that starts without its own cgroup (`podman --cgroups=disabled`).
    fn create_bare(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        let own = |cgroup: &str| self.cgroups.is_of(cgroup, &container.id);
        let bare = !own(&container.cgroup);
        let lifecycle = self.lifecycle(container);
        if !bare || std::mem::replace(&mut lifecycle.created, true) {
            return;
        }
        lifecycle.bare = true;
        self.report_container(Step::Create, container, None, at, out);
        self.report_info(&container.id, at, out);
    }

    /// Handles an exec in a container: of its entrypoint, or of a program that was started in it.
    pub(super) fn container_execed(&mut self, slot: Slot, at: Moment, out: &mut Vec<Event>) {
        let Some(container) = self.container_of(slot) else { return };
        if self.is_runtime_init(slot) {
            return;
        }
        let (id, execs) = (self.store[slot].id(), self.store[slot].execs);
        let lifecycle = self.lifecycle(&container);
        lifecycle.sums.execs += 1;
        let started = lifecycle.init;
        let origin = self.store[slot]
            .origin
            .or_else(|| self.origin_by_exec(slot).filter(|origin| *origin != Origin::Entrypoint || started.is_none()));
        self.store[slot].origin = origin;
        let step = match (origin, started) {
            (Some(Origin::Entrypoint), None) if self.is_first(slot) => {
                self.create_bare(&container, at, out);
                self.begin_lifecycle(slot, &container);
                Step::Start
            }
            (Some(Origin::Exec), _) if execs == 1 => Step::Exec,
            (_, Some((init, _))) if init == id => {
                // It may have changed namespaces.
                self.keep_namespaces(slot, &container);
                return;
            }
            _ => return,
        };
        // Children of an injected program also exec for the first time. Only a process from outside was injected.
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        if matches!(step, Step::Exec) && creator.is_some_and(|creator| self.store[creator].origin == origin) {
            return;
        }
        self.report_container(step, &container, Some(slot), at, out);
    }

    /// Returns false for descendants of a container's first process: hooks run before it executes the entrypoint.
    fn is_first(&self, slot: Slot) -> bool {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        creator.is_none_or(|creator| self.store[creator].origin != Some(Origin::Entrypoint))
    }

    /// Handles an exit in a container. The container exits with its first process, once all others have exited too.
    pub(super) fn container_exited(
        &mut self,
        slot: Slot,
        status: Option<u32>,
        usage: &event::Usage,
        at: Moment,
        out: &mut Vec<Event>,
    ) {
        let Some(container) = self.container_of(slot) else { return };
        let id = self.store[slot].id();
        let Some(lifecycle) = self.containers.get_mut(&container.id) else { return };
        lifecycle.living = lifecycle.living.saturating_sub(1);
        lifecycle.sums.user_ns += usage.user_ns;
        lifecycle.sums.system_ns += usage.system_ns;
        lifecycle.sums.max_rss_bytes = lifecycle.sums.max_rss_bytes.max(usage.max_rss_bytes);
        let (none_left, bare) = (lifecycle.living == 0, lifecycle.bare);
        // A container without its own cgroup shares one with other processes.
        let own = Some(lifecycle.container.cgroup.clone()).filter(|_| !bare);
        if lifecycle.init.is_some_and(|(init, _)| init == id) {
            lifecycle.ended = Some((status, at.boot_ns));
            self.request(InfoRequest::Final { id: container.id.clone(), cgroup: own });
            self.forget_namespaces(&container.id);
        }
        if none_left {
            self.report_exit(&container, at, out);
            let ended = self.containers.get(&container.id).is_some_and(|lifecycle| lifecycle.ended.is_some());
            if bare && ended {
                self.remove(&container, at, out);
            }
        }
    }

    /// Handles the removal of a container's cgroup: the container no longer exists.
    pub(super) fn container_removed(&mut self, cgroup: u64, at: Moment, out: &mut Vec<Event>) {
        let Some(cgroup) = self.cgroups.get(cgroup) else { return };
        let Some(container) = cgroup.container.clone().filter(|container| container.cgroup == cgroup.path) else {
            return;
        };
        if self.containers.contains_key(&container.id) {
            self.report_exit(&container, at, out);
            self.remove(&container, at, out);
        }
    }

    /// Reports the removal of a container, after its exit.
    fn remove(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        if let Some(lifecycle) = self.containers.get_mut(&container.id).filter(|lifecycle| lifecycle.waiting.is_some())
        {
            lifecycle.removed = Some(at);
            return;
        }
        self.forget_namespaces(&container.id);
        self.containers.remove(&container.id);
        self.report_container(Step::Remove, container, None, at, out);
        self.infos.remove(&container.id);
        self.bundles_by.remove(&container.id);
        self.request(InfoRequest::Forget { id: container.id.clone() });
    }

    /// Stops waiting for details of a container, and reports its exit and removal.
    pub(super) fn stop_waiting(&mut self, id: &str, out: &mut Vec<Event>) {
        let Some(lifecycle) = self.containers.get_mut(id) else { return };
        lifecycle.complete = true;
        let (container, ended, removed) =
            (lifecycle.container.clone(), lifecycle.waiting.take(), lifecycle.removed.take());
        if let Some(at) = ended {
            self.report_exit(&container, at, out);
        }
        if let Some(at) = removed {
            self.remove(&container, at, out);
        }
    }

    /// Reports the exit once, if the first process has exited.
    fn report_exit(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        let Some(lifecycle) = self.containers.get_mut(&container.id) else { return };
        let (Some((status, ended_ns)), Some((init, start_ns)), false) =
            (lifecycle.ended, lifecycle.init, lifecycle.exit_reported)
        else {
            return;
        };
        if self.options.look_up && !lifecycle.complete {
            lifecycle.waiting.get_or_insert(at);
            return;
        }
        lifecycle.exit_reported = true;
        let how = status.map(super::apply::status).unwrap_or_default();
        let end = ContainerEnd {
            code: how.code,
            signal: how.signal,
            init_id: Some(init),
            lifetime_ns: Some(ended_ns.saturating_sub(start_ns)),
            ..lifecycle.sums.clone()
        };
        let container = lifecycle.container.clone();
        self.report_container(Step::Exit(end), &container, None, at, out);
    }

    pub(super) fn report_container(
        &self,
        step: Step,
        of: &Container,
        process: Option<Slot>,
        at: Moment,
        out: &mut Vec<Event>,
    ) {
        let mut container = Box::new(event::Container {
            engine: of.engine.clone(),
            pod_uid: of.pod.clone(),
            ..event::Container::new(of.id.clone(), of.cgroup.clone())
        });
        if let Some(info) = self.infos.get(&of.id) {
            info::fill(&mut container, info, matches!(step, Step::Info));
        }
        let detail = match step {
            Step::Create => Detail::ContainerCreate(container),
            Step::Info => Detail::ContainerInfo(container),
            Step::Start => Detail::ContainerStart(container),
            Step::Exec => Detail::ContainerExec(container),
            Step::Exit(end) => {
                container.end = Some(end);
                Detail::ContainerExit(container)
            }
            Step::Remove => Detail::ContainerRemove(container),
        };
        if let Some(slot) = process.filter(|&slot| self.store[slot].is_living()) {
            self.report(detail, slot, at, out);
        } else {
            let time = Timestamp(boot_to_utc(at.boot_ns, self.options.utc_minus_boot_ns));
            let (boot_ns, cpu) = (at.cpu.map(|_| at.boot_ns), at.cpu);
            out.push(Event { boot_ns, cpu, ..Event::new(detail, time) });
        }
    }
}
