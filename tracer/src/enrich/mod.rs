//! Whose process it is: the control group of each, and what that says of systemd units and containers.
//!
//! Pure, like the table that asks: paths come with the records and from what was found at the start
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

/// Cgroups that were removed and are still known: records of processes that were in them may be on their way.
const REMOVED_KEPT: usize = 1024;

/// A container, as far as its cgroup tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id; a name where the runtime has no ids.
    pub id: Arc<str>,
    /// What made it: the engine, or else the runtime.
    pub engine: Option<Arc<str>>,
    /// Uid of its Kubernetes pod.
    pub pod: Option<Arc<str>>,
    /// The path of its own cgroup.
    pub cgroup: Arc<str>,
    /// What the lines of its processes say about it while no more is known.
    pub shown: Arc<ProcessContainer>,
}

impl Container {
    /// A container of which no more is known than what its cgroup or its runtime say.
    pub(crate) fn new(id: &str, engine: Option<&str>, pod: Option<&str>, cgroup: Arc<str>) -> Arc<Self> {
        let id: Arc<str> = id.into();
        let shown = Arc::new(ProcessContainer::new(id.clone()));
        Arc::new(Self { id, engine: engine.map(Into::into), pod: pod.map(Into::into), cgroup, shown })
    }
}

/// A cgroup: what the processes in it have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path, from the root of the hierarchy.
    pub path: Arc<str>,
    /// The systemd unit.
    pub unit: Option<Arc<str>>,
    /// The container.
    pub container: Option<Arc<Container>>,
}

/// Every cgroup of the hierarchy that was chosen.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: FxHashMap<u64, Arc<Cgroup>>,
    ids: FxHashMap<Arc<str>, u64>,
    /// Containers whose paths do not tell, by the path of their own cgroup.
    named: FxHashMap<Arc<str>, Arc<Container>>,
    /// Which cgroup has the id of a container in its path: the first that had it, while that is there. Users to whom a part
    /// of the hierarchy is delegated can call theirs like the containers of others.
    claimed: FxHashMap<Arc<str>, Arc<str>>,
    removed: VecDeque<u64>,
    /// An id came up that has no path.
    wanted: bool,
    /// Those that were learnt, named or removed, if somebody wants to hear of it.
    changed: Option<Vec<u64>>,
}

impl Cgroups {
    /// A cgroup is there, and has this path. One that is known stays as it is.
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

    /// A cgroup has another path than before, as version 1 allows, and with it all below it. Returns the path that it had;
    /// none if it has no other.
    pub fn rename(&mut self, id: u64, to: &str) -> Option<Arc<str>> {
        let from = self.there(id)?.path.clone();
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
        // The new paths claim what they name.
        self.claimed.retain(|_, path| below(path, &from).is_none());
        let mut moved: Vec<(String, u64)> = Vec::new();
        self.ids.retain(|path, &mut id| {
            let rest = below(path, &from);
            moved.extend(rest.map(|rest| (format!("{to}{rest}"), id)));
            rest.is_none()
        });
        // Those above first: what is below a container shares that.
        moved.sort_unstable();
        for (path, id) in moved {
            self.learn(id, &path);
        }
        Some(from)
    }

    /// From now on it is noted which cgroups there are and are not.
    pub fn watch(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// True if that is noted.
    pub fn is_watched(&self) -> bool {
        self.changed.is_some()
    }

    /// Those that came, got a container or went since this was last asked, each with what is known of it; none of one that
    /// is no more.
    pub fn take_changed(&mut self) -> Vec<(u64, Option<Arc<Cgroup>>)> {
        let changed = self.changed.as_mut().map(std::mem::take).unwrap_or_default();
        changed.into_iter().map(|id| (id, self.there(id))).collect()
    }

    /// The cgroup of an id, while it is there.
    pub fn there(&self, id: u64) -> Option<Arc<Cgroup>> {
        self.by_id.get(&id).filter(|cgroup| self.ids.get(&cgroup.path) == Some(&id)).cloned()
    }

    /// The cgroup of an id. If it has none, that is noted ([`Cgroups::take_wanted`]).
    pub fn get(&mut self, id: u64) -> Option<Arc<Cgroup>> {
        if id == 0 {
            return None;
        }
        let known = self.by_id.get(&id).cloned();
        self.wanted |= known.is_none();
        known
    }

    /// The cgroup of a path, and its id if that is known.
    pub fn of_path(&mut self, path: &str) -> (Arc<Cgroup>, Option<u64>) {
        if let Some((&id, known)) = self.ids.get(path).and_then(|id| Some((id, self.by_id.get(id)?))) {
            return (known.clone(), Some(id));
        }
        (Arc::new(self.read(path)), None)
    }

    /// The cgroup of an id was made for a container, as its runtime's command line says.
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

    /// A container is being made, as its runtime's command line says: the cgroup that is named after it is its.
    pub fn name_after(&mut self, container: &str, runtime: &str) {
        let named = |path: &str| oci::is_named_after(path, container);
        let ids: Vec<u64> = self.ids.iter().filter(|(path, _)| named(path)).map(|(_, &id)| id).collect();
        for id in ids {
            self.name(id, container, Some(runtime));
        }
    }

    /// The cgroup of a path is that of a container.
    pub fn name_path(&mut self, path: &str, container: &str, runtime: Option<&str>) {
        let path: Arc<str> = path.into();
        let container = Container::new(container, runtime, None, path.clone());
        self.named.insert(path, container);
    }

    /// A cgroup is no more. No other will get its id; its path may be used again.
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

    /// Whether the cgroup of a path is in this container.
    pub fn is_of(&self, path: &str, container: &str) -> bool {
        let known = self.ids.get(path).and_then(|id| self.by_id.get(id));
        known.and_then(|cgroup| cgroup.container.as_ref()).is_some_and(|of| &*of.id == container)
    }

    /// Notes that something about a container has changed which decides whether it is wanted: what it is called.
    pub fn touch(&mut self, container: &str) {
        if let Some(changed) = &mut self.changed {
            let of = |cgroup: &Cgroup| cgroup.container.as_ref().is_some_and(|of| &*of.id == container);
            changed.extend(self.by_id.iter().filter(|(_, cgroup)| of(cgroup)).map(|(&id, _)| id));
        }
    }

    /// True if an id came up since the last call that has no path: the hierarchy is to be looked through again.
    pub fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wanted)
    }

    /// What a path tells, by itself and by what is known of the cgroups above it.
    fn read(&self, text: &str) -> Cgroup {
        let place = path::read(text);
        let found = place.container.as_ref().filter(|found| !self.is_anothers(&found.id, found.cgroup));
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
        Cgroup { path: text.into(), unit: place.unit.as_deref().map(Into::into), container }
    }

    /// Whether the container of this id is in another cgroup, which is there.
    fn is_anothers(&self, id: &str, cgroup: &str) -> bool {
        let Some(own) = self.claimed.get(id).filter(|own| self.ids.contains_key(*own)) else { return false };
        !above(cgroup).any(|path| path == &**own)
    }

    /// The container of a cgroup that is known: those below it share it.
    fn known_container(&self, path: &str, id: &str) -> Option<Arc<Container>> {
        let known = self.by_id.get(self.ids.get(path)?)?;
        known.container.clone().filter(|container| &*container.id == id)
    }
}

/// What a path has after another, if that is the same or above it.
pub fn below<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    path.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path and those above it.
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
    fn what_lies_below_a_container_is_in_it() {
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
    fn a_cgroup_that_is_called_like_anothers_container_is_not_that() {
        let id = "a".repeat(64);
        let own = format!("/system.slice/docker-{id}.scope");
        let false_one = format!("/user.slice/user-1000.slice/user@1000.service/docker-{id}.scope");
        let mut cgroups = Cgroups::default();
        assert_eq!(container(&cgroups.learn(1, &own)), Some(&*id));
        assert_eq!(container(&cgroups.learn(2, &false_one)), None);
        assert_eq!(container(&cgroups.learn(3, &format!("{false_one}/below"))), None);
        assert_eq!(container(&cgroups.learn(4, &format!("{own}/below"))), Some(&*id));
        // It starts again, elsewhere.
        cgroups.remove(4);
        cgroups.remove(1);
        assert_eq!(container(&cgroups.learn(5, &format!("/docker/{id}"))), Some(&*id));
        // It gets another path, and is still the one.
        cgroups.rename(5, &own);
        assert_eq!(cgroups.get(5).as_deref().map(container), Some(Some(&*id)));
        assert_eq!(container(&cgroups.learn(6, &false_one)), None);
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
    fn the_removed_are_remembered_for_a_while_and_their_paths_are_free() {
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
    fn a_renamed_cgroup_takes_along_all_below_it() {
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
        assert_eq!(cgroups.rename(9, "/c"), None, "nobody knows it");
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
