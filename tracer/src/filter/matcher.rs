//! The compiled filter: it follows descent and compares each event.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::values::Values;
use super::{Filter, Terms};
use crate::analysis::role::{self, Role};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process};

/// A compiled [`Filter`]. It follows processes through the events it sees, so it must see all of them.
#[derive(Clone, Debug)]
pub struct Matcher {
    subtree: Option<Subtree>,
    not_subtree: Option<Subtree>,
    values: Values,
    not: Values,
    /// A bit for each kind that is shown.
    kinds: u32,
    until_reaped: bool,
}

impl Matcher {
    /// Compiles a filter.
    pub fn new(filter: &Filter) -> Result<Self, globset::Error> {
        let Filter { wanted, not, engines, until_reaped, .. } = filter;
        let bits = |kinds: &[Kind]| kinds.iter().fold(0, |bits, &kind| bits | bit(kind));
        let kinds = if wanted.kinds.is_empty() { Kind::ALL } else { &wanted.kinds[..] };
        let subtree = |terms: &Terms, engines| (!terms.trees.is_empty()).then(|| Subtree::new(&terms.trees, engines));
        Ok(Self {
            subtree: subtree(wanted, *engines),
            not_subtree: subtree(not, false),
            values: Values::new(wanted)?,
            not: Values::new(not)?,
            kinds: bits(kinds) & !bits(&not.kinds),
            until_reaped: *until_reaped,
        })
    }

    /// Admits what descends from these processes.
    pub(crate) fn of_trees(pids: &[u32]) -> Option<Self> {
        Self::new(&Terms { trees: pids.to_vec(), ..Terms::default() }.into()).ok()
    }

    /// True for a process that is known to descend from the roots.
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

    /// Learns which processes descend from which, from a snapshot that is about to be shown to [`Matcher::admits`]: it may
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

const fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

/// Processes and their descendants: once in, a process stays in through exec and a change of parent.
#[derive(Clone, Debug)]
struct Subtree {
    /// Pids of roots whose process has not been seen. Each stands for the first process that has it, not
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

    /// Whether the process is in: a root, in already, or made or adopted by one that is in.
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
