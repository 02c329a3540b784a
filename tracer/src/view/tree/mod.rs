//! Draws a forest as pstree does.
//!
//! The shapes are those of psmisc's pstree, with one difference: the bracket of `3*[…]` closes at the end of its last line, not
//! of each line.

use rustc_hash::FxHashSet;

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::view::escape;
use crate::view::forest::{Change, Forest, Node};
use crate::view::glyphs::Glyphs;
use crate::view::label;
use crate::view::line::{Line, Role};
use crate::view::order::{self, Group, Groups};
use crate::view::users::Users;

/// What is drawn, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The signs to draw with.
    pub glyphs: &'a Glyphs,
    /// Whether pids are shown. Then nothing is compacted.
    pub pids: bool,
    /// Names of users, shown if a process has another user than its parent.
    pub users: Option<&'a Users>,
    /// Whether arguments are shown. Then each process has its own line.
    pub arguments: bool,
    /// Whether siblings are sorted by pid instead of name.
    pub by_pid: bool,
    /// Whether identical subtrees are compacted to `3*[…]`.
    pub compact: bool,
    /// The process to highlight, with its ancestors.
    pub highlight: Option<ProcessId>,
    /// The width to which lines are truncated.
    pub width: Option<usize>,
    /// The time since which changes are marked.
    pub changes_since: Option<Timestamp>,
}

impl<'a> Options<'a> {
    /// Returns the defaults of pstree.
    pub const fn new(glyphs: &'a Glyphs) -> Self {
        Self {
            glyphs,
            pids: false,
            users: None,
            arguments: false,
            by_pid: false,
            compact: true,
            highlight: None,
            width: None,
            changes_since: None,
        }
    }
}

/// Draws the trees of some roots.
pub fn draw(forest: &Forest, roots: &[ProcessId], options: &Options<'_>) -> Vec<Line> {
    let painter = TreePainter {
        forest,
        options,
        highlighted: options.highlight.map(|id| forest.lineage(id).collect()).unwrap_or_default(),
    };
    let name = |id: ProcessId| forest.get(id).and_then(|node| node.process.image.comm.clone());
    let key = |id: ProcessId| {
        let (name, owner) = if options.by_pid { (None, None) } else { (name(id), forest.get(id).and_then(owner)) };
        (name, owner, id.pid())
    };
    let appearance = |id: ProcessId| painter.appearance(id);
    let appearance: Option<&dyn Fn(ProcessId) -> String> =
        if options.compact && !options.pids && !options.arguments { Some(&appearance) } else { None };
    let mut groups = order::groups(forest, roots, key, appearance);
    let mut lines = Vec::new();
    for &root in roots {
        painter.tree(root, &mut groups, &mut lines);
    }
    lines
}

/// Draws the tree of a process below its ancestors, without other descendants of those.
pub fn draw_with_ancestors(forest: &Forest, id: ProcessId, options: &Options<'_>) -> Vec<Line> {
    let mut lineage: Vec<_> = forest.lineage(id).collect();
    lineage.reverse();
    let mut narrow = forest.clone();
    for pair in lineage.windows(2) {
        narrow.keep_only_child(pair[0], pair[1]);
    }
    draw(&narrow, &lineage[..1.min(lineage.len())], options)
}

/// Returns the user whose name is shown: the effective one.
fn owner(node: &Node) -> Option<u32> {
    node.process.euid.or(node.process.uid)
}

struct TreePainter<'a> {
    forest: &'a Forest,
    options: &'a Options<'a>,
    highlighted: FxHashSet<ProcessId>,
}

/// The indentation of the children of a process, behind that of the outer level: a vertical line if the process has later siblings,
/// then blanks. A linked list, because a chain of processes can be as long as there are pids, and most of it is never
/// written.
#[derive(Clone, Copy)]
struct Level {
    outer: Option<usize>,
    beside: &'static str,
    blanks: usize,
}

/// A process that is still to be drawn.
struct Pending {
    group: Group,
    /// The level of its siblings.
    level: Option<usize>,
    /// False if it continues the line of its parent.
    own_line: bool,
    last: bool,
    parent_owner: Option<u32>,
    /// Brackets that close after its last line.
    brackets: usize,
}

impl TreePainter<'_> {
    /// Draws one tree, depth first, with a stack instead of recursion.
    fn tree(&self, root: ProcessId, groups: &mut Groups, lines: &mut Vec<Line>) {
        let glyphs = self.options.glyphs;
        let group = Group { id: root, count: 1 };
        // As in pstree, the root of the tree shows its user, too, unless that is root.
        let parent_owner = Some(0);
        let mut stack = vec![Pending { group, level: None, own_line: false, last: true, parent_owner, brackets: 0 }];
        let mut levels = Vec::<Level>::new();
        let mut line = Line::new();
        while let Some(Pending { group, level, own_line, last, parent_owner, brackets }) = stack.pop() {
            let Some(node) = self.forest.get(group.id) else { continue };
            if own_line {
                line.push(Role::Plain, &indent(&levels, level));
                line.push(Role::Plain, if last { glyphs.last } else { glyphs.branch });
            }
            let label = self.label(node, group.count, parent_owner);
            line.append(&label);
            let children = groups.remove(&group.id).unwrap_or_default();
            if children.is_empty() {
                line.push(Role::Plain, &"]".repeat(brackets));
            }
            let inline = !self.options.arguments;
            if children.is_empty() || !inline {
                lines.push(std::mem::take(&mut line).cut(self.options.width, glyphs));
            } else {
                line.push(Role::Plain, if children.len() > 1 { glyphs.first } else { glyphs.single });
            }
            let beside = match level {
                None => "",
                Some(_) if last => "  ",
                Some(_) => glyphs.vertical,
            };
            levels.push(Level { outer: level, beside, blanks: if inline { label.width() } else { 1 } + 1 });
            let level = Some(levels.len() - 1);
            let count = children.len();
            for (i, child) in children.into_iter().enumerate().rev() {
                let last = i + 1 == count;
                stack.push(Pending {
                    group: child,
                    level,
                    own_line: i > 0 || !inline,
                    last,
                    parent_owner: owner(node),
                    brackets: if last { brackets } else { 0 } + usize::from(child.count > 1),
                });
            }
        }
    }

    fn label(&self, node: &Node, count: usize, parent_owner: Option<u32>) -> Line {
        let process = &node.process;
        let role = self.role(node);
        let mut line = Line::new();
        if count > 1 {
            line.push(Role::Plain, &format!("{count}*["));
        }
        line.push(role, &label::name(process));
        let mut info = Vec::new();
        if self.options.pids {
            info.push(process.pid.to_string());
        }
        let owner = owner(node);
        if let (Some(users), Some(uid)) = (self.options.users, owner.filter(|_| owner != parent_owner)) {
            info.push(users.name(uid).to_string());
        }
        if !info.is_empty() {
            let info = info.join(",");
            line.push(role, &if self.options.arguments { format!(",{info}") } else { format!("({info})") });
        }
        if self.options.arguments
            && let Some(argv) = &process.image.argv
            && argv.len() > 1
        {
            line.push(role, " ");
            line.push(role, &escape::command_line(argv.iter().skip(1)));
        }
        match &node.end {
            Some(end) => line.push(Role::Dim, &format!(" [{}]", ending(&end.exit))),
            None if process.zombie => line.push(Role::Dim, " <defunct>"),
            None => {}
        }
        line
    }

    fn role(&self, node: &Node) -> Role {
        let recent = node.change.filter(|(_, time)| self.options.changes_since.is_some_and(|since| *time >= since));
        match recent {
            Some((Change::Exited, _)) => Role::Gone,
            Some((Change::Forked, _)) => Role::Good,
            Some((Change::Exec, _)) => Role::Notice,
            None if node.end.is_some() => Role::Dim,
            None if self.highlighted.contains(&node.process.id) => Role::Highlight,
            None => Role::Plain,
        }
    }

    /// Returns a key that is equal for processes that look the same.
    fn appearance(&self, id: ProcessId) -> String {
        let Some(node) = self.forest.get(id) else { return String::new() };
        let owner = self.options.users.and(owner(node));
        format!("{}\0{:?}\0{owner:?}", self.label(node, 1, owner).plain(), self.role(node))
    }
}

fn indent(levels: &[Level], level: Option<usize>) -> String {
    let chain = std::iter::successors(level, |&level| levels[level].outer);
    let chain: Vec<_> = chain.map(|level| levels[level]).collect();
    let mut out = String::new();
    for level in chain.into_iter().rev() {
        out.push_str(level.beside);
        out.extend(std::iter::repeat_n(' ', level.blanks));
    }
    out
}

/// Returns how a process exited, for the brackets behind its name.
fn ending(exit: &crate::event::Exit) -> String {
    if exit.signal.is_some() { label::status(exit) } else { format!("exit {}", label::status(exit)) }
}

#[cfg(test)]
mod tests;
