//! Which cgroup a process is in, and which container that cgroup belongs to.

use std::sync::Arc;

use tracer_common::record as raw;

use super::store::Slot;
use super::{Moment, Table};
use crate::enrich::info::{Bundle, InfoRequest};
use crate::enrich::runtime_state::RuntimeState;
use crate::enrich::{Cgroup, Container, below, oci};
use crate::event::Event;
use crate::event::id::ProcessId;
use crate::proc::Seed;
use crate::record;

/// No process: the lowest pid is 1.
const GONE: ProcessId = ProcessId::from_ticks(0, 0);

/// How many `runc init` processes separate a container from its command line: runc becomes one and forks two more in
/// turn.
const INITS: usize = 4;

impl Table {
    /// Adds existing cgroups: id and path.
    pub fn learn_cgroups(&mut self, cgroups: impl IntoIterator<Item = (u64, String)>) {
        for (id, path) in cgroups {
            self.learn_cgroup(id, &path);
        }
    }

    /// Sets the path of a cgroup. If it had another path, the processes in it and below it move along.
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
            // A process stays in its container even if no path shows that container.
            let container = cgroup.container.clone().or_else(|| before.clone());
            let cgroup = Cgroup { path: cgroup.path.clone(), unit: cgroup.unit.clone(), container };
            self.store[slot].cgroup = Some(Arc::new(cgroup));
            self.recheck_container(slot, before.as_deref());
        }
    }

    /// Assigns cgroups to containers. Call it before [`Table::learn_cgroups`].
    pub fn name_containers(&mut self, containers: impl IntoIterator<Item = RuntimeState>) {
        for RuntimeState { id, runtime, cgroup, bundle } in containers {
            self.cgroups.name_path(&cgroup, &id, Some(runtime));
            if let Some(bundle) = bundle.filter(|_| !self.infos.contains_key(&*id)) {
                // The runtime has exited: the path is relative to tracer's own root.
                let bundle = Some(Bundle { path: bundle.into(), runtime: GONE, within: None });
                self.request(InfoRequest::LookUp {
                    id: id.into(),
                    cgroup: None,
                    bundle,
                    runtime: Some(runtime.into()),
                });
            }
        }
    }

    /// Names containers that runtimes of root are creating right now, from their command lines.
    pub(super) fn name_by_runtimes(&mut self, seeds: &[Seed]) {
        for seed in seeds {
            let process = &seed.process;
            let by_root = process.uid == Some(0) && process.euid.is_none_or(|euid| euid == 0);
            if let Some(argv) = process.image.argv.as_ref().filter(|_| by_root)
                && let Some(command) = oci::read(argv).filter(|command| command.verb == oci::Verb::Create)
                && oci::is_program_of(process.image.exe.as_deref(), command.runtime)
            {
                self.cgroups.name_after(command.id, command.runtime);
            }
        }
    }

    /// Returns true if a record named an unknown cgroup since the last call.
    pub fn wants_cgroups(&mut self) -> bool {
        self.cgroups.take_wanted()
    }

    pub(super) fn cgroup(&mut self, cgroup: &record::Cgroup, out: &mut Vec<Event>) {
        let record::Cgroup { raw, path } = cgroup;
        if raw.action == raw::CGROUP_REMOVED {
            self.container_removed(raw.id, Moment::of(&raw.header), out);
            self.cgroups.remove(raw.id);
            return;
        }
        if !path.is_empty() {
            self.learn_cgroup(raw.id, path);
        }
        // Joining a cgroup is reported for a process, creating one is not.
        let known = if raw.task.tgid == 0 { None } else { self.store.find(raw.task) };
        match raw.action {
            raw::CGROUP_MADE => {
                let command = known.and_then(|maker| self.runtime_command(maker));
                if let Some(command) = &command
                    && oci::is_named_after(path, &command.id)
                {
                    self.cgroups.name(raw.id, &command.id, Some(command.runtime));
                }
                self.confirm(raw.id, command.as_ref());
                self.container_created(raw.id, known, Moment::of(&raw.header), out);
            }
            raw::CGROUP_JOINED => {
                let at = Moment::of(&raw.header);
                let Some(slot) = known.or_else(|| self.resolve(raw.task, at, out)) else { return };
                // A runtime moves the container's first process into its cgroup.
                let command = self.creating_command(slot);
                let named =
                    command.as_ref().and_then(|command| self.cgroups.name(raw.id, &command.id, Some(command.runtime)));
                self.confirm(raw.id, command.as_ref());
                if named.is_some() {
                    self.container_created(raw.id, None, at, out);
                }
                let before = self.container_of(slot);
                let entry = &mut self.store[slot];
                entry.cgroup = self.cgroups.get(raw.id);
                entry.ids.cgroup = raw.id;
                self.recheck_container(slot, before.as_deref());
            }
            _ => {}
        }
    }

    /// Sets the cgroup that a process was found in.
    pub(super) fn find_in_cgroup(&mut self, slot: Slot, found: &FoundIn) {
        let Some(path) = found.path.as_deref() else {
            self.set_cgroup(slot, found.id);
            if found.id != 0 {
                self.store[slot].ids.cgroup = found.id;
            }
            return;
        };
        // Keep what is known: it may be more than the path shows.
        if self.store[slot].cgroup.as_ref().is_some_and(|known| &*known.path == path) {
            return;
        }
        let (cgroup, id) = self.cgroups.of_path(path);
        let entry = &mut self.store[slot];
        entry.cgroup = Some(cgroup);
        entry.ids.cgroup = id.unwrap_or_default();
    }

    /// Sets the cgroup that a record names for a process.
    pub(super) fn set_cgroup(&mut self, slot: Slot, id: u64) {
        let entry = &self.store[slot];
        if entry.cgroup.is_some() && (id == entry.ids.cgroup || id == 0) {
            return;
        }
        if let Some(cgroup) = self.cgroups.get(id) {
            self.store[slot].cgroup = Some(cgroup);
        } else if self.store[slot].ids.cgroup != id && self.store[slot].ids.cgroup != 0 {
            // It has moved to an unknown cgroup.
            self.store[slot].cgroup = None;
        }
    }

    /// Assigns a process that a root runtime forks into a deeper pid namespace to the runtime's container. The runtime
    /// creates that container or runs a command in it. runc moves its child into the cgroup first. crun does so after
    /// the fork, and an engine can work without a cgroup. For a runtime that is itself in a container, only the cgroup
    /// counts.
    pub(super) fn forked_into_container(&mut self, child: Slot, creator: Slot) {
        if self.depth(child) <= self.depth(creator) {
            return;
        }
        let Some(command) = self.command_above(creator) else { return };
        let entry = &self.store[child];
        let inside = entry.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        if inside.is_some_and(|container| *container.id == *command.id) || self.container_of(command.slot).is_some() {
            return;
        }
        let (path, unit) = match &entry.cgroup {
            Some(cgroup) => (cgroup.path.clone(), cgroup.unit.clone()),
            None => return,
        };
        // An existing container already has its own cgroup.
        let known = self.containers.get(&*command.id).map(|lifecycle| lifecycle.container.clone());
        let container = known.unwrap_or_else(|| Container::new(&command.id, Some(command.runtime), None, path.clone()));
        self.store[child].cgroup = Some(Arc::new(Cgroup { path, unit, container: Some(container) }));
        if command.verb == oci::Verb::Create {
            self.request_by_runtime(command.slot);
        }
    }

    /// Requests the details of a container that a runtime has just created. Its command line is now proven right,
    /// whatever a failed runtime said about the same id.
    fn confirm(&mut self, cgroup: u64, command: Option<&RunningCommand>) {
        let Some(command) = command.filter(|command| command.verb == oci::Verb::Create) else { return };
        let cgroup = self.cgroups.get(cgroup);
        let own = cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        let begun = self.containers.get(&*command.id).is_some_and(|lifecycle| lifecycle.init.is_some());
        if own.is_some_and(|container| *container.id == *command.id) && !begun {
            self.request_by_runtime(command.slot);
        }
    }

    /// Returns the command line with which a runtime created this process as the first of a container.
    fn creating_command(&self, slot: Slot) -> Option<RunningCommand> {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        self.runtime_command(slot).or_else(|| self.command_above(creator?))
    }

    /// Returns the command line of a runtime, looking behind the `runc init` that it becomes.
    pub(super) fn command_above(&self, slot: Slot) -> Option<RunningCommand> {
        let mut next = Some(slot);
        for _ in 0..INITS {
            let slot = next?;
            if let Some(command) = self.runtime_command(slot) {
                return Some(command);
            }
            if !self.is_runtime_init(slot) {
                return None;
            }
            let entry = &self.store[slot];
            next = entry.creator.or(entry.parent_id()).and_then(|above| self.store.by_id(above));
        }
        None
    }

    /// Returns true for `runc init`, which becomes the container's program.
    pub(super) fn is_runtime_init(&self, slot: Slot) -> bool {
        self.store[slot].by_root && self.store.image(slot).argv.as_ref().is_some_and(oci::is_init)
    }

    /// Returns the command of a process, if it is a container runtime of root and its command is about a container.
    /// Command lines of other users prove nothing.
    pub(super) fn runtime_command(&self, slot: Slot) -> Option<RunningCommand> {
        let image = self.store.image(slot);
        let argv = image.argv.as_ref().filter(|_| self.store[slot].by_root)?;
        let command = oci::read(argv).filter(|command| matches!(command.verb, oci::Verb::Create | oci::Verb::Exec))?;
        oci::is_program_of(image.exe.as_deref(), command.runtime).then(|| RunningCommand {
            slot: self.executor(slot),
            runtime: command.runtime,
            verb: command.verb,
            id: command.id.to_owned(),
            bundle: command.bundle.map(ToOwned::to_owned),
        })
    }

    /// Returns the process that executed the program of this one: itself, or an ancestor that shares it since fork. crun
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

/// The cgroup in which a process was found: `/proc` shows its path, the kernel side its id.
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

/// An owned [`oci::Command`], and the process that it belongs to.
pub(super) struct RunningCommand {
    pub(super) slot: Slot,
    pub(super) runtime: &'static str,
    pub(super) verb: oci::Verb,
    pub(super) id: String,
    pub(super) bundle: Option<String>,
}
