//! Decides which events are shown.
//!
//! Values of one option are alternatives. Different options must all match. A negated value (`!` before it) filters out what
//! it matches, whatever else matches. Events that frame a stream (`hello`, `lost`, `dropped`, `bye`) always pass. A
//! reader must know what it sees and what is missing.

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

/// Compiles a pattern for names or paths.
///
/// `*` and `?` also match `/`, so `*/bin/*` matches `/usr/local/bin/x/y`. `[…]` and `{a,b}` work as in a shell.
pub fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// Values of the filter options. An option without values is not used.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// These processes and all their descendants.
    pub pids: Vec<u32>,
    /// Processes whose real or effective user is one of these.
    pub uids: Vec<u32>,
    /// Processes whose name matches.
    pub comm: Vec<Glob>,
    /// Processes whose executable matches.
    pub exe: Vec<Glob>,
    /// Processes of containers with one of these names or ids, or whose id begins with one of these.
    pub containers: Vec<String>,
    /// Processes of matching systemd units, slices and user units.
    pub units: Vec<Glob>,
    /// Processes in one of these cgroups, or below.
    pub cgroups: Vec<String>,
    /// Events of these kinds.
    pub kinds: Vec<Kind>,
}

/// What a filter shows.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// What must match.
    pub only: Criteria,
    /// What must not match.
    pub not: Criteria,
    /// Also shows daemons that start containers, their descendants, and the containers of all shown processes. Needs
    /// [`Criteria::pids`].
    pub engines: bool,
    /// True if there are `reap` events. A process then ends with its reap, not with its exit.
    pub until_reaped: bool,
}

impl From<Criteria> for Spec {
    fn from(only: Criteria) -> Self {
        Self { only, ..Self::default() }
    }
}

/// A compiled [`Spec`]. It tracks processes through the events it sees, so it must see all of them.
#[derive(Clone, Debug)]
pub struct Filter {
    subtree: Option<Subtree>,
    not_subtree: Option<Subtree>,
    values: Values,
    not: Values,
    /// One bit for each shown kind.
    kinds: u32,
    until_reaped: bool,
}

impl Filter {
    /// Compiles a filter.
    pub fn new(spec: &Spec) -> Result<Self, globset::Error> {
        let Spec { only, not, engines, until_reaped } = spec;
        let bits = |kinds: &[Kind]| kinds.iter().fold(0, |bits, &kind| bits | bit(kind));
        let kinds = if only.kinds.is_empty() { Kind::ALL } else { &only.kinds[..] };
        let subtree = |pids: &[u32], engines| (!pids.is_empty()).then(|| Subtree::new(pids, engines));
        Ok(Self {
            subtree: subtree(&only.pids, *engines),
            not_subtree: subtree(&not.pids, false),
            values: Values::new(only)?,
            not: Values::new(not)?,
            kinds: bits(kinds) & !bits(&not.kinds),
            until_reaped: *until_reaped,
        })
    }

    /// Returns a filter for the descendants of these processes.
    pub(crate) fn of_subtrees(pids: &[u32]) -> Option<Self> {
        Self::new(&Criteria { pids: pids.to_vec(), ..Criteria::default() }.into()).ok()
    }

    /// Returns true for a known descendant of the processes in [`Criteria::pids`].
    pub(crate) fn follows(&self, id: ProcessId) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| subtree.members.contains(&id))
    }

    /// Returns true if processes match by descent and none of them is left. The filter must have seen the snapshot.
    pub fn is_over(&self) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| {
            // A zombie has exited before. Only its reap will be reported.
            let ended = if self.until_reaped { 0 } else { subtree.zombies };
            subtree.members.len() == ended
        })
    }

    /// Takes in the process tree of a snapshot, before its events go to [`Filter::admits`].
    ///
    /// A snapshot may list children before their parents. Live events never do.
    pub fn learn(&mut self, snapshot: &[Event]) {
        for event in snapshot {
            self.learn_name(event);
        }
        for subtree in [&mut self.subtree, &mut self.not_subtree].into_iter().flatten() {
            subtree.learn(snapshot);
        }
    }

    /// Notes containers with a matching name. This affects later events only.
    fn learn_name(&mut self, event: &Event) {
        self.values.learn_name(event);
        self.not.learn_name(event);
    }

    /// Returns true if the event is shown.
    pub fn admits(&mut self, event: &Event) -> bool {
        self.learn_name(event);
        // Membership is updated before all other checks. An event that is filtered out can still make a process a
        // descendant, or end it.
        let last = if self.until_reaped { Kind::Reap } else { Kind::Exit };
        let related = self.subtree.as_mut().is_none_or(|subtree| subtree.follow(event, last));
        let unrelated = self.not_subtree.as_mut().is_none_or(|subtree| !subtree.follow(event, last));
        let shown = related && unrelated && self.kinds & bit(event.kind()) != 0;
        event.kind().is_framing() || shown && self.values.all_fit(event) && !self.not.any_fits(event)
    }
}

/// Returns the path of a cgroup in the form that [`is_below`] expects.
pub(crate) fn cgroup_root(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Returns true if a cgroup is this one or below it.
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

const fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

/// Processes and their descendants. A member stays a member after an exec or a reparent.
#[derive(Clone, Debug)]
struct Subtree {
    /// Requested pids whose process has not been seen. Each means the first process with that pid, not a later one.
    roots: Vec<u32>,
    members: FxHashSet<ProcessId>,
    /// Number of members that were zombies in the snapshot.
    zombies: usize,
    /// True if daemons that start containers are roots too.
    engines: bool,
    /// With `engines`, the containers of members.
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

    /// Returns true if the event is about a member or about a container of members. `last` is the kind of a process's last event.
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

    /// Returns true if an event without a process is about a container of members.
    fn knows_container(&mut self, event: &Event) -> bool {
        let Some(id) = event.container().map(|container| &container.id).filter(|_| self.engines) else {
            return false;
        };
        if event.kind() == Kind::ContainerRemove { self.containers.remove(id) } else { self.containers.contains(id) }
    }

    /// Returns true if the process is a member: requested, a member before, or forked or adopted by a member.
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

    /// Adds the members of a snapshot, which may be in any order.
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
