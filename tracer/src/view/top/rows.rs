//! The table: what a picture holds, grouped, sorted, filtered and folded.

use std::cmp::Ordering;
use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::model::{Picture, Shared, Spawned, Sums};
use super::state::{Group, Sort, State};
use crate::event::id::ProcessId;
use crate::view::glyphs::Glyphs;
use crate::view::users::Users;
use crate::view::{escape, label};

/// What a row stands for, from one picture to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A process.
    Process(ProcessId),
    /// All who share something, by its hash.
    Shared(u64),
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it stands for.
    pub key: Key,
    /// Pid of a process.
    pub pid: Option<u32>,
    /// User of a process.
    pub user: String,
    /// Sums of the interval.
    pub sums: Sums,
    /// Processes created since the begin.
    pub total: u64,
    /// What it is called, safe for a terminal; with the branches of the tree before it.
    pub name: String,
    /// False for a process that has ended.
    pub living: bool,
    /// True if most comes from it.
    pub culprit: bool,
}

impl Row {
    /// True if it shows a text somewhere, in upper or lower case, or is of that pid.
    pub(super) fn shows(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.name.to_lowercase().contains(&text)
            || self.user.to_lowercase().contains(&text)
            || self.pid.is_some_and(|pid| pid.to_string() == text)
    }
}

/// The rows of a picture.
pub fn rows(picture: &Picture, state: &State, users: &Users, glyphs: &Glyphs) -> Vec<Row> {
    let mut rows = match state.group {
        Group::Process => {
            let spawned = picture.processes.iter().filter(|spawned| spawned.own.1.events() > 0);
            spawned.map(|spawned| of_process(spawned, spawned.own, picture, users)).collect()
        }
        Group::Ancestor => return tree(picture, state, users, glyphs),
        Group::Command => shared(&picture.commands, |name| text(name.as_ref(), "(unknown)")),
        Group::User => shared(&picture.users, |uid| uid.map_or_else(|| "?".into(), |uid| users.name(uid).to_string())),
        Group::Container => shared(&picture.containers, |id| container(picture, id.as_ref())),
        Group::Unit => shared(&picture.units, |unit| text(unit.as_ref(), "(no unit)")),
    };
    rows.retain(|row| admits(state, row));
    rows.sort_by(|a, b| compare(a, b, state));
    rows
}

/// Names of the users of whom something was seen, each once.
pub fn users(picture: &Picture, users: &Users) -> Vec<String> {
    let uids = picture.users.iter().filter_map(|(uid, ..)| *uid);
    // Whose processes do it need not be who spawns.
    let spawners = picture.processes.iter().filter_map(|spawned| spawned.process.euid.or(spawned.process.uid));
    let uids: std::collections::BTreeSet<u32> = uids.chain(spawners).collect();
    uids.into_iter().map(|uid| users.name(uid).to_string()).collect()
}

fn of_process(spawned: &Spawned, (sums, total): (Sums, Sums), picture: &Picture, users: &Users) -> Row {
    let process = &spawned.process;
    Row {
        key: Key::Process(process.id),
        pid: Some(process.pid),
        user: process.euid.or(process.uid).map(|uid| users.name(uid).to_string()).unwrap_or_default(),
        sums,
        total: total.forks,
        name: label::command(process),
        living: spawned.living,
        culprit: picture.culprit == Some(process.id),
    }
}

fn shared<K: std::hash::Hash>(group: &Shared<K>, name: impl Fn(&K) -> String) -> Vec<Row> {
    let row = |(key, sums, total): &(K, Sums, Sums)| {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        Row {
            key: Key::Shared(hasher.finish()),
            pid: None,
            user: String::new(),
            sums: *sums,
            total: total.forks,
            name: name(key),
            living: true,
            culprit: false,
        }
    };
    group.iter().map(row).collect()
}

fn text(text: Option<&Arc<str>>, none: &str) -> String {
    text.map_or_else(|| none.to_owned(), |text| escape::text(text).into_owned())
}

/// Its name, and how its id begins.
fn container(picture: &Picture, id: Option<&Arc<str>>) -> String {
    const SHORT: usize = 12;
    let Some((id, name)) = id.and_then(|id| Some((id, picture.names.get(id)?))) else {
        return text(id, "(no container)");
    };
    let short = id.get(..SHORT).unwrap_or(id);
    if id == name { text(Some(id), "") } else { format!("{} ({})", escape::text(name), escape::text(short)) }
}

fn admits(state: &State, row: &Row) -> bool {
    let of_user = |user: &String| row.pid.is_none() || row.user == *user;
    row.shows(&state.filter) && state.user.as_ref().is_none_or(of_user)
}

fn compare(a: &Row, b: &Row, state: &State) -> Ordering {
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

/// Each process below who created it. With a filter, those that match and all above them.
fn tree(picture: &Picture, state: &State, users: &Users, glyphs: &Glyphs) -> Vec<Row> {
    let mut rows: FxHashMap<ProcessId, Row> = FxHashMap::default();
    let mut above: FxHashMap<ProcessId, Option<ProcessId>> = FxHashMap::default();
    for spawned in &picture.processes {
        rows.insert(spawned.process.id, of_process(spawned, spawned.below, picture, users));
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
    // Those to come are on a stack: a chain of processes can be as long as there are pids.
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
