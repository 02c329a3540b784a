//! How a process came into its container: as its first process, by the runtime's `exec`, or from outside without the runtime.
//!
//! Who is born or put into the container's cgroup is seen by that. `nsenter` leaves the cgroup as it is and joins namespaces; so
//! the numbers of those that the container's first process is in are kept, and whoever else is in one of them belongs to the
//! container too. A number can be given to another namespace once nobody is left in the first, so they are forgotten as soon as
//! the first process has ended.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::store::Slot;
use super::{MAX_ANCESTORS, Table};
use crate::enrich::{Cgroup, Container, oci};
use crate::event::{Origin, Provenance};

/// The ancestor of all kernel threads: it is in the first mount namespace, and unlike init's that can always be read.
pub(crate) const KTHREADD: u32 = 2;

impl Table {
    /// The container of a process may be another than before: it is counted there, and its way in found out.
    pub(super) fn came_in(&mut self, slot: Slot, before: Option<&Container>, creator: Option<Slot>) {
        let now = self.container_of(slot);
        if now.as_ref().map(|container| &container.id) == before.map(|container| &container.id) {
            return;
        }
        self.count_in(slot, before);
        self.store[slot].origin = now.and_then(|container| self.origin_in(&container, slot, creator));
    }

    /// A record told where a process is: it may have come into a container, or gone.
    pub(super) fn look_again_where(&mut self, slot: Slot, before: Option<&Container>) {
        self.find_by_namespaces(slot);
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator));
        self.came_in(slot, before, creator);
    }

    /// Where one that is in no container by its cgroup is by its namespaces.
    pub(super) fn find_by_namespaces(&mut self, slot: Slot) {
        let entry = &self.store[slot];
        if self.namespaces.is_empty() && entry.origin != Some(Origin::Host) {
            return;
        }
        let Some(cgroup) = &entry.cgroup else { return };
        let known = cgroup.container.as_ref();
        // By its cgroup or the word of its runtime; and then namespaces do not count.
        if known.is_some_and(|known| entry.origin != Some(Origin::Host) || is_within(&cgroup.path, &known.cgroup)) {
            return;
        }
        let found = [entry.ids.mnt_ns, entry.ids.pid_ns].iter().find_map(|number| self.namespaces.get(number));
        if found.map(|found| &found.id) == known.map(|known| &known.id) {
            return;
        }
        // One that outlives the container's first process stays where it was: nobody knows those namespaces any more.
        let gone = |known: &Arc<Container>| self.lives.get(&known.id).is_none_or(|life| life.namespaces == [0; 2]);
        if found.is_none() && known.is_some_and(gone) {
            return;
        }
        let (path, unit, container) = (cgroup.path.clone(), cgroup.unit.clone(), found.cloned());
        self.store[slot].cgroup = Some(Arc::new(Cgroup { path, unit, container }));
    }

    /// How one came into a container that its creator may be in or not.
    pub(super) fn origin_in(&self, container: &Container, slot: Slot, creator: Option<Slot>) -> Option<Origin> {
        let inside = creator.filter(|&creator| self.is_in(creator, container));
        let above = inside.and_then(|creator| self.store[creator].origin);
        if matches!(above, Some(Origin::Entrypoint | Origin::Exec)) {
            return above;
        }
        let started = self.lives.get(&container.id).is_some_and(|life| life.init.is_some());
        let seen = |creator: Slot| self.store[creator].source == Provenance::Kernel;
        if !started && self.is_init(slot) && inside.is_none_or(seen) {
            return Some(Origin::Entrypoint);
        }
        let Some(creator) = creator.filter(|&creator| !self.store[creator].inferred) else {
            // One that nobody was told of: neither a runtime nor anybody inside.
            return self.was_left_out(slot).then_some(Origin::Host);
        };
        match self.line_above(creator) {
            Some(line) => {
                (line.verb == oci::Verb::Exec && self.depth(slot) > self.depth(creator)).then_some(Origin::Exec)
            }
            None if inside.is_some() => above,
            None => Some(Origin::Host),
        }
    }

    /// How one came into its container that is about to be told as the first or next program there, if that is not known by
    /// its birth: with a pid namespace that is not its own, a container's first process looks like all others till then.
    pub(super) fn origin_by_exec(&self, slot: Slot) -> Option<Origin> {
        let creator = self.store[slot].creator.and_then(|creator| self.store.by_id(creator))?;
        self.line_above(creator).map(|line| match line.verb {
            oci::Verb::Exec => Origin::Exec,
            oci::Verb::Create | oci::Verb::Other => Origin::Entrypoint,
        })
    }

    /// Containers that are there already. `slots` are the processes in the order of their births, each with its parent.
    pub(super) fn find_containers(&mut self, slots: &[Slot]) {
        self.find_unnamed(slots);
        for &slot in slots {
            self.find_container(slot);
        }
        // The first of its pid namespace; where that is not the container's own, the oldest that came from outside.
        for by_pid in [true, false] {
            for &slot in slots {
                let Some(container) = self.container_of(slot).filter(|_| self.store[slot].is_living()) else {
                    continue;
                };
                let first = if by_pid { self.is_init(slot) } else { !self.is_parent_in(slot, &container) };
                // One that is still a copy of the runtime begins with its next exec.
                if first && if self.is_stage(slot) { by_pid } else { self.begin_life(slot, &container) } {
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
                        self.count_in(slot, None);
                        self.store[slot].origin = Some(Origin::Host);
                    }
                }
            }
        }
    }

    /// Containers whose runtime keeps its state where nobody looks (`runc --root`): the first process of a pid namespace, in
    /// a mount namespace of its own, in a cgroup in which nobody from outside is. runc and crun name that after the container.
    /// systemd's units are none: they may have such namespaces too, and users can make them.
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

    /// As far as it can be told of one that was there before. Who lost its parent has the container's first process for one,
    /// whatever way it came: of its children nothing is said.
    fn found_origin(&self, container: &Container, slot: Slot) -> Option<Origin> {
        let parent = self.parent_of(slot)?;
        if self.is_in(parent, container) {
            return self.store[parent].origin.filter(|origin| *origin != Origin::Entrypoint);
        }
        let life = self.lives.get(&container.id).filter(|life| life.init.is_some())?;
        let mnt_ns = self.store[slot].ids.mnt_ns;
        if self.is_stage(slot) {
            return None;
        }
        let elsewhere = life.namespaces[0] != 0 && mnt_ns != 0 && mnt_ns != life.namespaces[0];
        Some(if elsewhere { Origin::Host } else { Origin::Exec })
    }

    /// What is not yet the program that a runtime is to start.
    fn is_stage(&self, slot: Slot) -> bool {
        let argv = self.store.image(slot).argv.as_ref().filter(|_| self.store[slot].by_root);
        argv.is_some_and(|argv| oci::is_init(argv) || oci::read(argv).is_some())
    }

    /// The first of its pid namespace.
    pub(super) fn is_init(&self, slot: Slot) -> bool {
        self.store[slot].ns_pids.as_ref().is_some_and(|pids| pids.last() == Some(&1))
    }

    /// How many pid namespaces it is in.
    pub(super) fn depth(&self, slot: Slot) -> usize {
        self.store[slot].ns_pids.as_ref().map_or(1, |pids| pids.len())
    }

    fn is_in(&self, slot: Slot, container: &Container) -> bool {
        let of = self.store[slot].cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref());
        of.is_some_and(|of| of.id == container.id)
    }

    /// The line of who created whom, as far as that is known; of those found at the start, the parents.
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

    /// Keeps the namespaces of a container's first process.
    pub(super) fn keep_namespaces(&mut self, slot: Slot, container: &Arc<Container>) {
        let ids = self.store[slot].ids;
        // A container can do without one of its own; then whoever made it is in the same, or everybody.
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
        if let Some(life) = self.lives.get_mut(&container.id) {
            life.namespaces = [mnt_ns, pid_ns];
        }
    }

    /// Forgets the namespaces of a container: their numbers may be others' soon.
    pub(super) fn forget_namespaces(&mut self, id: &str) {
        let Some(life) = self.lives.get_mut(id) else { return };
        for number in std::mem::take(&mut life.namespaces) {
            if self.namespaces.get(&number).is_some_and(|of| *of.id == *id) {
                self.namespaces.remove(&number);
                self.note_namespace(number);
            }
        }
    }
}

/// True for a cgroup and what is below it.
fn is_within(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
