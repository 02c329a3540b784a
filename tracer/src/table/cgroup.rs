//! Which control group a process is in, and which container that makes it part of.

use std::sync::Arc;

use tracer_common::record as raw;

use super::store::Slot;
use super::{Moment, Table};
use crate::enrich::info::Ask;
use crate::enrich::runtime_state::State;
use crate::enrich::{Cgroup, Container, below, oci};
use crate::event::Event;
use crate::proc::Seed;
use crate::record;

/// runc becomes `runc init`, and that makes two more, one after the other: so far is it from the command line.
const INITS: usize = 4;

impl Table {
    /// These cgroups are there: id and path.
    pub fn learn_cgroups(&mut self, cgroups: impl IntoIterator<Item = (u64, String)>) {
        for (id, path) in cgroups {
            self.learn_cgroup(id, &path);
        }
    }

    /// A cgroup has this path. It may have had another, which processes in it and below it then have no more.
    fn learn_cgroup(&mut self, id: u64, path: &str) {
        let Some(from) = self.cgroups.rename(id, path) else {
            self.cgroups.learn(id, path);
            return;
        };
        let slots: Vec<Slot> = self.store.living().collect();
        for slot in slots {
            let Some(known) = self.store[slot].cgroup.clone() else { continue };
            let Some(rest) = below(&known.path, &from) else { continue };
            let (cgroup, _) = self.cgroups.of_path(&format!("{path}{rest}"));
            let before = known.container.clone();
            // A container that no path shows is still that of the process.
            let container = cgroup.container.clone().or_else(|| before.clone());
            let cgroup = Cgroup { path: cgroup.path.clone(), unit: cgroup.unit.clone(), container };
            self.store[slot].cgroup = Some(Arc::new(cgroup));
            self.look_again_where(slot, before.as_deref());
        }
    }

    /// These cgroups are those of containers. To be told before the cgroups themselves.
    pub fn name_containers(&mut self, containers: impl IntoIterator<Item = State>) {
        for State { id, runtime, cgroup, bundle } in containers {
            self.cgroups.name_path(&cgroup, &id, runtime);
            if let Some(bundle) = bundle.filter(|_| !self.infos.contains_key(&*id)) {
                let (id, bundle, runtime) = (id.into(), Some(bundle.into()), Some(runtime.into()));
                self.ask(Ask::Look { id, bundle, runtime, pid: 0 });
            }
        }
    }

    /// Containers that runtimes are just making, as their command lines say.
    pub(super) fn name_by_runtimes(&mut self, seeds: &[Seed]) {
        for argv in seeds.iter().filter_map(|seed| seed.process.image.argv.as_ref()) {
            if let Some(line) = oci::read(argv).filter(|line| line.verb == oci::Verb::Create) {
                self.cgroups.name_after(line.id, line.runtime);
            }
        }
    }

    /// True if a record named a cgroup that nobody has told of, since this was last asked.
    pub fn wants_cgroups(&mut self) -> bool {
        self.cgroups.take_wanted()
    }

    pub(super) fn cgroup(&mut self, cgroup: &record::Cgroup, out: &mut Vec<Event>) {
        let record::Cgroup { raw, path } = cgroup;
        if raw.deed == raw::CGROUP_REMOVED {
            self.container_removed(raw.id, Moment::of(&raw.header), out);
            self.cgroups.remove(raw.id);
            return;
        }
        if !path.is_empty() {
            self.learn_cgroup(raw.id, path);
        }
        // Who makes a cgroup is nobody's first sight; who joins one is.
        let known = if raw.task.tgid == 0 { None } else { self.store.find(raw.task) };
        match raw.deed {
            raw::CGROUP_MADE => {
                if let Some(line) = known.and_then(|maker| self.runtime_line(maker))
                    && oci::is_named_after(path, &line.id)
                {
                    self.cgroups.name(raw.id, &line.id, line.runtime);
                }
                self.container_created(raw.id, known, Moment::of(&raw.header), out);
            }
            raw::CGROUP_JOINED => {
                let at = Moment::of(&raw.header);
                let Some(slot) = known.or_else(|| self.resolve(raw.task, at, out)) else { return };
                // A runtime puts the container's first process where it wants it.
                if let Some(line) = self.line_that_made(slot)
                    && self.cgroups.name(raw.id, &line.id, line.runtime).is_some()
                {
                    self.container_created(raw.id, None, at, out);
                }
                let before = self.container_of(slot);
                let entry = &mut self.store[slot];
                entry.cgroup = self.cgroups.get(raw.id);
                entry.ids.cgroup = raw.id;
                self.look_again_where(slot, before.as_deref());
            }
            _ => {}
        }
    }

    /// A process was found in a cgroup.
    pub(super) fn find_in_cgroup(&mut self, slot: Slot, found: &FoundIn) {
        let Some(path) = found.path.as_deref() else {
            self.set_cgroup(slot, found.id);
            if found.id != 0 {
                self.store[slot].ids.cgroup = found.id;
            }
            return;
        };
        // It may be known better than its path tells.
        if self.store[slot].cgroup.as_ref().is_some_and(|known| &*known.path == path) {
            return;
        }
        let (cgroup, id) = self.cgroups.of_path(path);
        let entry = &mut self.store[slot];
        entry.cgroup = Some(cgroup);
        entry.ids.cgroup = id.unwrap_or_default();
    }

    /// A record names the cgroup of a process.
    pub(super) fn set_cgroup(&mut self, slot: Slot, id: u64) {
        let entry = &self.store[slot];
        if entry.cgroup.is_some() && (id == entry.ids.cgroup || id == 0) {
            return;
        }
        if let Some(cgroup) = self.cgroups.get(id) {
            self.store[slot].cgroup = Some(cgroup);
        } else if self.store[slot].ids.cgroup != id && self.store[slot].ids.cgroup != 0 {
            // It is somewhere else now, nobody knows where.
            self.store[slot].cgroup = None;
        }
    }

    /// One that was born into a deeper pid namespace by a runtime, which is to make a container (or to run something in one),
    /// belongs to that. runc puts its child into the cgroup first; crun does after the birth.
    pub(super) fn born_into_container(&mut self, child: Slot, creator: Slot) {
        if self.depth(child) <= self.depth(creator) {
            return;
        }
        let Some(line) = self.line_above(creator) else { return };
        let entry = &mut self.store[child];
        let inside = entry.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        if inside.is_some_and(|container| *container.id == *line.id) {
            return;
        }
        let (path, unit) = match &entry.cgroup {
            Some(cgroup) => (cgroup.path.clone(), cgroup.unit.clone()),
            None => return,
        };
        let container = Container::new(&line.id, Some(line.runtime), None, path.clone());
        entry.cgroup = Some(Arc::new(Cgroup { path, unit, container: Some(container) }));
    }

    /// The command line by which a runtime made this process, to be the first of a container.
    fn line_that_made(&self, slot: Slot) -> Option<RuntimeLine> {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        self.runtime_line(slot).or_else(|| self.line_above(creator?))
    }

    /// The command line of a runtime, behind the `runc init` that it becomes.
    pub(super) fn line_above(&self, slot: Slot) -> Option<RuntimeLine> {
        let mut next = Some(slot);
        for _ in 0..INITS {
            let slot = next?;
            if let Some(line) = self.runtime_line(slot) {
                return Some(line);
            }
            self.store.image(slot).argv.as_ref().filter(|argv| oci::is_init(argv))?;
            let entry = &self.store[slot];
            next = entry.creator.or(entry.parent_id()).and_then(|above| self.store.by_id(above));
        }
        None
    }

    /// What a process was told to do, if it is a container runtime and that is about a container.
    fn runtime_line(&self, slot: Slot) -> Option<RuntimeLine> {
        let argv = self.store.image(slot).argv.as_ref()?;
        let line = oci::read(argv).filter(|line| matches!(line.verb, oci::Verb::Create | oci::Verb::Exec))?;
        Some(RuntimeLine { runtime: line.runtime, verb: line.verb, id: line.id.to_owned() })
    }
}

/// In which cgroup a process was found: `/proc` shows the path, the kernel side the id.
pub(super) struct FoundIn {
    path: Option<Arc<str>>,
    /// 0 if unknown.
    id: u64,
}

impl FoundIn {
    pub(super) fn of(seed: &Seed) -> Self {
        Self { path: seed.process.cgroup.clone(), id: seed.cgroup_id }
    }
}

/// An [`oci::Line`] that borrows nothing.
pub(super) struct RuntimeLine {
    runtime: &'static str,
    pub(super) verb: oci::Verb,
    id: String,
}
