//! The life of containers: made, started, entered, ended, removed; and what ran in them.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::entry::boot_to_utc;
use super::store::Slot;
use super::{Moment, Table, info};
use crate::enrich::Container;
use crate::enrich::info::Ask;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{self, ContainerEnd, Detail, Event, Origin, ProcessContainer};

/// Containers by id.
pub(super) type Lives = FxHashMap<Arc<str>, Life>;

/// A step in the life of a container, which becomes a line.
pub(super) enum Step {
    Create,
    Info,
    Start,
    Exec,
    Exit(ContainerEnd),
    Remove,
}

/// What is known of a container that is there.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Arc<Container>,
    /// What the lines of its processes say about it.
    pub(super) shown: Arc<ProcessContainer>,
    /// Its first process, once that has become the entrypoint.
    pub(super) init: Option<(ProcessId, u64)>,
    /// Numbers of the mount and the pid namespace of that, while it lives; 0 for one that is not the container's own.
    pub(super) namespaces: [u32; 2],
    /// How that ended, once it has: its status, if that was seen, and when.
    ended: Option<(Option<u32>, u64)>,
    /// Its making was told, or it was there before.
    pub(super) created: bool,
    /// Its end was told.
    told: bool,
    /// All was looked for that there will be, or nobody looks.
    answered: bool,
    /// When it ended, and when its cgroup was removed, while that is not told because an answer is waited for.
    waiting: Option<Moment>,
    removed: Option<Moment>,
    /// It has no cgroup of its own: it goes with the last of its processes.
    bare: bool,
    /// When the last question about it was handed out.
    pub(super) asked_ns: Option<u64>,
    living: u64,
    pub(super) sums: ContainerEnd,
}

impl Life {
    /// True from when it was made until its cgroup is removed: no runtime makes another of this id.
    pub(super) fn is_there(&self) -> bool {
        self.created && self.removed.is_none()
    }

    /// Since when its end waits for an answer.
    pub(super) fn waits_since(&self) -> Option<u64> {
        let ended_ns = self.waiting.or(self.removed)?.boot_ns;
        Some(self.asked_ns.map_or(ended_ns, |asked_ns| asked_ns.max(ended_ns)))
    }
}

impl Table {
    /// The container of a process.
    pub(super) fn container_of(&self, slot: Slot) -> Option<Arc<Container>> {
        self.store[slot].cgroup.as_ref()?.container.clone()
    }

    /// A process has come into a container, or gone from one into another.
    pub(super) fn count_in(&mut self, slot: Slot, before: Option<&Container>) {
        let now = self.container_of(slot);
        if now.as_ref().map(|container| &container.id) == before.map(|container| &container.id) {
            return;
        }
        if let Some(life) = before.and_then(|container| self.lives.get_mut(&container.id)) {
            life.living = life.living.saturating_sub(1);
        }
        if let Some(container) = now {
            let life = self.life(&container);
            life.living += 1;
            life.sums.processes += 1;
        }
    }

    fn life(&mut self, container: &Arc<Container>) -> &mut Life {
        let info = self.infos.get(&container.id);
        self.lives.entry(container.id.clone()).or_insert_with(|| Life {
            container: container.clone(),
            shown: info.map_or_else(|| container.shown.clone(), |info| Arc::new(info::shown(&container.id, info))),
            init: None,
            namespaces: [0; 2],
            ended: None,
            created: false,
            told: false,
            answered: false,
            waiting: None,
            bare: false,
            asked_ns: None,
            removed: None,
            living: 0,
            sums: ContainerEnd::default(),
        })
    }

    /// A process that was there already is in a container, which is there too.
    pub(super) fn find_container(&mut self, slot: Slot) {
        let Some(container) = self.container_of(slot) else { return };
        if self.store[slot].is_living() {
            self.count_in(slot, None);
        }
        if !std::mem::replace(&mut self.life(&container).created, true) {
            self.ask_for(&container);
        }
    }

    fn ask_for(&mut self, container: &Container) {
        let (id, cgroup) = (container.id.clone(), Some(container.cgroup.clone()));
        self.ask(Ask::Look { id, cgroup, bundle: None, runtime: None });
    }

    /// A process is the first of its container. False if there is one already.
    pub(super) fn begin_life(&mut self, slot: Slot, container: &Arc<Container>) -> bool {
        let begun = (self.store[slot].id(), self.store[slot].start_ns);
        let life = self.life(container);
        if life.init.is_some() {
            return false;
        }
        life.init = Some(begun);
        self.keep_namespaces(slot, container);
        true
    }

    /// A cgroup was made or named: if it is a container's own, that has been created.
    pub(super) fn container_created(&mut self, id: u64, maker: Option<Slot>, at: Moment, out: &mut Vec<Event>) {
        let cgroup = self.cgroups.get(id);
        let Some(container) = cgroup.as_ref().and_then(|cgroup| cgroup.container.clone()) else { return };
        if cgroup.is_none_or(|cgroup| cgroup.path != container.cgroup) {
            return;
        }
        if self.lives.get(&container.id).is_some_and(|life| life.removed.is_some()) {
            // Another of the same id: the end of that one waits no longer.
            self.stop_waiting(&container.id, out);
        }
        let life = self.life(&container);
        if std::mem::replace(&mut life.created, true) {
            return;
        }
        // It may have been known by its runtime's word only.
        life.container = container.clone();
        self.tell_container(Step::Create, &container, maker, at, out);
        self.tell_info(&container.id, at, out);
        self.ask_for(&container);
    }

    /// A container starts whose making was not seen: its engine does without a cgroup (`podman --cgroups=disabled`).
    fn create_bare(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        let own = |cgroup: &str| self.cgroups.is_of(cgroup, &container.id);
        let bare = !own(&container.cgroup);
        let life = self.life(container);
        if !bare || std::mem::replace(&mut life.created, true) {
            return;
        }
        life.bare = true;
        self.tell_container(Step::Create, container, None, at, out);
        self.tell_info(&container.id, at, out);
    }

    /// A process in a container has another image: the entrypoint's, or that of a program that was put into it.
    pub(super) fn container_execed(&mut self, slot: Slot, at: Moment, out: &mut Vec<Event>) {
        let Some(container) = self.container_of(slot) else { return };
        if self.is_runtime_init(slot) {
            return;
        }
        let (id, execs) = (self.store[slot].id(), self.store[slot].execs);
        let life = self.life(&container);
        life.sums.execs += 1;
        let started = life.init;
        let origin = self.store[slot]
            .origin
            .or_else(|| self.origin_by_exec(slot).filter(|origin| *origin != Origin::Entrypoint || started.is_none()));
        self.store[slot].origin = origin;
        let step = match (origin, started) {
            (Some(Origin::Entrypoint), None) if self.is_first(slot) => {
                self.create_bare(&container, at, out);
                self.begin_life(slot, &container);
                Step::Start
            }
            (Some(Origin::Exec), _) if execs == 1 => Step::Exec,
            (_, Some((init, _))) if init == id => {
                // It may be in other ones by now.
                self.keep_namespaces(slot, &container);
                return;
            }
            _ => return,
        };
        // A child of what was put into it execs for the first time too; only one from outside was put there.
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        if matches!(step, Step::Exec) && creator.is_some_and(|creator| self.store[creator].origin == origin) {
            return;
        }
        self.tell_container(step, &container, Some(slot), at, out);
    }

    /// False for what descends from a container's first process: hooks run before that has become the entrypoint.
    fn is_first(&self, slot: Slot) -> bool {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        creator.is_none_or(|creator| self.store[creator].origin != Some(Origin::Entrypoint))
    }

    /// A process in a container has ended: with the first one, and the last of the others, the container has.
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
        let Some(life) = self.lives.get_mut(&container.id) else { return };
        life.living = life.living.saturating_sub(1);
        life.sums.user_ns += usage.user_ns;
        life.sums.system_ns += usage.system_ns;
        life.sums.max_rss_bytes = life.sums.max_rss_bytes.max(usage.max_rss_bytes);
        let (none_left, bare) = (life.living == 0, life.bare);
        // The cgroup of one that has none is others' too.
        let own = Some(life.container.cgroup.clone()).filter(|_| !bare);
        if life.init.is_some_and(|(init, _)| init == id) {
            life.ended = Some((status, at.boot_ns));
            self.ask(Ask::Last { id: container.id.clone(), cgroup: own });
            self.forget_namespaces(&container.id);
        }
        if none_left {
            self.tell_end(&container, at, out);
            let ended = self.lives.get(&container.id).is_some_and(|life| life.ended.is_some());
            if bare && ended {
                self.remove(&container, at, out);
            }
        }
    }

    /// The cgroup of a container was removed: it is no more.
    pub(super) fn container_removed(&mut self, cgroup: u64, at: Moment, out: &mut Vec<Event>) {
        let Some(cgroup) = self.cgroups.get(cgroup) else { return };
        let Some(container) = cgroup.container.clone().filter(|container| container.cgroup == cgroup.path) else {
            return;
        };
        if self.lives.contains_key(&container.id) {
            self.tell_end(&container, at, out);
            self.remove(&container, at, out);
        }
    }

    /// Tells that a container is no more, after its end.
    fn remove(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        if let Some(life) = self.lives.get_mut(&container.id).filter(|life| life.waiting.is_some()) {
            life.removed = Some(at);
            return;
        }
        self.forget_namespaces(&container.id);
        self.lives.remove(&container.id);
        self.tell_container(Step::Remove, container, None, at, out);
        self.infos.remove(&container.id);
        self.bundles_by.remove(&container.id);
        self.ask(Ask::Forget { id: container.id.clone() });
    }

    /// All that can be found out of a container is known: its end waits for nothing any more.
    pub(super) fn stop_waiting(&mut self, id: &str, out: &mut Vec<Event>) {
        let Some(life) = self.lives.get_mut(id) else { return };
        life.answered = true;
        let (container, ended, removed) = (life.container.clone(), life.waiting.take(), life.removed.take());
        if let Some(at) = ended {
            self.tell_end(&container, at, out);
        }
        if let Some(at) = removed {
            self.remove(&container, at, out);
        }
    }

    /// Tells the end once, if the first process has ended.
    fn tell_end(&mut self, container: &Arc<Container>, at: Moment, out: &mut Vec<Event>) {
        let Some(life) = self.lives.get_mut(&container.id) else { return };
        let (Some((status, ended_ns)), Some((init, start_ns)), false) = (life.ended, life.init, life.told) else {
            return;
        };
        if self.options.look_up && !life.answered {
            life.waiting.get_or_insert(at);
            return;
        }
        life.told = true;
        let how = status.map(super::apply::status).unwrap_or_default();
        let end = ContainerEnd {
            code: how.code,
            signal: how.signal,
            init_id: Some(init),
            lifetime_ns: Some(ended_ns.saturating_sub(start_ns)),
            ..life.sums.clone()
        };
        let container = life.container.clone();
        self.tell_container(Step::Exit(end), &container, None, at, out);
    }

    pub(super) fn tell_container(
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
            self.tell(detail, slot, at, out);
        } else {
            let time = Timestamp(boot_to_utc(at.boot_ns, self.options.utc_minus_boot_ns));
            let (boot_ns, cpu) = (at.cpu.map(|_| at.boot_ns), at.cpu);
            out.push(Event { boot_ns, cpu, ..Event::new(detail, time) });
        }
    }
}
