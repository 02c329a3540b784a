//! Which events are shown.
//!
//! Values of one option are alternatives; different options must all agree. A value that is not wanted (`!` before it)
//! leaves out what it matches, whatever else matches. Events that frame a stream (`hello`, `lost`, `dropped`, `bye`)
//! always pass: a reader has to know what it sees and what is missing.

pub mod pushdown;
mod values;

use std::sync::Arc;

use globset::{Glob, GlobBuilder};
use rustc_hash::{FxHashMap, FxHashSet};

pub(crate) use self::values::Units;
use self::values::Values;
use crate::analysis::audit::role::{self, Role};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process};

/// A pattern for names or paths: `*` and `?` also match `/`, so that `*/bin/*` finds `/usr/local/bin/x/y`;
/// `[…]` and `{a,b}` are as in a shell.
pub fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// What is shown; an empty list shows everything.
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
    /// Processes of such systemd units, slices and units of users.
    pub units: Vec<Glob>,
    /// Processes in one of these control groups, or below.
    pub cgroups: Vec<String>,
    /// Events of these kinds.
    pub kinds: Vec<Kind>,
    /// What is left out of that.
    pub not: Not,
    /// There are `reap` events: with them, not with its exit, a process is over.
    pub until_reaped: bool,
}

/// What is left out: each value means the same as in [`Spec`].
#[derive(Clone, Debug, Default)]
pub struct Not {
    /// These processes and all their descendants.
    pub pids: Vec<u32>,
    /// Users.
    pub uids: Vec<u32>,
    /// Names.
    pub comm: Vec<Glob>,
    /// Executables.
    pub exe: Vec<Glob>,
    /// Containers.
    pub containers: Vec<String>,
    /// systemd units.
    pub units: Vec<Glob>,
    /// Control groups.
    pub cgroups: Vec<String>,
    /// Kinds of events.
    pub kinds: Vec<Kind>,
}

/// A compiled [`Spec`]. It follows processes through the events it is shown, so it must be shown all of them.
#[derive(Clone, Debug)]
pub struct Filter {
    subtree: Option<Subtree>,
    not_subtree: Option<Subtree>,
    values: Values,
    not: Values,
    /// A bit for each kind that is shown.
    kinds: u32,
    until_reaped: bool,
}

impl Filter {
    /// Compiles it.
    pub fn new(spec: &Spec) -> Result<Self, globset::Error> {
        let Spec { pids, uids, comm, exe, containers, units, cgroups, not, .. } = spec;
        let bits = |kinds: &[Kind]| kinds.iter().fold(0, |bits, &kind| bits | bit(kind));
        let kinds = if spec.kinds.is_empty() { Kind::ALL } else { &spec.kinds[..] };
        Ok(Self {
            subtree: (!pids.is_empty()).then(|| Subtree::new(pids, spec.engines)),
            not_subtree: (!not.pids.is_empty()).then(|| Subtree::new(&not.pids, false)),
            values: Values::new(uids, comm, exe, containers, units, cgroups)?,
            not: Values::new(&not.uids, &not.comm, &not.exe, &not.containers, &not.units, &not.cgroups)?,
            kinds: bits(kinds) & !bits(&not.kinds),
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

    /// True when processes are followed by descent and none of them is left. Only a filter that was shown the snapshot
    /// knows.
    pub fn is_over(&self) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| {
            // The exit of a zombie came before; only that it is reaped will be reported.
            let ended = if self.until_reaped { 0 } else { subtree.zombies };
            subtree.members.len() == ended
        })
    }

    /// Learns which processes descend from which, from a snapshot that is about to be shown to [`Filter::admits`]: it may
    /// name children before their parents, which events that happen never do.
    pub fn learn(&mut self, snapshot: &[Event]) {
        for event in snapshot {
            self.learn_name(event);
        }
        for subtree in [&mut self.subtree, &mut self.not_subtree].into_iter().flatten() {
            subtree.learn(snapshot);
        }
    }

    /// Learns which containers have a name that is filtered by. It applies to later events only.
    fn learn_name(&mut self, event: &Event) {
        self.values.learn_name(event);
        self.not.learn_name(event);
    }

    /// Whether the event is to be shown.
    pub fn admits(&mut self, event: &Event) -> bool {
        self.learn_name(event);
        // Membership is followed before anything else is looked at: an event that is not shown can still
        // be the one that makes a process a descendant, or the one that ends it.
        let last = if self.until_reaped { Kind::Reap } else { Kind::Exit };
        let related = self.subtree.as_mut().is_none_or(|subtree| subtree.follow(event, last));
        let unrelated = self.not_subtree.as_mut().is_none_or(|subtree| !subtree.follow(event, last));
        let shown = related && unrelated && self.kinds & bit(event.kind()) != 0;
        event.kind().is_framing() || shown && self.values.all_fit(event) && !self.not.any_fits(event)
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

const fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

/// Processes and their descendants: once in, a process stays in through exec and a change of parent.
#[derive(Clone, Debug)]
struct Subtree {
    /// Pids asked for whose process has not been seen. Each stands for the first process that has it, not
    /// for a later one that gets the same number.
    roots: Vec<u32>,
    members: FxHashSet<ProcessId>,
    /// How many of them had ended before they were seen.
    zombies: usize,
    /// Daemons that start containers are roots too.
    engines: bool,
    /// With that, the containers in which members were.
    containers: FxHashSet<Arc<str>>,
}

impl Subtree {
    fn new(pids: &[u32], engines: bool) -> Self {
        Self {
            roots: pids.to_vec(),
            members: FxHashSet::default(),
            zombies: 0,
            engines,
            containers: FxHashSet::default(),
        }
    }

    /// Whether the event is about one of these processes, or about a container of theirs; `last` is the kind of event after
    /// which a process is over.
    fn follow(&mut self, event: &Event, last: Kind) -> bool {
        let Some(process) = &event.process else { return self.knows_container(event) };
        let member = self.contains(process);
        if member && let Some(container) = event.container() {
            self.learn_container(&container.id);
        }
        if event.kind() == last {
            self.remove(process.id);
        }
        member
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
        let processes = || events.iter().filter_map(|event| event.process.as_ref());
        for process in processes() {
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
        self.zombies = processes().filter(|process| process.zombie && self.members.contains(&process.id)).count();
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
