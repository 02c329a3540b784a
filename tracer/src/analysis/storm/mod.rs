//! Storms: a process and its descendants with more events per second than a rate, summed up once a second.
//!
//! Pure: events carry the time. [`Storms::tick`] sets the time where there is no event.
//!
//! An event counts for its process and all its ancestors by creator. A process with more events below it in one second
//! than the rate begins a storm. The culprit is the lowest living process with most of these events. While the storm
//! lasts, each process forked below the culprit belongs to it, and so does each exec there. A second with fewer events
//! ends the storm. With [`Mode::Fold`] the events of a storm are not shown. So a process whose fork was shown also has
//! its exit shown. A process that outlives a storm is shown from then on.

mod blame;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::analysis::lineage::Lineage;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Ancestor, Detail, Event, Kind, Process, Storm, StormPhase};
use blame::Below;
use tally::Tally;

const SECOND_NS: u64 = 1_000_000_000;

/// How the events of a storm are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the storm's own events are shown.
    Fold,
    /// The storm's own events are added to the others.
    Alert,
}

/// The rate of a storm and how its events are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How its events are handled.
    pub mode: Mode,
    /// Events per second that are not yet a storm.
    pub rate: u64,
}

/// A storm in progress.
#[derive(Debug)]
struct ActiveStorm {
    culprit: Process,
    ancestors: Vec<Ancestor>,
    began_ns: u64,
    /// The rate that began it.
    threshold: u64,
    /// Begin of the current period.
    since_ns: u64,
    tally: Tally,
    total: u64,
}

/// Finds storms in a stream of events.
#[derive(Debug)]
pub struct Storms {
    options: Options,
    lineage: Lineage<Below>,
    active: BTreeMap<u64, ActiveStorm>,
    /// The storm of each culprit.
    by_culprit: FxHashMap<ProcessId, u64>,
    begun: u64,
    folded: u64,
    second: u64,
    utc_minus_boot_ns: i64,
    line: Vec<ProcessId>,
}

impl Storms {
    /// Returns a detector without events.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            lineage: Lineage::default(),
            active: BTreeMap::new(),
            by_culprit: FxHashMap::default(),
            begun: 0,
            folded: 0,
            second: 0,
            utc_minus_boot_ns: 0,
            line: Vec::new(),
        }
    }

    /// Sets the number of events per second above which a storm begins.
    pub const fn set_rate(&mut self, rate: u64) {
        self.options.rate = rate;
    }

    /// Returns the number of storms so far.
    pub const fn begun(&self) -> u64 {
        self.begun
    }

    /// Returns the number of folded events so far.
    pub const fn folded(&self) -> u64 {
        self.folded
    }

    /// Returns when [`Storms::tick`] is due, in nanoseconds of `CLOCK_BOOTTIME`. `None` without a storm.
    pub fn due_ns(&self) -> Option<u64> {
        self.active.values().map(|storm| storm.since_ns + SECOND_NS).min()
    }

    /// Takes in the process tree of a snapshot. Its events must go through [`Storms::take`] too.
    pub fn learn(&mut self, snapshot: &[Event]) {
        let processes: Vec<&Process> = snapshot.iter().filter_map(|event| event.process.as_ref()).collect();
        self.lineage.adopt(&processes);
    }

    /// Takes in an event and returns whether to show it.
    ///
    /// `wanted` is false for an event that is filtered out. It is not counted, but it updates the process tree. Storm
    /// events that are due go to `out`, to be shown before this event.
    pub fn take(&mut self, event: &Event, wanted: bool, out: &mut Vec<Event>) -> bool {
        if let Some(boot_ns) = event.boot_ns {
            self.utc_minus_boot_ns = event.time.0 - boot_ns as i64;
            self.tick(boot_ns, out);
        }
        let Some(process) = event.process.as_ref().filter(|_| is_of_process(event.kind())) else { return true };
        let storm = self.storm_of(event.kind(), process);
        self.lineage.learn(event.kind(), process, Below::new(storm));
        let shown = if wanted { self.judge(event, process, storm, out) } else { true };
        if event.kind() == Kind::Exit {
            self.lineage.end(process.id);
        }
        shown
    }

    /// Counts an event for its storm, or else for its process and ancestors, which may begin one. Returns whether to show it.
    fn judge(&mut self, event: &Event, process: &Process, storm: Option<u64>, out: &mut Vec<Event>) -> bool {
        if let Some(active) = storm.and_then(|storm| self.active.get_mut(&storm)) {
            active.tally.add(event);
            active.total += 1;
            if event.kind() == Kind::Exec && process.id == active.culprit.id {
                active.culprit = process.clone();
            }
            let fold = self.options.mode == Mode::Fold;
            self.folded += u64::from(fold);
            return !fold;
        }
        if let Some(boot_ns) = event.boot_ns.filter(|_| event.kind() != Kind::Process) {
            self.second = self.second.max(boot_ns / SECOND_NS);
            self.lineage.line(process.id, &mut self.line);
            // Other events below a culprit do not begin a second storm.
            if self.storm_above(1).is_none()
                && let Some((culprit, events)) = self.lineage.count(&self.line, self.second, self.options.rate)
            {
                self.begin(culprit, events, boot_ns, out);
            }
        }
        true
    }

    /// Returns the storm in progress that an event belongs to. The fork of its process decides, or the ancestors for an exec.
    fn storm_of(&mut self, kind: Kind, process: &Process) -> Option<u64> {
        if self.active.is_empty() {
            return None;
        }
        if kind == Kind::Fork || !self.lineage.knows(process.id) {
            if kind == Kind::Process {
                return None;
            }
            self.lineage.line(process.creator_id.or(process.parent_id)?, &mut self.line);
            return self.storm_above(0);
        }
        let own = self.lineage.storm_of(process.id).filter(|storm| self.active.contains_key(storm));
        if own.is_some() || kind != Kind::Exec {
            return own;
        }
        self.lineage.line(process.id, &mut self.line);
        self.storm_above(1)
    }

    /// Returns the storm that a process of `line` was forked in or is the culprit of.
    ///
    /// Init is a culprit only for its children, so only up to index `below_init`.
    fn storm_above(&self, below_init: usize) -> Option<u64> {
        let forked_in = |id: &ProcessId| self.lineage.storm_of(*id).filter(|storm| self.active.contains_key(storm));
        self.line.iter().enumerate().find_map(|(i, id)| {
            let culprit = self.by_culprit.get(id).filter(|_| i <= below_init || !self.lineage.is_root(*id));
            culprit.copied().or_else(|| forked_in(id))
        })
    }

    fn begin(&mut self, culprit: ProcessId, events: u64, boot_ns: u64, out: &mut Vec<Event>) {
        let Some(process) = self.lineage.process(culprit).cloned() else { return };
        let ancestors = self.lineage.ancestors(culprit);
        self.lineage.discount(culprit);
        self.begun += 1;
        let storm = ActiveStorm {
            culprit: process,
            ancestors,
            began_ns: boot_ns,
            threshold: self.options.rate,
            since_ns: boot_ns,
            tally: Tally::default(),
            total: 0,
        };
        out.push(self.line_of(&storm, Tally::default().line(StormPhase::Begin), boot_ns, Some(events)));
        self.by_culprit.insert(culprit, self.begun);
        self.active.insert(self.begun, storm);
    }

    /// Appends the sums of all periods that are over at `now_ns`.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        while let Some(due_ns) = self.due_ns().filter(|&due_ns| due_ns <= now_ns) {
            let due = self.active.iter().filter(|(_, storm)| storm.since_ns + SECOND_NS == due_ns).map(|(&key, _)| key);
            let due: Vec<u64> = due.collect();
            for key in due {
                let less = self.active.get(&key).is_none_or(|storm| storm.tally.events <= self.options.rate);
                self.sum_up(key, due_ns, if less { StormPhase::End } else { StormPhase::Ongoing }, out);
            }
        }
    }

    /// Appends the last sums at the end of a stream.
    pub fn finish(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        self.tick(now_ns, out);
        let keys: Vec<u64> = self.active.keys().copied().collect();
        for key in keys {
            self.sum_up(key, now_ns, StormPhase::Cut, out);
        }
    }

    fn sum_up(&mut self, key: u64, now_ns: u64, phase: StormPhase, out: &mut Vec<Event>) {
        let Some(mut storm) = self.active.remove(&key) else { return };
        let sums = std::mem::take(&mut storm.tally).line(phase);
        out.push(self.line_of(&storm, sums, now_ns, None));
        if phase == StormPhase::Ongoing {
            storm.since_ns = now_ns;
            self.active.insert(key, storm);
        } else {
            self.by_culprit.remove(&storm.culprit.id);
        }
    }

    fn line_of(&self, storm: &ActiveStorm, sums: Storm, now_ns: u64, rate: Option<u64>) -> Event {
        let period_ns = now_ns.saturating_sub(storm.since_ns);
        let per_second = u128::from(sums.events) * u128::from(SECOND_NS) / u128::from(period_ns.max(1));
        let sums = Storm {
            rate: rate.unwrap_or(u64::try_from(per_second).unwrap_or(u64::MAX)),
            threshold: storm.threshold,
            began_boot_ns: storm.began_ns,
            period_ns,
            folded: if self.options.mode == Mode::Fold { sums.events } else { 0 },
            total_events: storm.total,
            ..sums
        };
        let time = Timestamp(self.utc_minus_boot_ns.saturating_add_unsigned(now_ns));
        Event {
            boot_ns: Some(now_ns),
            process: Some(storm.culprit.clone()),
            ancestors: Some(storm.ancestors.clone()),
            ..Event::new(Detail::Storm(Box::new(sums)), time)
        }
    }
}

/// Returns true for the kinds of event that storms count.
const fn is_of_process(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Process
            | Kind::Fork
            | Kind::Exec
            | Kind::ExecFailed
            | Kind::Exit
            | Kind::Reparent
            | Kind::ThreadStart
            | Kind::ThreadExit
    )
}
