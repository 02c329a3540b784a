//! How a process entered its container: as its first process, by the runtime's `exec`, or from outside without the
//! runtime.
//!
//! A process that is forked into the container's cgroup, or moved there, is recognized by its cgroup. `nsenter` keeps
//! the cgroup and joins namespaces. So the numbers of the first process's namespaces are stored: any other process in
//! one of them belongs to the container too. A namespace number can be reused once its namespace is empty. So the
//! numbers are dropped as soon as the first process has exited.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::store::Slot;
use super::{MAX_ANCESTORS, Table};
use crate::enrich::{Cgroup, Container, oci};
use crate::event::{Origin, Provenance};

/// The ancestor of all kernel threads. It is in the first mount namespace, and that link can always be read, unlike
/// init's.
pub(crate) const KTHREADD: u32 = 2;

impl Table {
    /// Updates counters and origin of a process whose container may have changed.
    pub(super) fn container_changed(&mut self, slot: Slot, before: Option<&Container>, creator: Option<Slot>) {
        let now = self.container_of(slot);
        if now.as_ref().map(|container| &container.id) == before.map(|container| &container.id) {
            return;
        }
        self.count_process(slot, before);
        self.store[slot].origin = now.and_then(|container| self.origin_in(&container, slot, creator));
    }

    /// Determines the container of a process again, after a record named its cgroup or namespaces.
    pub(super) fn recheck_container(&mut self, slot: Slot, before: Option<&Container>) {
        self.find_by_namespaces(slot);
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        self.container_changed(slot, before, creator);
    }

    /// Determines by its namespaces the container of a process whose cgroup is in none.
    pub(super) fn find_by_namespaces(&mut self, slot: Slot) {
        let entry = &self.store[slot];
        if self.namespaces.is_empty() && entry.origin != Some(Origin::Host) {
            return;
        }
        let Some(cgroup) = &entry.cgroup else { return };
        let known = cgroup.container.as_ref();
        // The cgroup or the runtime decided, so namespaces do not count.
        if known.is_some_and(|known| entry.origin != Some(Origin::Host) || is_within(&cgroup.path, &known.cgroup)) {
            return;
        }
        let found = [entry.ids.mnt_ns, entry.ids.pid_ns].iter().find_map(|number| self.namespaces.get(number));
        if found.map(|found| &found.id) == known.map(|known| &known.id) {
            return;
        }
        // A process that outlives the container's first process stays in it: those namespaces are no longer stored.
        let gone = |known: &Arc<Container>| {
            self.containers.get(&known.id).is_none_or(|lifecycle| lifecycle.namespaces == [0; 2])
        };
        if found.is_none() && known.is_some_and(gone) {
            return;
        }
        let (path, unit, container) = (cgroup.path.clone(), cgroup.unit.clone(), found.cloned());
        self.store[slot].cgroup = Some(Arc::new(Cgroup { path, unit, container }));
    }

    /// Returns how a process entered a container. Its creator may be in the container or not.
    pub(super) fn origin_in(&self, container: &Container, slot: Slot, creator: Option<Slot>) -> Option<Origin> {
        let inside = creator.filter(|&creator| self.is_in(creator, container));
        let above = inside.and_then(|creator| self.store[creator].origin);
        if matches!(above, Some(Origin::Entrypoint | Origin::Exec)) {
            return above;
        }
        let started = self.containers.get(&container.id).is_some_and(|lifecycle| lifecycle.init.is_some());
        let seen = |creator: Slot| self.store[creator].source == Provenance::Kernel;
        if !started && self.is_init(slot) && inside.is_none_or(seen) {
            return Some(Origin::Entrypoint);
        }
        let Some(creator) = creator.filter(|&creator| !self.store[creator].inferred) else {
            // Its fork was filtered out: it has neither a runtime nor a process of the container above it.
            return self.was_filtered_out(slot).then_some(Origin::Host);
        };
        match self.command_above(creator) {
            Some(command) => {
                (command.verb == oci::Verb::Exec && self.depth(slot) > self.depth(creator)).then_some(Origin::Exec)
            }
            None if inside.is_some() => above,
            None => Some(Origin::Host),
        }
    }

    /// Returns how a process that is about to exec entered its container, if its fork did not show that.
    /// Without its own pid namespace, a container's first process looks like any other until then.
    pub(super) fn origin_by_exec(&self, slot: Slot) -> Option<Origin> {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator))?;
        self.command_above(creator).map(|command| match command.verb {
            oci::Verb::Exec => Origin::Exec,
            oci::Verb::Create | oci::Verb::Other => Origin::Entrypoint,
        })
    }

    /// Finds existing containers. `slots` are the processes in the order of their creation, all with their parents.
    pub(super) fn find_containers(&mut self, slots: &[Slot]) {
        self.find_unnamed(slots);
        for &slot in slots {
            self.find_container(slot);
        }
        // The first process is the init of its pid namespace. If the container shares that, it is the oldest from
        // outside.
        for by_pid in [true, false] {
            for &slot in slots {
                let Some(container) = self.container_of(slot).filter(|_| self.store[slot].is_living()) else {
                    continue;
                };
                let first = if by_pid { self.is_init(slot) } else { !self.is_parent_in(slot, &container) };
                // A process that is still a copy of the runtime counts from its next exec.
                if first && if self.is_still_runtime(slot) { by_pid } else { self.begin_lifecycle(slot, &container) } {
                    self.store[slot].origin = Some(Origin::Entrypoint);
                }
            }
        }
        for &slot in slots {
            match self.container_of(slot) {
                _ if !self.store[slot].is_living() => {}
                Some(container) if self.store[slot].origin.is_none() => {
                    self.store[slot].origin = self.found_origin(&container, slot);
                }
                Some(_) => {}
                None => {
                    self.find_by_namespaces(slot);
                    if self.container_of(slot).is_some() {
                        self.count_process(slot, None);
                        self.store[slot].origin = Some(Origin::Host);
                    }
                }
            }
        }
    }

    /// Finds containers whose runtime keeps its state in an unusual directory (`runc --root`). Such a container is the
    /// init of a pid namespace, with its own mount namespace, alone in its cgroup. runc and crun name that cgroup after
    /// the container. systemd units are excluded: they may have such namespaces too, and users can create them.
    fn find_unnamed(&mut self, slots: &[Slot]) {
        let hosts = [1, KTHREADD].into_iter().filter_map(|pid| self.store.by_pid(pid));
        let hosts: Vec<u32> = hosts.map(|slot| self.store[slot].ids.mnt_ns).filter(|&number| number != 0).collect();
        let mut shallowest: FxHashMap<Arc<str>, usize> = FxHashMap::default();
        for &slot in slots {
            if let Some(cgroup) = &self.store[slot].cgroup {
                let depth = self.depth(slot);
                shallowest.entry(cgroup.path.clone()).and_modify(|least| *least = depth.min(*least)).or_insert(depth);
            }
        }
        let is_container = |slot: Slot| {
            let entry = &self.store[slot];
            let cgroup = entry.cgroup.as_ref().filter(|cgroup| cgroup.container.is_none() && cgroup.unit.is_none())?;
            let own = !hosts.is_empty() && entry.ids.mnt_ns != 0 && !hosts.contains(&entry.ids.mnt_ns);
            let alone = shallowest.get(&cgroup.path) == Some(&self.depth(slot));
            let (_, name) = cgroup.path.rsplit_once('/').filter(|(_, name)| !name.is_empty())?;
            (entry.is_living() && self.is_init(slot) && own && alone).then(|| (cgroup.path.clone(), Arc::from(name)))
        };
        let found: Vec<(Arc<str>, Arc<str>)> = slots.iter().filter_map(|&slot| is_container(slot)).collect();
        for (path, name) in found {
            let (_, Some(id)) = self.cgroups.of_path(&path) else { continue };
            if self.cgroups.name(id, &name, None).is_none() {
                continue;
            }
            for &slot in slots {
                let inside = self.store[slot].cgroup.as_ref().is_some_and(|cgroup| is_within(&cgroup.path, &path));
                if inside {
                    let id = self.store[slot].ids.cgroup;
                    self.store[slot].cgroup = self.cgroups.get(id).or(self.store[slot].cgroup.take());
                }
            }
        }
    }

    /// Returns how a process that was there before entered its container, if that can be determined. A process that
    /// lost its parent is a child of the container's first process, however it got in. So nothing is said about
    /// children of that one.
    fn found_origin(&self, container: &Container, slot: Slot) -> Option<Origin> {
        let parent = self.parent_of(slot)?;
        if self.is_in(parent, container) {
            return self.store[parent].origin.filter(|origin| *origin != Origin::Entrypoint);
        }
        let lifecycle = self.containers.get(&container.id).filter(|lifecycle| lifecycle.init.is_some())?;
        let mnt_ns = self.store[slot].ids.mnt_ns;
        if self.is_still_runtime(slot) {
            return None;
        }
        let elsewhere = lifecycle.namespaces[0] != 0 && mnt_ns != 0 && mnt_ns != lifecycle.namespaces[0];
        Some(if elsewhere { Origin::Host } else { Origin::Exec })
    }

    /// Returns true for a runtime's process that has not yet executed the container's program.
    fn is_still_runtime(&self, slot: Slot) -> bool {
        let argv = self.store.image(slot).argv.as_ref().filter(|_| self.store[slot].by_root);
        argv.is_some_and(|argv| oci::is_init(argv) || oci::read(argv).is_some())
    }

    /// Returns true for the init of a pid namespace.
    pub(super) fn is_init(&self, slot: Slot) -> bool {
        self.store[slot].ns_pids.as_ref().is_some_and(|pids| pids.last() == Some(&1))
    }

    /// Returns how many pid namespaces it is in.
    pub(super) fn depth(&self, slot: Slot) -> usize {
        self.store[slot].ns_pids.as_ref().map_or(1, |pids| pids.len())
    }

    fn is_in(&self, slot: Slot, container: &Container) -> bool {
        let of = self.store[slot].cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        of.is_some_and(|of| of.id == container.id)
    }

    /// Returns the known chain of creators. For processes found at the start, parents stand in.
    fn creators(&self, slot: Slot) -> impl Iterator<Item = Slot> {
        let above = |slot: &Slot| {
            let entry = &self.store[*slot];
            entry.creator.or(entry.parent_id()).and_then(|above| self.store.by_id(above))
        };
        std::iter::successors(above(&slot), above).take(MAX_ANCESTORS)
    }

    fn is_parent_in(&self, slot: Slot, container: &Container) -> bool {
        self.parent_of(slot).is_some_and(|parent| self.is_in(parent, container))
    }

    /// Stores the namespaces of a container's first process.
    pub(super) fn keep_namespaces(&mut self, slot: Slot, container: &Arc<Container>) {
        let ids = self.store[slot].ids;
        // A container may lack a separate namespace. Then it shares that of its creator, or of the host.
        let outside = self.creators(slot).find(|&creator| !self.is_in(creator, container));
        let others = [self.store.by_pid(1), self.store.by_pid(KTHREADD), outside];
        let mut others =
            others.into_iter().flatten().map(|other| self.store[other].ids.mnt_ns).filter(|&number| number != 0);
        let mnt_ns = match others.next() {
            Some(first) if first != ids.mnt_ns && others.all(|other| other != ids.mnt_ns) => ids.mnt_ns,
            _ => 0,
        };
        let pid_ns = if self.is_init(slot) { ids.pid_ns } else { 0 };
        self.forget_namespaces(&container.id);
        for number in [mnt_ns, pid_ns].into_iter().filter(|&number| number != 0) {
            self.namespaces.insert(number, container.clone());
            self.note_namespace(number);
        }
        if let Some(lifecycle) = self.containers.get_mut(&container.id) {
            lifecycle.namespaces = [mnt_ns, pid_ns];
        }
    }

    /// Forgets the namespaces of a container: their numbers may soon be reused.
    pub(super) fn forget_namespaces(&mut self, id: &str) {
        let Some(lifecycle) = self.containers.get_mut(id) else { return };
        for number in std::mem::take(&mut lifecycle.namespaces) {
            if self.namespaces.get(&number).is_some_and(|of| *of.id == *id) {
                self.namespaces.remove(&number);
                self.note_namespace(number);
            }
        }
    }
}

/// Returns true if `path` is `cgroup` or below it.
fn is_within(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
