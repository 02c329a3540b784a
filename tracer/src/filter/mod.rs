//! Which events are shown.
//!
//! Values of one option are alternatives; different options must all agree. Events that frame a stream
//! (`hello`, `lost`, `dropped`, `bye`) always pass: a reader has to know what it sees and what is missing.

pub mod pushdown;

use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::analysis::audit::role::{self, Role};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process};

/// A pattern for names or paths: `*` and `?` also match `/`, so that `*/bin/*` finds `/usr/local/bin/x/y`;
/// `[…]` and `{a,b}` are as in a shell.
pub fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// What is asked for; an empty list asks for everything.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// These processes and all their descendants.
    pub pids: Vec<u32>,
    /// Besides those: daemons that start containers, all that descends from them, and the containers of all these.
    pub engines: bool,
    /// Processes whose real or effective user is one of these.
    pub uids: Vec<u32>,
    /// Processes with such a name.
    pub comm: Vec<Glob>,
    /// Processes with such an executable.
    pub exe: Vec<Glob>,
    /// Processes of containers whose id is one of these, or begins so, or whose name it is.
    pub containers: Vec<String>,
    /// Processes of such systemd units.
    pub units: Vec<Glob>,
    /// Processes in one of these control groups, or below.
    pub cgroups: Vec<String>,
    /// Events of these kinds.
    pub kinds: Vec<Kind>,
    /// There are `reap` events: with them, not with its exit, a process is over.
    pub until_reaped: bool,
}

/// A compiled [`Spec`]. It follows processes through the events it is shown, so it must be shown all of them.
#[derive(Clone, Debug)]
pub struct Filter {
    subtree: Option<Subtree>,
    uids: Vec<u32>,
    comm: Option<GlobSet>,
    exe: Option<GlobSet>,
    containers: Vec<String>,
    /// Ids of containers that have such a name.
    named: FxHashSet<Arc<str>>,
    units: Option<GlobSet>,
    cgroups: Vec<String>,
    /// A bit for each kind.
    kinds: u32,
    until_reaped: bool,
}

impl Filter {
    /// Compiles what is asked for.
    pub fn new(spec: &Spec) -> Result<Self, globset::Error> {
        let kinds = if spec.kinds.is_empty() { Kind::ALL } else { &spec.kinds[..] };
        Ok(Self {
            subtree: (!spec.pids.is_empty()).then(|| Subtree::new(&spec.pids, spec.engines)),
            uids: spec.uids.clone(),
            comm: set(&spec.comm)?,
            exe: set(&spec.exe)?,
            containers: spec.containers.clone(),
            named: FxHashSet::default(),
            units: set(&spec.units)?,
            cgroups: spec.cgroups.iter().map(|path| cgroup_root(path).to_owned()).collect(),
            kinds: kinds.iter().map(|&kind| bit(kind)).sum(),
            until_reaped: spec.until_reaped,
        })
    }

    /// What descends from these processes.
    pub(crate) fn of_subtrees(pids: &[u32]) -> Option<Self> {
        Self::new(&Spec { pids: pids.to_vec(), ..Spec::default() }).ok()
    }

    /// True for a process that is known to descend from those asked for.
    pub(crate) fn follows(&self, id: ProcessId) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| subtree.members.contains(&id))
    }

    /// Learns who descends from whom, from a snapshot that is about to be shown to [`Filter::admits`]: it may
    /// name children before their parents, which events that happen never do.
    pub fn learn(&mut self, snapshot: &[Event]) {
        for event in snapshot {
            self.learn_name(event);
        }
        if let Some(subtree) = &mut self.subtree {
            subtree.learn(snapshot);
        }
    }

    /// Learns who has a name that is asked for. Only what comes later is chosen by it.
    fn learn_name(&mut self, event: &Event) {
        if self.containers.is_empty() {
            return;
        }
        let Some(container) = event.container() else { return };
        if container.name.as_ref().is_some_and(|name| self.containers.iter().any(|wanted| **wanted == **name)) {
            self.named.insert(container.id.clone());
        }
    }

    /// Whether the event is to be shown.
    pub fn admits(&mut self, event: &Event) -> bool {
        self.learn_name(event);
        // Membership is followed before anything else is asked: an event that is not shown can still
        // be the one that makes a process a descendant, or the one that ends it.
        let related = match (&mut self.subtree, &event.process) {
            (Some(subtree), Some(process)) => {
                let member = subtree.contains(process);
                if member && let Some(container) = event.container() {
                    subtree.learn_container(&container.id);
                }
                // A dead process is told of again when it is waited for, if that is asked for.
                let last = if self.until_reaped { Kind::Reap } else { Kind::Exit };
                if event.kind() == last {
                    subtree.remove(process.id);
                }
                member
            }
            (Some(subtree), None) => subtree.knows_container(event),
            (None, _) => true,
        };
        event.kind().is_framing() || related && self.kinds & bit(event.kind()) != 0 && self.matches(event)
    }

    fn matches(&self, event: &Event) -> bool {
        let process = event.process.as_ref();
        // A line about a container is about that, whoever made it.
        let container = event.container().map(|container| &*container.id);
        let container = container.or_else(|| Some(&**process?.container_id()?));
        let of_user = |uid: Option<u32>| uid.is_some_and(|uid| self.uids.contains(&uid));
        let named = |globs: &Option<GlobSet>, name: fn(&Process) -> Option<&str>| {
            globs.as_ref().is_none_or(|globs| process.and_then(name).is_some_and(|name| globs.is_match(name)))
        };
        (self.uids.is_empty() || process.is_some_and(|process| of_user(process.uid) || of_user(process.euid)))
            && named(&self.comm, |process| process.image.comm.as_deref())
            && named(&self.exe, |process| process.image.exe.as_deref())
            && named(&self.units, |process| process.unit.as_deref())
            && (container.is_some_and(|id| self.named.contains(id))
                || process.is_some_and(|process| self.is_named(process))
                || one_of(&self.containers, container, |id, text| id.starts_with(text)))
            && one_of(&self.cgroups, process.and_then(|process| process.cgroup.as_deref()), is_below)
    }

    /// Whether the process is in a container whose name is asked for.
    fn is_named(&self, process: &Process) -> bool {
        let name = process.container.as_ref().and_then(|container| container.name.as_deref());
        name.is_some_and(|name| self.containers.iter().any(|wanted| wanted == name))
    }
}

/// The path of a control group as [`is_below`] takes it.
pub(crate) fn cgroup_root(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Whether a control group is this one or below it.
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Whether a value fits one of those asked for, if any are.
fn one_of(wanted: &[String], value: Option<&str>, fits: impl Fn(&str, &str) -> bool) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.iter().any(|wanted| fits(value, wanted)))
}

const fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

fn set(globs: &[Glob]) -> Result<Option<GlobSet>, globset::Error> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob.clone());
    }
    builder.build().map(Some)
}

/// Processes and their descendants: once in, a process stays in through exec and a change of parent.
#[derive(Clone, Debug)]
struct Subtree {
    /// Pids asked for whose process has not been seen. Each stands for the first process that has it, not
    /// for a later one that gets the same number.
    roots: Vec<u32>,
    members: FxHashSet<ProcessId>,
    /// Daemons that start containers are roots too.
    engines: bool,
    /// With that, the containers in which members were.
    containers: FxHashSet<Arc<str>>,
}

impl Subtree {
    fn new(pids: &[u32], engines: bool) -> Self {
        Self { roots: pids.to_vec(), members: FxHashSet::default(), engines, containers: FxHashSet::default() }
    }

    /// Whether an event that has no process is about a container of those that are in.
    fn knows_container(&mut self, event: &Event) -> bool {
        let Some(id) = event.container().map(|container| &container.id).filter(|_| self.engines) else {
            return false;
        };
        if event.kind() == Kind::ContainerRemove { self.containers.remove(id) } else { self.containers.contains(id) }
    }

    /// Whether the process is in: asked for, in already, or made or adopted by one that is in.
    fn contains(&mut self, process: &Process) -> bool {
        let member = self.is_member(process);
        if member && let Some(container) = process.container_id() {
            self.learn_container(container);
        }
        member
    }

    fn learn_container(&mut self, id: &Arc<str>) {
        if self.engines && !self.containers.contains(id) {
            self.containers.insert(id.clone());
        }
    }

    fn is_member(&mut self, process: &Process) -> bool {
        if self.members.contains(&process.id) {
            return true;
        }
        let root = self.roots.iter().position(|&pid| pid == process.pid);
        if let Some(root) = root {
            self.roots.swap_remove(root);
        }
        let daemon = self.engines && process.image.argv.as_ref().and_then(role::of) == Some(Role::Daemon);
        let joins = root.is_some() || daemon || links(process).any(|link| self.members.contains(&link));
        if joins {
            self.members.insert(process.id);
        }
        joins
    }

    /// The same for many at once, in whatever order they come.
    fn learn(&mut self, events: &[Event]) {
        let mut children = FxHashMap::<ProcessId, Vec<ProcessId>>::default();
        let mut joined = Vec::new();
        for process in events.iter().filter_map(|event| event.process.as_ref()) {
            if self.contains(process) {
                joined.push(process.id);
            } else {
                for link in links(process) {
                    children.entry(link).or_default().push(process.id);
                }
            }
        }
        while let Some(id) = joined.pop() {
            for child in children.remove(&id).unwrap_or_default() {
                self.members.insert(child);
                joined.push(child);
            }
        }
    }

    fn remove(&mut self, id: ProcessId) {
        self.members.remove(&id);
    }
}

fn links(process: &Process) -> impl Iterator<Item = ProcessId> {
    [process.creator_id, process.parent_id].into_iter().flatten()
}

#[cfg(test)]
mod tests;
