//! The table of a frame: grouped, sorted, filtered and folded.

use std::cmp::Ordering;
use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::model::{GroupSums, Spawned, Sums, TopFrame};
use super::state::{Group, Sort, TopState};
use crate::event::id::ProcessId;
use crate::view::glyphs::Glyphs;
use crate::view::users::Users;
use crate::view::{escape, label};

/// The identity of a row in all frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A process.
    Process(ProcessId),
    /// A group of processes, by the hash of what they share.
    Group(u64),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the row stands for.
    pub key: Key,
    /// The pid of a process.
    pub pid: Option<u32>,
    /// The user of a process.
    pub user: String,
    /// The sums of the interval.
    pub sums: Sums,
    /// Processes created since the start.
    pub total: u64,
    /// The name, escaped for a terminal, behind the branches of the tree.
    pub name: String,
    /// False for an exited process.
    pub running: bool,
    /// True for the process that causes most of the activity.
    pub culprit: bool,
}

impl Row {
    /// Returns whether the row shows a text, in upper or lower case, or has the pid.
    pub(super) fn shows(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.name.to_lowercase().contains(&text)
            || self.user.to_lowercase().contains(&text)
            || self.pid.is_some_and(|pid| pid.to_string() == text)
    }
}

/// Returns the rows of a frame.
pub fn rows(frame: &TopFrame, state: &TopState, users: &Users, glyphs: &Glyphs) -> Vec<Row> {
    let mut rows = match state.group {
        Group::Process => {
            let spawned = frame.processes.iter().filter(|spawned| spawned.own.1.events() > 0);
            spawned.map(|spawned| of_process(spawned, spawned.own, frame, users)).collect()
        }
        Group::Ancestor => return tree(frame, state, users, glyphs),
        Group::Command => groups(&frame.commands, |name| text(name.as_ref(), "(unknown)")),
        Group::User => groups(&frame.users, |uid| uid.map_or_else(|| "?".into(), |uid| users.name(uid).to_string())),
        Group::Container => groups(&frame.containers, |id| container(frame, id.as_ref())),
        Group::Unit => groups(&frame.units, |unit| text(unit.as_ref(), "(no unit)")),
    };
    rows.retain(|row| admits(state, row));
    rows.sort_by(|a, b| compare(a, b, state));
    rows
}

/// Returns the names of all users in a frame.
pub fn users(frame: &TopFrame, users: &Users) -> Vec<String> {
    let uids = frame.users.iter().filter_map(|(uid, ..)| *uid);
    // The parent may belong to another user than its children.
    let spawners = frame.processes.iter().filter_map(|spawned| spawned.process.euid.or(spawned.process.uid));
    let uids: std::collections::BTreeSet<u32> = uids.chain(spawners).collect();
    uids.into_iter().map(|uid| users.name(uid).to_string()).collect()
}

fn of_process(spawned: &Spawned, (sums, total): (Sums, Sums), frame: &TopFrame, users: &Users) -> Row {
    let process = &spawned.process;
    Row {
        key: Key::Process(process.id),
        pid: Some(process.pid),
        user: process.euid.or(process.uid).map(|uid| users.name(uid).to_string()).unwrap_or_default(),
        sums,
        total: total.forks,
        name: label::command(process),
        running: spawned.running,
        culprit: frame.culprit == Some(process.id),
    }
}

fn groups<K: std::hash::Hash>(group: &GroupSums<K>, name: impl Fn(&K) -> String) -> Vec<Row> {
    let row = |(key, sums, total): &(K, Sums, Sums)| {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        Row {
            key: Key::Group(hasher.finish()),
            pid: None,
            user: String::new(),
            sums: *sums,
            total: total.forks,
            name: name(key),
            running: true,
            culprit: false,
        }
    };
    group.iter().map(row).collect()
}

fn text(text: Option<&Arc<str>>, none: &str) -> String {
    text.map_or_else(|| none.to_owned(), |text| escape::text(text).into_owned())
}

/// Returns the name of a container and the beginning of its id.
fn container(frame: &TopFrame, id: Option<&Arc<str>>) -> String {
    const SHORT: usize = 12;
    let Some((id, name)) = id.and_then(|id| Some((id, frame.names.get(id)?))) else {
        return text(id, "(no container)");
    };
    let short = id.get(..SHORT).unwrap_or(id);
    if id == name { text(Some(id), "") } else { format!("{} ({})", escape::text(name), escape::text(short)) }
}

fn admits(state: &TopState, row: &Row) -> bool {
    let of_user = |user: &String| row.pid.is_none() || row.user == *user;
    row.shows(&state.filter) && state.user.as_ref().is_none_or(of_user)
}

fn compare(a: &Row, b: &Row, state: &TopState) -> Ordering {
    let by = |of: fn(&Row) -> u64| of(b).cmp(&of(a));
    let busiest = || by(|row| row.sums.forks).then(by(|row| row.sums.events())).then(by(|row| row.total));
    let order = match state.sort {
        Sort::Pid => a.pid.cmp(&b.pid),
        Sort::Forks => by(|row| row.sums.forks),
        Sort::Execs => by(|row| row.sums.execs),
        Sort::Exits => by(|row| row.sums.exits),
        Sort::Failures => by(|row| row.sums.failures),
        Sort::Cpu => by(|row| row.sums.cpu_ns),
        Sort::Total => by(|row| row.total),
        Sort::Name => a.name.cmp(&b.name),
    };
    let order = if state.inverted { order.reverse() } else { order };
    order.then_with(busiest).then_with(|| (a.pid, &a.name).cmp(&(b.pid, &b.name)))
}

/// Returns each process below its creator. With a filter, only matching processes and their ancestors.
fn tree(frame: &TopFrame, state: &TopState, users: &Users, glyphs: &Glyphs) -> Vec<Row> {
    let mut rows: FxHashMap<ProcessId, Row> = FxHashMap::default();
    let mut above: FxHashMap<ProcessId, Option<ProcessId>> = FxHashMap::default();
    for spawned in &frame.processes {
        rows.insert(spawned.process.id, of_process(spawned, spawned.below, frame, users));
        above.insert(spawned.process.id, spawned.above);
    }
    let mut wanted = FxHashSet::default();
    for row in rows.values().filter(|row| admits(state, row)) {
        let Key::Process(mut id) = row.key else { continue };
        while wanted.insert(id)
            && let Some(Some(next)) = above.get(&id)
        {
            id = *next;
        }
    }
    let mut children: FxHashMap<Option<ProcessId>, Vec<ProcessId>> = FxHashMap::default();
    for &id in rows.keys().filter(|id| wanted.contains(*id)) {
        let parent = above.get(&id).copied().flatten().filter(|parent| rows.contains_key(parent));
        children.entry(parent).or_default().push(id);
    }
    for siblings in children.values_mut() {
        siblings.sort_by(|a, b| match (rows.get(a), rows.get(b)) {
            (Some(a), Some(b)) => compare(a, b, state),
            _ => Ordering::Equal,
        });
    }
    let mut out = Vec::with_capacity(rows.len());
    let mut next: Vec<(ProcessId, String, String)> = Vec::new();
    // A stack instead of recursion, because a chain of processes can be as long as there are pids.
    let push = |next: &mut Vec<_>, parent: Option<ProcessId>, indent: &str| {
        let siblings = children.get(&parent).map(Vec::as_slice).unwrap_or_default();
        for (i, &id) in siblings.iter().enumerate().rev() {
            let last = i + 1 == siblings.len();
            let (branch, beside) = match parent {
                None => ("", ""),
                Some(_) if last => (glyphs.last, "  "),
                Some(_) => (glyphs.branch, glyphs.vertical),
            };
            next.push((id, format!("{indent}{branch}"), format!("{indent}{beside}")));
        }
    };
    push(&mut next, None, "");
    while let Some((id, branch, indent)) = next.pop() {
        let Some(mut row) = rows.remove(&id) else { continue };
        let folded = state.folded.contains(&row.key);
        let hides = folded && children.contains_key(&Some(id));
        row.name = format!("{branch}{}{}", if hides { "[+] " } else { "" }, row.name);
        out.push(row);
        if !folded {
            push(&mut next, Some(id), &indent);
        }
    }
    out
}
