//! Cgroups of processes, and the systemd units and containers that they belong to.
//!
//! This is pure, like the table that uses it. Paths come from records and from the scan at the start
//! ([`crate::kernel::hierarchy`]).

pub mod container_info;
pub mod info;
mod lenient;
pub mod oci;
pub mod path;
pub mod runtime_state;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::ProcessContainer;

/// How many removed cgroups are remembered: records of processes that were in them may be pending.
const REMOVED_KEPT: usize = 1024;

/// A container as its cgroup or runtime describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, or its name where the runtime has no ids.
    pub id: Arc<str>,
    /// What created it: the engine, or else the runtime.
    pub engine: Option<Arc<str>>,
    /// Uid of its Kubernetes pod.
    pub pod: Option<Arc<str>>,
    /// The path of its own cgroup.
    pub cgroup: Arc<str>,
    /// How events of its processes show it until details are known.
    pub summary: Arc<ProcessContainer>,
}

impl Container {
    /// Returns a container with only what its cgroup or its runtime says.
    pub(crate) fn new(id: &str, engine: Option<&str>, pod: Option<&str>, cgroup: Arc<str>) -> Arc<Self> {
        let id: Arc<str> = id.into();
        let summary = Arc::new(ProcessContainer::new(id.clone()));
        Arc::new(Self { id, engine: engine.map(Into::into), pod: pod.map(Into::into), cgroup, summary })
    }
}

/// A cgroup: what its processes have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path, from the root of the hierarchy.
    pub path: Arc<str>,
    /// The systemd unit.
    pub unit: Option<Arc<str>>,
    /// The container.
    pub container: Option<Arc<Container>>,
}

/// All cgroups of the chosen hierarchy.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: FxHashMap<u64, Arc<Cgroup>>,
    ids: FxHashMap<Arc<str>, u64>,
    /// Containers that cannot be recognized by their paths, by the path of their own cgroup.
    named: FxHashMap<Arc<str>, Arc<Container>>,
    /// The cgroup that first had a container's id in its path, while that exists. Users with a delegated part of the
    /// hierarchy can name their cgroups like the containers of others.
    claimed: FxHashMap<Arc<str>, Arc<str>>,
    removed: VecDeque<u64>,
    /// An id without a known path was requested.
    wanted: bool,
    /// Cgroups that were added, named or removed, if they are watched.
    changed: Option<Vec<u64>>,
}

impl Cgroups {
    /// Adds a cgroup with its path. A known one stays as it is.
    pub fn learn(&mut self, id: u64, path: &str) -> Arc<Cgroup> {
        if let Some(known) = self.by_id.get(&id)
            && &*known.path == path
        {
            return known.clone();
        }
        let cgroup = Arc::new(self.read(path));
        if let Some(container) = &cgroup.container {
            self.claimed.entry(container.id.clone()).or_insert_with(|| container.cgroup.clone());
        }
        self.ids.insert(cgroup.path.clone(), id);
        self.by_id.insert(id, cgroup.clone());
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        cgroup
    }

    /// Changes the path of a cgroup and of all below it, as version 1 allows. Returns the old path, or None if nothing
    /// changed.
    pub fn rename(&mut self, id: u64, to: &str) -> Option<Arc<str>> {
        let from = self.existing(id)?.path.clone();
        if &*from == to {
            return None;
        }
        let renamed: Vec<Arc<str>> = self.named.keys().filter(|path| below(path, &from).is_some()).cloned().collect();
        for old in renamed {
            if let (Some(container), Some(rest)) = (self.named.remove(&old), below(&old, &from)) {
                let path: Arc<str> = format!("{to}{rest}").into();
                let container = Container { cgroup: path.clone(), ..(*container).clone() };
                self.named.insert(path, Arc::new(container));
            }
        }
        // The new paths claim the containers that they name.
        self.claimed.retain(|_, path| below(path, &from).is_none());
        let mut moved: Vec<(String, u64)> = Vec::new();
        self.ids.retain(|path, &mut id| {
            let rest = below(path, &from);
            moved.extend(rest.map(|rest| (format!("{to}{rest}"), id)));
            rest.is_none()
        });
        // Upper ones first: cgroups below a container share it.
        moved.sort_unstable();
        for (path, id) in moved {
            self.learn(id, &path);
        }
        Some(from)
    }

    /// Starts to note which cgroups are added and removed.
    pub fn watch(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Returns true if changes are noted.
    pub fn is_watched(&self) -> bool {
        self.changed.is_some()
    }

    /// Returns the cgroups that were added, assigned to a container or removed since the last call. None stands for a
    /// removed one.
    pub fn take_changed(&mut self) -> Vec<(u64, Option<Arc<Cgroup>>)> {
        let changed = self.changed.as_mut().map(std::mem::take).unwrap_or_default();
        changed.into_iter().map(|id| (id, self.existing(id))).collect()
    }

    /// Returns the cgroup with this id, while it exists.
    pub fn existing(&self, id: u64) -> Option<Arc<Cgroup>> {
        self.by_id.get(&id).filter(|cgroup| self.ids.get(&cgroup.path) == Some(&id)).cloned()
    }

    /// Returns the cgroup with this id, even if removed. An unknown id is noted ([`Cgroups::take_wanted`]).
    pub fn get(&mut self, id: u64) -> Option<Arc<Cgroup>> {
        if id == 0 {
            return None;
        }
        let known = self.by_id.get(&id).cloned();
        self.wanted |= known.is_none();
        known
    }

    /// Returns the cgroup with this path, and its id if known.
    pub fn of_path(&mut self, path: &str) -> (Arc<Cgroup>, Option<u64>) {
        if let Some((&id, known)) = self.ids.get(path).and_then(|id| Some((id, self.by_id.get(id)?))) {
            return (known.clone(), Some(id));
        }
        (Arc::new(self.read(path)), None)
    }

    /// Assigns a cgroup to the container that its runtime's command line names.
    pub fn name(&mut self, id: u64, container: &str, runtime: Option<&str>) -> Option<Arc<Cgroup>> {
        let cgroup = self.by_id.get(&id)?;
        if cgroup.container.is_some() {
            return None;
        }
        let path = cgroup.path.clone();
        self.name_path(&path, container, runtime);
        let below = |of: &str| of.strip_prefix(&*path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let ids: Vec<(u64, Arc<str>)> =
            self.by_id.iter().filter(|(_, of)| below(&of.path)).map(|(&id, of)| (id, of.path.clone())).collect();
        for (id, path) in ids {
            let cgroup = Arc::new(self.read(&path));
            self.by_id.insert(id, cgroup);
            self.changed.iter_mut().for_each(|changed| changed.push(id));
        }
        self.by_id.get(&id).cloned()
    }

    /// Assigns the cgroup that is named after a container, which its runtime is just creating.
    pub fn name_after(&mut self, container: &str, runtime: &str) {
        let named = |path: &str| oci::is_named_after(path, container);
        let ids: Vec<u64> = self.ids.iter().filter(|(path, _)| named(path)).map(|(_, &id)| id).collect();
        for id in ids {
            self.name(id, container, Some(runtime));
        }
    }

    /// Assigns the cgroup with this path to a container.
    pub fn name_path(&mut self, path: &str, container: &str, runtime: Option<&str>) {
        let path: Arc<str> = path.into();
        let container = Container::new(container, runtime, None, path.clone());
        self.named.insert(path, container);
    }

    /// Removes a cgroup. Its id is never reused; its path may be.
    pub fn remove(&mut self, id: u64) {
        let Some(gone) = self.by_id.get(&id) else { return };
        if self.ids.get(&gone.path) == Some(&id) {
            self.ids.remove(&gone.path);
            self.named.remove(&gone.path);
            if let Some(container) = &gone.container
                && self.claimed.get(&container.id) == Some(&gone.path)
            {
                self.claimed.remove(&container.id);
            }
        }
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        self.removed.push_back(id);
        if self.removed.len() > REMOVED_KEPT
            && let Some(oldest) = self.removed.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Returns whether the cgroup with this path is in this container.
    pub fn is_of(&self, path: &str, container: &str) -> bool {
        let known = self.ids.get(path).and_then(|id| self.by_id.get(id));
        known.and_then(|cgroup| cgroup.container.as_ref()).is_some_and(|of| &*of.id == container)
    }

    /// Notes a change that filters by container depend on: its name.
    pub fn touch(&mut self, container: &str) {
        if let Some(changed) = &mut self.changed {
            let of = |cgroup: &Cgroup| cgroup.container.as_ref().is_some_and(|of| &*of.id == container);
            changed.extend(self.by_id.iter().filter(|(_, cgroup)| of(cgroup)).map(|(&id, _)| id));
        }
    }

    /// Returns true if an unknown id came up since the last call. Then the hierarchy has to be scanned again.
    pub fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wanted)
    }

    /// Interprets a path by itself and by the known cgroups above it.
    fn read(&self, text: &str) -> Cgroup {
        let parsed = path::read(text);
        let found = parsed.container.as_ref().filter(|found| !self.is_claimed_elsewhere(&found.id, found.cgroup));
        let named = above(text).find_map(|path| self.named.get(path));
        let container = match named {
            Some(named) if found.is_none_or(|found| found.cgroup.len() < named.cgroup.len()) => Some(named.clone()),
            _ => found.map(|found| {
                let Some(known) = self.known_container(found.cgroup, &found.id) else {
                    return Container::new(&found.id, found.engine, found.pod.as_deref(), found.cgroup.into());
                };
                known
            }),
        };
        Cgroup { path: text.into(), unit: parsed.unit.as_deref().map(Into::into), container }
    }

    /// Returns whether the container with this id is in another existing cgroup.
    fn is_claimed_elsewhere(&self, id: &str, cgroup: &str) -> bool {
        let Some(own) = self.claimed.get(id).filter(|own| self.ids.contains_key(*own)) else { return false };
        !above(cgroup).any(|path| path == &**own)
    }

    /// Returns the container of a known cgroup: cgroups below it share the value.
    fn known_container(&self, path: &str, id: &str) -> Option<Arc<Container>> {
        let known = self.by_id.get(self.ids.get(path)?)?;
        known.container.clone().filter(|container| &*container.id == id)
    }
}

/// Returns the rest of a path below another one, if it is the same or below.
pub fn below<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    path.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns a path and all above it.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
        .filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(cgroup: &Cgroup) -> Option<&str> {
        cgroup.container.as_ref().map(|container| &*container.id)
    }

    #[test]
    fn cgroups_below_a_container_are_in_it() {
        let mut cgroups = Cgroups::default();
        assert_eq!(container(&cgroups.learn(7, "/web")), None);
        assert_eq!(container(&cgroups.name(7, "web", Some("runc")).unwrap()), Some("web"));
        let below = cgroups.learn(8, "/web/a/b");
        assert_eq!(
            (container(&below), below.container.as_ref().unwrap().engine.as_deref()),
            (Some("web"), Some("runc"))
        );
        assert_eq!(container(&cgroups.learn(9, "/website")), None);
        assert!(Arc::ptr_eq(below.container.as_ref().unwrap(), cgroups.get(7).unwrap().container.as_ref().unwrap()));
    }

    #[test]
    fn a_cgroup_cannot_pose_as_the_container_of_another() {
        let id = "a".repeat(64);
        let own = format!("/system.slice/docker-{id}.scope");
        let fake = format!("/user.slice/user-1000.slice/user@1000.service/docker-{id}.scope");
        let mut cgroups = Cgroups::default();
        assert_eq!(container(&cgroups.learn(1, &own)), Some(&*id));
        assert_eq!(container(&cgroups.learn(2, &fake)), None);
        assert_eq!(container(&cgroups.learn(3, &format!("{fake}/below"))), None);
        assert_eq!(container(&cgroups.learn(4, &format!("{own}/below"))), Some(&*id));
        // It starts again elsewhere.
        cgroups.remove(4);
        cgroups.remove(1);
        assert_eq!(container(&cgroups.learn(5, &format!("/docker/{id}"))), Some(&*id));
        // Its path changes, and it is still the same.
        cgroups.rename(5, &own);
        assert_eq!(cgroups.get(5).as_deref().map(container), Some(Some(&*id)));
        assert_eq!(container(&cgroups.learn(6, &fake)), None);
    }

    #[test]
    fn the_innermost_container_counts() {
        let id = "a".repeat(64);
        let mut cgroups = Cgroups::default();
        cgroups.learn(1, "/node");
        cgroups.name(1, "node", Some("runc"));
        assert_eq!(container(&cgroups.learn(2, &format!("/node/docker/{id}/x"))), Some(&*id));
        cgroups.learn(3, &format!("/docker/{id}"));
        cgroups.learn(4, &format!("/docker/{id}/in"));
        cgroups.name(4, "in", Some("crun"));
        assert_eq!(container(&cgroups.get(4).unwrap()), Some(&*id), "the path says it: nothing is put over that");
    }

    #[test]
    fn removed_cgroups_are_remembered_and_their_paths_are_free() {
        let mut cgroups = Cgroups::default();
        cgroups.learn(1, "/web");
        cgroups.name(1, "web", Some("runc"));
        cgroups.remove(1);
        assert_eq!(container(&cgroups.get(1).unwrap()), Some("web"));
        assert_eq!(container(&cgroups.learn(2, "/web")), None);
        for id in 10..10 + REMOVED_KEPT as u64 {
            cgroups.learn(id, &format!("/{id}"));
            cgroups.remove(id);
        }
        assert!(!cgroups.take_wanted());
        assert!(cgroups.get(1).is_none() && cgroups.take_wanted() && !cgroups.take_wanted());
    }

    #[test]
    fn a_rename_changes_all_paths_below() {
        let mut cgroups = Cgroups::default();
        for (id, path) in [(1, "/a"), (2, "/a/x"), (3, "/a/x/y"), (4, "/ab")] {
            cgroups.learn(id, path);
        }
        cgroups.name(2, "web", Some("runc"));
        assert_eq!(cgroups.rename(1, "/b").as_deref(), Some("/a"));
        let mut path = |id| cgroups.get(id).unwrap().path.to_string();
        assert_eq!([1, 2, 3, 4].map(&mut path), ["/b", "/b/x", "/b/x/y", "/ab"]);
        let container =
            |cgroup: &Cgroup| cgroup.container.as_ref().map(|found| (found.id.to_string(), found.cgroup.to_string()));
        let web = Some(("web".to_owned(), "/b/x".to_owned()));
        assert_eq!([2, 3].map(|id| container(&cgroups.get(id).unwrap())), [web.clone(), web]);
        assert_eq!(cgroups.of_path("/a/x").1, None, "the path is free");
        assert_eq!(cgroups.of_path("/b/x").1, Some(2));
        assert_eq!(cgroups.rename(1, "/b"), None, "that is its path");
        assert_eq!(cgroups.rename(9, "/c"), None, "it is unknown");
    }

    #[test]
    fn a_path_is_found_with_its_id() {
        let mut cgroups = Cgroups::default();
        cgroups.learn(5, "/system.slice/ssh.service");
        let (cgroup, id) = cgroups.of_path("/system.slice/ssh.service");
        assert_eq!((cgroup.unit.as_deref(), id), (Some("ssh.service"), Some(5)));
        assert_eq!(cgroups.of_path("/other").1, None);
    }
}
