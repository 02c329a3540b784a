//! The summary of `tracer run`: the tree of all processes with cost and exit status, and the totals.
//!
//! Its size is bounded. Identical leaves become one line. Of many children, only the failed and most expensive ones are shown, and one
//! line has the sums of the rest.

mod rows;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Bye, Detail, Event, Image, Process};
use crate::view::failures::Failures;
use crate::view::forest::{Forest, Shape, moment};
use crate::view::glyphs::Glyphs;
use crate::view::line::{Line, Role};
use crate::view::units;
use rows::Sums;

/// Most processes that are kept. Beyond that, exited leaves are only summed up.
const MAX_KEPT: usize = 10_000;

/// Most bytes of a command line that are kept. It is truncated to the terminal anyway.
const MAX_COMMAND: usize = 1024;

/// Collects the processes of a command.
#[derive(Debug)]
pub struct Summary {
    forest: Forest,
    /// For each process, the sums of its descendants that are no longer kept.
    folded: FxHashMap<ProcessId, Sums>,
    failures: Failures,
    execs: u64,
    signalled: u64,
    user_ns: u64,
    system_ns: u64,
    /// When the command was released. `None` means at its first exec.
    began: Option<Timestamp>,
    /// The time of the last exit.
    last_end: Option<Timestamp>,
    max_kept: usize,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            forest: Forest::new(Shape::Created),
            folded: FxHashMap::default(),
            failures: Failures::default(),
            execs: 0,
            signalled: 0,
            user_ns: 0,
            system_ns: 0,
            began: None,
            last_end: None,
            max_kept: MAX_KEPT,
        }
    }
}

impl Summary {
    /// Creates the summary of a command that was released at a time of the boot clock. The events must not contain earlier usage.
    pub fn since(began: Timestamp) -> Self {
        Self { began: Some(began), ..Self::default() }
    }

    /// Applies an event.
    pub fn apply(&mut self, event: &Event) {
        let Some(process) = &event.process else { return };
        let detail = match &event.detail {
            // The tree needs no details of an exec.
            Detail::Exec(_) => Detail::Exec(None),
            detail => detail.clone(),
        };
        self.forest.apply(&Event {
            process: Some(slim(process)),
            boot_ns: event.boot_ns,
            ..Event::new(detail, event.time)
        });
        match &event.detail {
            Detail::Exec(_) => self.execs += 1,
            Detail::ExecFailed(_) => self.failures.add(event),
            Detail::Exit(exit) => {
                self.last_end = self.last_end.max(Some(moment(event)));
                self.signalled += u64::from(exit.signal.is_some());
                self.user_ns += exit.own().map_or(0, |usage| usage.user_ns);
                self.system_ns += exit.own().map_or(0, |usage| usage.system_ns);
                if self.forest.count() > self.max_kept {
                    self.fold(process.id);
                }
            }
            _ => {}
        }
    }

    /// Adds an exited leaf to the sums of its parent. Does the same with the parent, if it has become an exited leaf.
    fn fold(&mut self, id: ProcessId) {
        let mut next = Some(id);
        while let Some(id) = next.take()
            && let Some(node) = self.forest.get(id)
            && let Some(parent) = node.parent.filter(|&parent| self.forest.get(parent).is_some())
            && node.end.is_some()
            && self.forest.children(id).is_empty()
        {
            let mut sums = self.folded.remove(&id).unwrap_or_default();
            sums.add(&Sums::of(node, node.start));
            self.folded.entry(parent).or_default().add(&sums);
            self.forest.forget(id);
            next = Some(parent);
        }
    }

    /// Draws a process and its descendants. Running ones are measured at `now`, a time of the boot clock.
    pub fn lines(&self, root: u32, bye: &Bye, now: Timestamp, width: Option<usize>, glyphs: &Glyphs) -> Vec<Line> {
        let same_pid = self.forest.nodes().filter(|node| node.process.pid == root);
        let Some(root) = same_pid.min_by_key(|node| node.process.id) else { return Vec::new() };
        // The process was held until it was traced. Its time counts from the release.
        let start = self.began.or(root.first_exec).unwrap_or(root.start);
        let mut tree = rows::CostTree::new(&self.forest, &self.folded, now, glyphs);
        let mut lines = vec![Line::new(), rows::heading()];
        lines.extend(tree.draw(root.process.id, start));
        let total = tree.total(root.process.id);
        lines.push(Line::new());
        let end = self.last_end.filter(|_| root.end.is_some()).unwrap_or(now);
        lines.extend(self.totals(&total, u64::try_from(end.0 - start.0).unwrap_or(0), bye, glyphs));
        lines.into_iter().map(|line| line.cut(width, glyphs)).collect()
    }

    fn totals(&self, total: &Sums, wall_ns: u64, bye: &Bye, glyphs: &Glyphs) -> Vec<Line> {
        let dot = format!(" {} ", glyphs.dot);
        let mut count = Line::new();
        count.push(Role::Heading, &units::counted(total.processes, "process"));
        count.push(Role::Plain, &format!("{dot}{}{dot}", units::counted(self.execs, "exec")));
        count.push(
            if total.failed > 0 { Role::Bad } else { Role::Good },
            &format!("{} failed", units::count(total.failed)),
        );
        if self.signalled > 0 {
            count.push(Role::Bad, &format!(" ({} by a signal)", units::count(self.signalled)));
        }
        if total.running > 0 {
            count.push(Role::Plain, &dot);
            count.push(Role::Notice, &format!("{} still running", units::count(total.running)));
        }
        let mut cost = Line::new();
        cost.push(Role::Heading, &units::duration(wall_ns, glyphs));
        let cpu_ns = self.user_ns + self.system_ns;
        cost.push(Role::Plain, &format!("{dot}{} CPU", units::duration(cpu_ns, glyphs)));
        if let Some(percent) = (cpu_ns.saturating_mul(100).saturating_add(wall_ns / 2)).checked_div(wall_ns) {
            cost.push(Role::Dim, &format!(" ({percent} %)"));
        }
        cost.push(Role::Plain, &format!("{dot}largest {}", units::bytes(total.max_rss_bytes)));
        let mut lines = vec![count, cost];
        lines.extend(self.failures.lines(glyphs));
        if bye.untracked > 0 {
            let untracked = units::counted(bye.untracked, "process");
            let text = format!("{untracked} and what they started could not be followed: too many at once");
            lines.push(Line::new().with(Role::Bad, &text));
        }
        if bye.lost > 0 {
            let lost = units::counted(bye.lost, "event");
            lines.push(Line::new().with(Role::Bad, &format!("{lost} lost for want of room: the tree may lack some")));
            lines.push(Line::new().with(Role::Plain, "a larger --ring-size holds more"));
        }
        lines
    }
}

/// Returns a process with only what the summary shows.
fn slim(process: &Process) -> Process {
    let mut slim = Process::new(process.id, process.source);
    slim.parent_id = process.parent_id;
    slim.creator_id = process.creator_id;
    slim.start_time = process.start_time;
    slim.execs = process.execs;
    slim.kthread = process.kthread;
    let mut left = MAX_COMMAND;
    let fits = |arg: &&str| {
        let fits = arg.len() < left;
        left = left.saturating_sub(arg.len() + 1);
        fits
    };
    let Image { comm, exe, argv, .. } = &*process.image;
    let (exe, argv) = match argv {
        Some(argv) => {
            let kept = argv.iter().take_while(fits).count();
            let shown = match argv.iter().nth(kept) {
                None => argv.clone(),
                Some(next) => {
                    let cut: String = next.chars().take(MAX_COMMAND / 4).chain(['…']).collect();
                    argv.iter().take(kept).chain([&*cut]).collect()
                }
            };
            (None, Some(shown))
        }
        None => (exe.clone(), None),
    };
    slim.image = Arc::new(Image { comm: comm.clone(), exe, argv, ..Image::default() });
    slim
}

#[cfg(test)]
mod tests;
