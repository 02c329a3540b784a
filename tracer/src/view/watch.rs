//! The live tree, one frame at a time: what is on the screen follows from what was seen, a time and a size.

use super::forest::{Forest, Shape, moment};
use super::glyphs::Glyphs;
use super::line::{Line, Role};
use super::order::parents_first;
use super::tree::{self, Options};
use super::units;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Event, Kind};

/// How long a change stays marked, and who died stays on the screen.
const AFTERGLOW_NS: i64 = 1_500_000_000;

/// Most dead that are kept when the dead stay.
pub const MAX_DEAD: usize = 5_000;

/// What has been seen, and which part of it is looked at.
#[derive(Debug)]
pub struct Scene {
    forest: Forest,
    /// Pid of the process whose tree is shown, until it was found: a later one with the same pid is another.
    wanted: Option<u32>,
    root: Option<ProcessId>,
    /// Whether the dead stay.
    keep_dead: bool,
    counts: Counts,
    /// First line that is shown.
    top: usize,
    /// When something changed last.
    changed: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    forks: u64,
    execs: u64,
    exits: u64,
    lost: u64,
}

impl Scene {
    /// Nothing seen yet: of all processes (but kernel threads), or of one and its descendants.
    pub fn new(pid: Option<u32>, keep_dead: bool) -> Self {
        Self {
            forest: Forest::new(Shape::Current),
            wanted: pid,
            root: None,
            keep_dead,
            counts: Counts::default(),
            top: 0,
            changed: None,
        }
    }

    /// Takes in an event.
    pub fn apply(&mut self, event: &Event) {
        self.forest.apply(event);
        let shown = u64::from(event.process.as_ref().is_some_and(|process| self.shows(process.id)));
        match event.kind() {
            Kind::Fork => self.counts.forks += shown,
            Kind::Exec => self.counts.execs += shown,
            Kind::Exit => self.counts.exits += shown,
            Kind::Lost => self.counts.lost += event.lost().map_or(0, |lost| lost.total),
            _ => {}
        }
        if let Some(process) = event.process.as_ref().filter(|process| self.wanted == Some(process.pid)) {
            self.root = Some(process.id);
            self.wanted = None;
        }
        self.changed = Some(moment(event));
    }

    fn shows(&self, id: ProcessId) -> bool {
        self.wanted.is_none() && self.root.is_none_or(|root| self.forest.lineage(id).any(|above| above == root))
    }

    /// Lets go of what is over, once in a while. Says whether the picture can look different from the one before.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        if self.keep_dead {
            self.forest.forget_oldest_dead(MAX_DEAD);
        } else {
            self.forest.forget_dead_before(before(now));
        }
        // One frame more than the marks last, so that the last one goes.
        let alive = self.changed.is_some_and(|changed| changed >= Timestamp(now.0 - 2 * AFTERGLOW_NS));
        if !alive {
            self.changed = None;
        }
        alive
    }

    /// All that is known of the processes.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Looks further down or up.
    pub fn scroll(&mut self, lines: isize) {
        self.top = self.top.saturating_add_signed(lines);
    }

    /// What is on a screen of so many columns and rows; nothing is cut where they are not known.
    pub fn frame(&mut self, now: Timestamp, columns: usize, rows: usize, options: &Options<'_>) -> Vec<Line> {
        let options = Options { changes_since: Some(before(now)), width: Some(columns), ..*options };
        let roots = self.roots();
        let lines = tree::draw(&self.forest, &roots, &options);
        let mut frame = vec![self.header(&roots, options.glyphs).cut(Some(columns), options.glyphs)];
        let room = if rows == 0 { lines.len() } else { rows.saturating_sub(1) };
        self.top = self.top.min(lines.len().saturating_sub(room));
        let hidden = lines.len().saturating_sub(self.top + room);
        frame.extend(lines.into_iter().skip(self.top).take(room));
        if hidden > 0 && frame.len() > 1 {
            frame.pop();
            let more = format!("{} {}", options.glyphs.ellipsis, units::counted(hidden as u64 + 1, "more line"));
            frame.push(Line::new().with(Role::Dim, &more).cut(Some(columns), options.glyphs));
        }
        frame
    }

    fn roots(&self) -> Vec<ProcessId> {
        match (self.root, self.wanted) {
            (Some(root), _) => vec![root],
            (None, Some(_)) => Vec::new(),
            (None, None) => user_roots(&self.forest),
        }
    }

    fn header(&self, roots: &[ProcessId], glyphs: &Glyphs) -> Line {
        let Counts { forks, execs, exits, lost } = self.counts;
        let is_living = |id: &ProcessId| self.forest.get(*id).is_some_and(|node| node.end.is_none());
        let living = parents_first(&self.forest, roots).into_iter().filter(is_living).count() as u64;
        let facts = [
            units::counted(living, "process"),
            units::counted(forks, "fork"),
            units::counted(execs, "exec"),
            units::counted(exits, "exit"),
        ];
        let mut line = Line::new().with(Role::Heading, &facts.join(&format!(" {} ", glyphs.dot)));
        if lost > 0 {
            line.push(Role::Bad, &format!(" {} {} lost", glyphs.dot, units::counted(lost, "event")));
        }
        line.with(Role::Dim, "   q ends, j and k scroll")
    }
}

/// Roots of all that is not a kernel thread.
pub fn user_roots(forest: &Forest) -> Vec<ProcessId> {
    let is_kernel = |id: &ProcessId| forest.get(*id).is_some_and(|node| node.process.kthread);
    forest.roots().into_iter().filter(|id| !is_kernel(id)).collect()
}

const fn before(now: Timestamp) -> Timestamp {
    Timestamp(now.0 - AFTERGLOW_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::glyphs::UNICODE;
    use crate::view::samples::{ended, event};

    const T0: i64 = 1_700_000_000_000_000_000;

    fn scene(keep_dead: bool) -> Scene {
        let mut scene = Scene::new(None, keep_dead);
        let mut kthread = event(Kind::Process, 2, 0, "kthreadd");
        kthread.process.as_mut().unwrap().kthread = true;
        let events = [
            event(Kind::Process, 1, 0, "init"),
            kthread,
            event(Kind::Process, 10, 1, "bash"),
            event(Kind::Fork, 11, 10, "bash"),
            event(Kind::Exec, 11, 10, "true"),
            ended(11, 10, "true", 0),
            event(Kind::Fork, 12, 10, "bash"),
        ];
        for event in &events {
            scene.apply(event);
        }
        scene
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| line.plain() + "\n").collect()
    }

    #[test]
    fn changes_glow_and_the_dead_go() {
        let options = Options::new(&UNICODE);
        let mut scene = scene(false);
        assert!(scene.tick(Timestamp(T0)));
        let frame = scene.frame(Timestamp(T0), 80, 24, &options);
        insta::assert_snapshot!(text(&frame), @"
        3 processes · 2 forks · 1 exec · 1 exit   q ends, j and k scroll
        init───bash─┬─bash
                    └─true [exit 0]
        ");
        insta::assert_snapshot!(frame[1].render(true).escape_debug().to_string(), @r"init───bash─┬─\u{1b}[32mbash\u{1b}[0m");
        let later = Timestamp(T0 + AFTERGLOW_NS + 1);
        assert!(scene.tick(later));
        let frame = scene.frame(later, 80, 24, &options);
        insta::assert_snapshot!(text(&frame[1..]), @"init───bash───bash");
        assert_eq!(frame[1].render(true), frame[1].plain());
        assert!(!scene.tick(Timestamp(T0 + 3 * AFTERGLOW_NS)), "a picture at rest is not drawn again");
    }

    #[test]
    fn the_dead_stay_if_asked_to() {
        let mut scene = scene(true);
        let later = Timestamp(T0 + 100 * AFTERGLOW_NS);
        scene.tick(later);
        let frame = scene.frame(later, 80, 24, &Options::new(&UNICODE));
        insta::assert_snapshot!(text(&frame[1..]), @"
        init───bash─┬─bash
                    └─true [exit 0]
        ");
    }

    #[test]
    fn the_dead_that_stay_are_bounded() {
        let mut scene = Scene::new(None, true);
        for pid in 1..=2 * MAX_DEAD as u32 {
            scene.apply(&ended(pid, 0, "x", 0));
        }
        scene.tick(Timestamp(T0));
        assert_eq!(scene.forest.count(), MAX_DEAD);
    }

    #[test]
    fn a_small_screen_shows_a_part_and_says_so() {
        let mut scene = Scene::new(Some(1), false);
        scene.apply(&event(Kind::Process, 1, 0, "init"));
        (2..12).for_each(|pid| scene.apply(&event(Kind::Process, pid, 1, &format!("child{pid:02}"))));
        let options = Options::new(&UNICODE);
        insta::assert_snapshot!(text(&scene.frame(Timestamp(T0), 24, 5, &options)), @"
        11 processes · 0 forks …
        init─┬─child02
             ├─child03
             ├─child04
        … 7 more lines
        ");
        scene.scroll(100);
        insta::assert_snapshot!(text(&scene.frame(Timestamp(T0), 24, 5, &options)), @"
        11 processes · 0 forks …
             ├─child08
             ├─child09
             ├─child10
             └─child11
        ");
        assert_eq!(scene.frame(Timestamp(T0), 0, 0, &options).len(), 11, "an unknown size cuts nothing");
        assert_eq!(scene.frame(Timestamp(T0), 1, 1, &options).len(), 1);
    }
}
