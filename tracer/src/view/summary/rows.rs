//! The lines of the summary's tree.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use unicode_width::UnicodeWidthStr as _;

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::view::escape;
use crate::view::forest::{Forest, Node};
use crate::view::glyphs::Glyphs;
use crate::view::label;
use crate::view::line::{Line, Role};
use crate::view::units;

/// Most processes of which each gets its own line.
const MAX_SINGLE: usize = 50;

/// Most lines of the tree.
const MAX_LINES: usize = 200;

/// Greatest depth of indented lines. Deeper lines show their depth as a number.
const MAX_DEPTH: usize = 12;

/// The sums of several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) processes: u64,
    pub(super) failed: u64,
    pub(super) running: u64,
    /// The longest duration.
    pub(super) wall_ns: u64,
    /// The sum of all CPU times.
    pub(super) cpu_ns: u64,
    /// The largest peak.
    pub(super) max_rss_bytes: u64,
}

impl Sums {
    /// Returns the values of one process, which may still run at `now`.
    pub(super) fn of(node: &Node, now: Timestamp) -> Self {
        let end = node.end.as_deref();
        let lived = u64::try_from(now.0 - node.start.0).unwrap_or(0);
        let usage = end.and_then(|end| end.exit.own());
        Self {
            processes: 1,
            failed: u64::from(end.is_some_and(|end| label::failed(&end.exit))),
            running: u64::from(end.is_none()),
            wall_ns: end.map_or(lived, |end| end.exit.duration_ns.unwrap_or_else(|| since(node.start, end.time))),
            cpu_ns: usage.map_or(0, |usage| usage.user_ns + usage.system_ns),
            max_rss_bytes: usage.map_or(0, |usage| usage.max_rss_bytes),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        self.failed += other.failed;
        self.running += other.running;
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.cpu_ns += other.cpu_ns;
        self.max_rss_bytes = self.max_rss_bytes.max(other.max_rss_bytes);
    }
}

fn since(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.0 - start.0).unwrap_or(0)
}

/// A line of the tree.
#[derive(Clone, Debug)]
enum Item {
    /// A process, with its children below.
    One(ProcessId),
    /// Leaves that differ only in pids, times and sizes.
    Same(ProcessId, Sums),
    /// Children that are not shown, with their descendants.
    More(Sums),
}

/// Draws the tree.
pub(super) struct CostTree<'a> {
    forest: &'a Forest,
    folded: &'a FxHashMap<ProcessId, Sums>,
    now: Timestamp,
    glyphs: &'a Glyphs,
    /// The sums of each process and its descendants.
    totals: FxHashMap<ProcessId, Sums>,
}

/// Returns the names of the columns.
pub(super) fn heading() -> Line {
    Line::new()
        .with(Role::Heading, &format!("{:>6}  {:>6}  {:>5}  {:<8} {}", "TIME", "CPU", "MEM", "STATUS", "COMMAND"))
}

impl<'a> CostTree<'a> {
    pub(super) fn new(
        forest: &'a Forest,
        folded: &'a FxHashMap<ProcessId, Sums>,
        now: Timestamp,
        glyphs: &'a Glyphs,
    ) -> Self {
        Self { forest, folded, now, glyphs, totals: FxHashMap::default() }
    }

    /// Returns the sums of a process and its descendants. They are known after `draw`.
    pub(super) fn total(&self, id: ProcessId) -> Sums {
        self.totals.get(&id).copied().unwrap_or_default()
    }

    /// Draws a process and its descendants. `start` replaces the start time of the process.
    pub(super) fn draw(&mut self, root: ProcessId, start: Timestamp) -> Vec<Line> {
        self.sum_up(root, start);
        let collapse = self.total(root).processes > MAX_SINGLE as u64;
        let mut items: FxHashMap<ProcessId, Vec<Item>> = FxHashMap::default();
        for &id in self.totals.keys() {
            items.insert(id, self.items(id, collapse));
        }
        // The most children of one process, so that the tree fits.
        let mut limit = items.values().map(Vec::len).max().unwrap_or(0).max(1);
        let mut shown = self.limited(&items, limit);
        while limit > 1 && lines(root, &shown) > MAX_LINES {
            limit = limit.div_ceil(2);
            shown = self.limited(&items, limit);
        }
        self.write(root, start, &shown)
    }

    /// Sums up from the leaves to the root.
    fn sum_up(&mut self, root: ProcessId, start: Timestamp) {
        let mut order = vec![root];
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            self.totals.insert(id, Sums::default());
            order.extend(self.forest.children(id).iter().copied().filter(|id| !self.totals.contains_key(id)));
            next += 1;
        }
        for id in order.into_iter().rev() {
            let Some(node) = self.forest.get(id) else { continue };
            let mut sums = self.sums(node, if id == root { start } else { node.start });
            for below in
                self.forest.children(id).iter().map(|&child| self.total(child)).chain(self.folded.get(&id).copied())
            {
                sums.add(&below);
            }
            self.totals.insert(id, sums);
        }
    }

    fn sums(&self, node: &Node, start: Timestamp) -> Sums {
        let mut sums = Sums::of(node, self.now);
        if start != node.start {
            sums.wall_ns = since(start, node.end.as_ref().map_or(self.now, |end| end.time));
        }
        sums
    }

    /// Returns the children of a process. With `collapse`, identical leaves become one item.
    fn items(&self, id: ProcessId, collapse: bool) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut same: FxHashMap<String, usize> = FxHashMap::default();
        for &child in self.forest.children(id) {
            let Some(node) = self.forest.get(child) else { continue };
            let leaf = self.forest.children(child).is_empty() && !self.folded.contains_key(&child);
            if !collapse || !leaf {
                items.push(Item::One(child));
                continue;
            }
            let appearance = format!("{}\0{}", Self::status(node).plain(), self.command(node).plain());
            let at = *same.entry(appearance).or_insert(items.len());
            let sums = self.total(child);
            match items.get_mut(at) {
                None => items.push(Item::Same(child, sums)),
                Some(Item::Same(_, all)) => all.add(&sums),
                Some(_) => {}
            }
        }
        if let Some(folded) = self.folded.get(&id) {
            items.push(Item::More(*folded));
        }
        items
    }

    /// Keeps at most `limit` items of each process, in order: those that failed or used most CPU time, and the sums of the rest.
    fn limited(&self, items: &FxHashMap<ProcessId, Vec<Item>>, limit: usize) -> FxHashMap<ProcessId, Vec<Item>> {
        let limited = items.iter().map(|(&id, items)| {
            if items.len() <= limit {
                return (id, items.clone());
            }
            let mut ranked: Vec<usize> = (0..items.len()).collect();
            ranked.sort_by_key(|&i| {
                let sums = self.sums_of(&items[i]);
                (matches!(items[i], Item::More(_)), Reverse((sums.failed > 0, sums.cpu_ns)), i)
            });
            let mut keep = vec![false; items.len()];
            for &i in &ranked[..limit - 1] {
                keep[i] = true;
            }
            let mut rest = Sums::default();
            let mut shown = Vec::with_capacity(limit);
            for (i, item) in items.iter().enumerate() {
                if keep[i] { shown.push(item.clone()) } else { rest.add(&self.sums_of(item)) }
            }
            shown.push(Item::More(rest));
            (id, shown)
        });
        limited.collect()
    }

    fn sums_of(&self, item: &Item) -> Sums {
        match item {
            Item::One(id) => self.total(*id),
            Item::Same(_, sums) | Item::More(sums) => *sums,
        }
    }

    /// Draws the items. Without recursion, because a chain of processes can be as long as there are pids.
    fn write(&self, root: ProcessId, start: Timestamp, shown: &FxHashMap<ProcessId, Vec<Item>>) -> Vec<Line> {
        let mut out: Vec<Line> = Vec::new();
        let mut stack = vec![(Item::One(root), String::new(), String::new(), 0)];
        while let Some((item, before, inner, depth)) = stack.pop() {
            if out.len() >= MAX_LINES {
                let mut rest = self.sums_of(&item);
                for (item, ..) in &stack {
                    rest.add(&self.sums_of(item));
                }
                out.push(self.more(&rest, ""));
                break;
            }
            let id = match item {
                Item::One(id) => id,
                Item::Same(id, sums) => {
                    out.extend(self.forest.get(id).map(|node| self.same(node, &sums, &before)));
                    continue;
                }
                Item::More(sums) => {
                    out.push(self.more(&sums, &before));
                    continue;
                }
            };
            if let Some(node) = self.forest.get(id) {
                let own = self.sums(node, if id == root { start } else { node.start });
                let mut line = self.columns(&own, &Self::status(node)).with(Role::Dim, &before);
                line.append(&self.command(node));
                out.push(line);
            }
            let children = shown.get(&id).map_or(&[][..], Vec::as_slice);
            for (i, child) in children.iter().enumerate().rev() {
                let last = i + 1 == children.len();
                let sign = if last { self.glyphs.last } else { self.glyphs.branch };
                let beside = if last { "  " } else { self.glyphs.vertical };
                let (before, inner) = if depth < MAX_DEPTH {
                    (format!("{inner}{sign} "), format!("{inner}{beside} "))
                } else {
                    (format!("{inner}{} {depth} ", self.glyphs.ellipsis), inner.clone())
                };
                stack.push((child.clone(), before, inner, depth + 1));
            }
        }
        out
    }

    /// Returns the line of identical leaves.
    fn same(&self, node: &Node, sums: &Sums, before: &str) -> Line {
        let mut line = self.columns(sums, &Self::status(node)).with(Role::Dim, before);
        if sums.processes > 1 {
            line.push(Role::Heading, &format!("{}{} ", units::count(sums.processes), self.glyphs.times));
        }
        line.append(&self.command(node));
        line
    }

    /// Returns the line of processes that are not shown.
    fn more(&self, sums: &Sums, before: &str) -> Line {
        let status = match sums.failed {
            0 => Line::new(),
            n => Line::new().with(Role::Bad, &format!("{} bad", units::count(n))),
        };
        let text = format!("{} and {} more (-o FILE gets all)", self.glyphs.ellipsis, units::count(sums.processes));
        self.columns(sums, &status).with(Role::Dim, before).with(Role::Dim, &text)
    }

    fn columns(&self, sums: &Sums, status: &Line) -> Line {
        let ended = sums.running < sums.processes;
        let measured = |text: String| if ended { text } else { String::new() };
        let cpu = measured(units::duration(sums.cpu_ns, self.glyphs));
        let memory = measured(units::bytes(sums.max_rss_bytes));
        let mut line = Line::new();
        line.push(Role::Plain, &format!("{:>6}  {cpu:>6}  {memory:>5}  ", units::duration(sums.wall_ns, self.glyphs)));
        line.append(status);
        let padding = 9usize.saturating_sub(status.plain().width()).max(1);
        line.with(Role::Plain, &" ".repeat(padding))
    }

    fn status(node: &Node) -> Line {
        let Some(end) = &node.end else { return Line::new().with(Role::Notice, "running") };
        let role = if label::failed(&end.exit) { Role::Bad } else { Role::Dim };
        Line::new().with(role, &label::status(&end.exit))
    }

    /// Returns the names of earlier programs, the last command line, and what killed the process.
    fn command(&self, node: &Node) -> Line {
        let mut line = Line::new();
        for name in &node.earlier {
            line.push(Role::Dim, &format!("{} {} ", escape::text(name), self.glyphs.arrow));
        }
        if node.process.execs == 0 {
            line.push(Role::Dim, &format!("({})", label::name(&node.process)));
        } else {
            line.push(Role::Plain, &label::command(&node.process));
        }
        if let Some(cause) = node.end.as_ref().and_then(|end| label::cause(&node.process, &end.exit)) {
            line.push(Role::Bad, &format!("  ({cause})"));
        }
        line
    }
}

/// Returns the number of lines of a process and its descendants.
fn lines(root: ProcessId, shown: &FxHashMap<ProcessId, Vec<Item>>) -> usize {
    let mut count = 0;
    let mut stack = vec![root];
    while let Some(id) = stack.pop() {
        count += 1;
        for item in shown.get(&id).into_iter().flatten() {
            match item {
                Item::One(id) => stack.push(*id),
                _ => count += 1,
            }
        }
    }
    count
}
