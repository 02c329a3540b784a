//! What `tracer run` shows in the end: the tree of all that was run, what each cost and how it ended, and the totals.
//!
//! It stays readable and within bounds whatever was run: identical leaves become one line, of many children the
//! most telling are shown, and what is left out is told with its sums.

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

/// Processes that are kept one by one; when there are more, leaves that have ended become sums.
const MAX_KEPT: usize = 10_000;

/// Bytes of a command line that are kept: it is cut to the terminal anyway.
const MAX_COMMAND: usize = 1024;

/// Gathers what was run.
#[derive(Debug)]
pub struct Summary {
    forest: Forest,
    /// Of each process, what it made that is no longer kept one by one.
    folded: FxHashMap<ProcessId, Sums>,
    failures: Failures,
    execs: u64,
    signalled: u64,
    user_ns: u64,
    system_ns: u64,
    /// When it was let go; none for its first exec.
    began: Option<Timestamp>,
    /// When the last of them ended.
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
    /// Of a command that was let go at a time of the boot clock; what it used before is not in the events.
    pub fn since(began: Timestamp) -> Self {
        Self { began: Some(began), ..Self::default() }
    }

    /// Takes in an event.
    pub fn apply(&mut self, event: &Event) {
        let Some(process) = &event.process else { return };
        let detail = match &event.detail {
            // The tree needs no more of them than which they are.
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

    /// Turns a leaf that has ended into a sum of its parent; then the parent, if that made it such a leaf.
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

    /// The view of all that descends from a pid: `now` (boot clock) is when those that still run were last looked at.
    pub fn lines(&self, root: u32, bye: &Bye, now: Timestamp, width: Option<usize>, glyphs: &Glyphs) -> Vec<Line> {
        let same_pid = self.forest.nodes().filter(|node| node.process.pid == root);
        let Some(root) = same_pid.min_by_key(|node| node.process.id) else { return Vec::new() };
        // It was held until it was traced: what counts is what came after.
        let start = self.began.or(root.first_exec).unwrap_or(root.start);
        let mut picture = rows::Picture::new(&self.forest, &self.folded, now, glyphs);
        let mut lines = vec![Line::new(), rows::heading()];
        lines.extend(picture.draw(root.process.id, start));
        let total = picture.total(root.process.id);
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

/// A process without what the picture does not show.
fn slim(process: &Process) -> Process {
    let mut slim = Process::new(process.id, process.source);
    slim.parent_id = process.parent_id;
    slim.creator_id = process.creator_id;
    slim.start_time = process.start_time;
    slim.execs = process.execs;
    slim.kthread = process.kthread;
    let mut room = MAX_COMMAND;
    let fits = |arg: &&str| {
        let fits = arg.len() < room;
        room = room.saturating_sub(arg.len() + 1);
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
