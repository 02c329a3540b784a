//! Which control group a process is in, and which container that makes it part of.

use std::sync::Arc;

use tracer_common::record as raw;

use super::store::Slot;
use super::{Moment, Table};
use crate::enrich::info::{Ask, Bundle};
use crate::enrich::runtime_state::State;
use crate::enrich::{Cgroup, Container, below, oci};
use crate::event::Event;
use crate::event::id::ProcessId;
use crate::proc::Seed;
use crate::record;

/// No process: the first pid is 1.
const GONE: ProcessId = ProcessId::from_ticks(0, 0);

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

    /// These cgroups are those of containers. To be called before [`Table::learn_cgroups`].
    pub fn name_containers(&mut self, containers: impl IntoIterator<Item = State>) {
        for State { id, runtime, cgroup, bundle } in containers {
            self.cgroups.name_path(&cgroup, &id, Some(runtime));
            if let Some(bundle) = bundle.filter(|_| !self.infos.contains_key(&*id)) {
                // A process that is gone: the path means what it means to tracer.
                let bundle = Some(Bundle { path: bundle.into(), runtime: GONE, within: None });
                self.ask(Ask::Look { id: id.into(), cgroup: None, bundle, runtime: Some(runtime.into()) });
            }
        }
    }

    /// Containers that runtimes of root are just making, as their command lines say.
    pub(super) fn name_by_runtimes(&mut self, seeds: &[Seed]) {
        for seed in seeds {
            let process = &seed.process;
            let by_root = process.uid == Some(0) && process.euid.is_none_or(|euid| euid == 0);
            if let Some(argv) = process.image.argv.as_ref().filter(|_| by_root)
                && let Some(line) = oci::read(argv).filter(|line| line.verb == oci::Verb::Create)
                && oci::is_program_of(process.image.exe.as_deref(), line.runtime)
            {
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
        // A process that makes a cgroup is not reported for that; one that joins is.
        let known = if raw.task.tgid == 0 { None } else { self.store.find(raw.task) };
        match raw.deed {
            raw::CGROUP_MADE => {
                let line = known.and_then(|maker| self.runtime_line(maker));
                if let Some(line) = &line
                    && oci::is_named_after(path, &line.id)
                {
                    self.cgroups.name(raw.id, &line.id, Some(line.runtime));
                }
                self.confirm(raw.id, line.as_ref());
                self.container_created(raw.id, known, Moment::of(&raw.header), out);
            }
            raw::CGROUP_JOINED => {
                let at = Moment::of(&raw.header);
                let Some(slot) = known.or_else(|| self.resolve(raw.task, at, out)) else { return };
                // A runtime puts the container's first process where it wants it.
                let line = self.line_that_made(slot);
                let named = line.as_ref().and_then(|line| self.cgroups.name(raw.id, &line.id, Some(line.runtime)));
                self.confirm(raw.id, line.as_ref());
                if named.is_some() {
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

    /// A process that a runtime of root forks into a deeper pid namespace belongs to the container that the runtime makes, or
    /// runs something in. runc puts its child into the cgroup first; crun does so after the fork, and an engine can do
    /// without a cgroup. A runtime that is in a container itself proves no more than its cgroup does.
    pub(super) fn born_into_container(&mut self, child: Slot, creator: Slot) {
        if self.depth(child) <= self.depth(creator) {
            return;
        }
        let Some(line) = self.line_above(creator) else { return };
        let entry = &self.store[child];
        let inside = entry.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        if inside.is_some_and(|container| *container.id == *line.id) || self.container_of(line.slot).is_some() {
            return;
        }
        let (path, unit) = match &entry.cgroup {
            Some(cgroup) => (cgroup.path.clone(), cgroup.unit.clone()),
            None => return,
        };
        // One that is there has a cgroup of its own already.
        let known = self.lives.get(&*line.id).map(|life| life.container.clone());
        let container = known.unwrap_or_else(|| Container::new(&line.id, Some(line.runtime), None, path.clone()));
        self.store[child].cgroup = Some(Arc::new(Cgroup { path, unit, container: Some(container) }));
        if line.verb == oci::Verb::Create {
            self.ask_by_runtime(line.slot);
        }
    }

    /// A runtime has succeeded in making a container: what its command line says of that is true, whatever another one
    /// that failed said of the same id.
    fn confirm(&mut self, cgroup: u64, line: Option<&RuntimeLine>) {
        let Some(line) = line.filter(|line| line.verb == oci::Verb::Create) else { return };
        let cgroup = self.cgroups.get(cgroup);
        let own = cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        let begun = self.lives.get(&*line.id).is_some_and(|life| life.init.is_some());
        if own.is_some_and(|container| *container.id == *line.id) && !begun {
            self.ask_by_runtime(line.slot);
        }
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
            if !self.is_runtime_init(slot) {
                return None;
            }
            let entry = &self.store[slot];
            next = entry.creator.or(entry.parent_id()).and_then(|above| self.store.by_id(above));
        }
        None
    }

    /// True for `runc init`, which becomes the container's program.
    pub(super) fn is_runtime_init(&self, slot: Slot) -> bool {
        self.store[slot].by_root && self.store.image(slot).argv.as_ref().is_some_and(oci::is_init)
    }

    /// What a process was told to do, if it is a container runtime of root and that is about a container. What others call
    /// themselves proves nothing.
    pub(super) fn runtime_line(&self, slot: Slot) -> Option<RuntimeLine> {
        let image = self.store.image(slot);
        let argv = image.argv.as_ref().filter(|_| self.store[slot].by_root)?;
        let line = oci::read(argv).filter(|line| matches!(line.verb, oci::Verb::Create | oci::Verb::Exec))?;
        oci::is_program_of(image.exe.as_deref(), line.runtime).then(|| RuntimeLine {
            slot: self.executor(slot),
            runtime: line.runtime,
            verb: line.verb,
            id: line.id.to_owned(),
            bundle: line.bundle.map(ToOwned::to_owned),
        })
    }

    /// The process that executed the program of this one: itself, or the ancestor whose program it shares since fork. crun
    /// works in such forks.
    fn executor(&self, slot: Slot) -> Slot {
        let argv = &self.store.image(slot).argv;
        let above = |below: &Slot| {
            let entry = &self.store[*below];
            let creator = entry.creator.filter(|_| entry.execs == 0)?;
            self.store.by_id(creator).filter(|&above| self.store.image(above).argv == *argv)
        };
        std::iter::successors(Some(slot), above).take(INITS).last().unwrap_or(slot)
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

/// An [`oci::Line`] that borrows nothing, and the process whose it is.
pub(super) struct RuntimeLine {
    pub(super) slot: Slot,
    pub(super) runtime: &'static str,
    pub(super) verb: oci::Verb,
    pub(super) id: String,
    pub(super) bundle: Option<String>,
}
