//! Storms: what one process and its descendants spawn above a rate, summed up in a line a second.
//!
//! Pure: driven by events and their own clock; [`Storms::tick`] says what time it is where no event does.
//!
//! An event counts for its process and all who created that, one by the other. Whoever has more below it in one second
//! than the rate allows begins a storm; to blame is the lowest living process that has the better part of it. While the
//! storm goes on, whoever is born below the culprit is *of the storm*, and so is each exec there; a second with less
//! ends it. With [`Mode::Fold`] what is of the storm gets no line of its own. So a process whose birth was shown has its
//! end shown too, and those that outlive a storm are shown from then on.

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

/// What is done with the events of a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the storm's lines are shown.
    Fold,
    /// The storm's lines are added.
    Alert,
}

/// When it is a storm, and what is done then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is done.
    pub mode: Mode,
    /// Events a second that are no storm yet.
    pub rate: u64,
}

/// A storm that goes on.
#[derive(Debug)]
struct Going {
    culprit: Process,
    ancestors: Vec<Ancestor>,
    began_ns: u64,
    /// The rate that began it.
    threshold: u64,
    /// Begin of the period that is summed up.
    since_ns: u64,
    tally: Tally,
    total: u64,
}

/// Finds storms in a stream of events.
#[derive(Debug)]
pub struct Storms {
    options: Options,
    lineage: Lineage<Below>,
    going: BTreeMap<u64, Going>,
    /// The storm of a culprit.
    by_culprit: FxHashMap<ProcessId, u64>,
    begun: u64,
    folded: u64,
    second: u64,
    utc_minus_boot_ns: i64,
    line: Vec<ProcessId>,
}

impl Storms {
    /// Nothing seen yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            lineage: Lineage::default(),
            going: BTreeMap::new(),
            by_culprit: FxHashMap::default(),
            begun: 0,
            folded: 0,
            second: 0,
            utc_minus_boot_ns: 0,
            line: Vec::new(),
        }
    }

    /// From now on, more than so many events a second are a storm.
    pub const fn set_rate(&mut self, rate: u64) {
        self.options.rate = rate;
    }

    /// Storms so far.
    pub const fn begun(&self) -> u64 {
        self.begun
    }

    /// Events so far that got no line of their own.
    pub const fn folded(&self) -> u64 {
        self.folded
    }

    /// When [`Storms::tick`] is due, in nanoseconds of `CLOCK_BOOTTIME`: never while there is no storm.
    pub fn due_ns(&self) -> Option<u64> {
        self.going.values().map(|storm| storm.since_ns + SECOND_NS).min()
    }

    /// Learns who descends from whom, from a snapshot; its events go through [`Storms::take`] like all others.
    pub fn learn(&mut self, snapshot: &[Event]) {
        let processes: Vec<&Process> = snapshot.iter().filter_map(|event| event.process.as_ref()).collect();
        self.lineage.adopt(&processes);
    }

    /// Takes in an event, and says whether it is to be shown. `wanted` is false for one that a filter leaves out: it
    /// counts for nothing, but who descends from whom is learnt from it. Lines that are due go to `out`, to be shown
    /// before the event.
    pub fn take(&mut self, event: &Event, wanted: bool, out: &mut Vec<Event>) -> bool {
        if let Some(boot_ns) = event.boot_ns {
            self.utc_minus_boot_ns = event.time.0 - boot_ns as i64;
            self.tick(boot_ns, out);
        }
        let Some(process) = event.process.as_ref().filter(|_| is_of_a_life(event.kind())) else { return true };
        let storm = self.storm_of(event.kind(), process);
        self.lineage.learn(event.kind(), process, Below::born(storm));
        let shown = if wanted { self.judge(event, process, storm, out) } else { true };
        if event.kind() == Kind::Exit {
            self.lineage.end(process.id);
        }
        shown
    }

    /// Counts a wanted event: for the storm it is of, or else for all it descends from, which may begin one.
    fn judge(&mut self, event: &Event, process: &Process, storm: Option<u64>, out: &mut Vec<Event>) -> bool {
        if let Some(going) = storm.and_then(|storm| self.going.get_mut(&storm)) {
            going.tally.add(event);
            going.total += 1;
            if event.kind() == Kind::Exec && process.id == going.culprit.id {
                going.culprit = process.clone();
            }
            let fold = self.options.mode == Mode::Fold;
            self.folded += u64::from(fold);
            return !fold;
        }
        if let Some(boot_ns) = event.boot_ns.filter(|_| event.kind() != Kind::Process) {
            self.second = self.second.max(boot_ns / SECOND_NS);
            self.lineage.line(process.id, &mut self.line);
            // What goes on below a culprit and is not of the storm is no reason for another one.
            if self.storm_above(1).is_none()
                && let Some((culprit, events)) = self.lineage.count(&self.line, self.second, self.options.rate)
            {
                self.begin(culprit, events, boot_ns, out);
            }
        }
        true
    }

    /// The storm that an event is of, if it goes on: by birth, or for an exec by where it happens.
    fn storm_of(&mut self, kind: Kind, process: &Process) -> Option<u64> {
        if self.going.is_empty() {
            return None;
        }
        if kind == Kind::Fork || !self.lineage.knows(process.id) {
            if kind == Kind::Process {
                return None;
            }
            self.lineage.line(process.creator_id.or(process.parent_id)?, &mut self.line);
            return self.storm_above(0);
        }
        let own = self.lineage.storm_of(process.id).filter(|storm| self.going.contains_key(storm));
        if own.is_some() || kind != Kind::Exec {
            return own;
        }
        self.lineage.line(process.id, &mut self.line);
        self.storm_above(1)
    }

    /// The storm in which those of the line are, or for which one of them is to blame. Init is to blame for those
    /// right below it, who are at this place in the line at most.
    fn storm_above(&self, below_init: usize) -> Option<u64> {
        let born = |id: &ProcessId| self.lineage.storm_of(*id).filter(|storm| self.going.contains_key(storm));
        self.line.iter().enumerate().find_map(|(i, id)| {
            let blamed = self.by_culprit.get(id).filter(|_| i <= below_init || !self.lineage.is_root(*id));
            blamed.copied().or_else(|| born(id))
        })
    }

    fn begin(&mut self, culprit: ProcessId, events: u64, boot_ns: u64, out: &mut Vec<Event>) {
        let Some(process) = self.lineage.process(culprit).cloned() else { return };
        let ancestors = self.lineage.ancestors(culprit);
        self.lineage.discount(culprit);
        self.begun += 1;
        let storm = Going {
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
        self.going.insert(self.begun, storm);
    }

    /// Sums up the periods that are over.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        while let Some(due_ns) = self.due_ns().filter(|&due_ns| due_ns <= now_ns) {
            let due = self.going.iter().filter(|(_, storm)| storm.since_ns + SECOND_NS == due_ns).map(|(&key, _)| key);
            let due: Vec<u64> = due.collect();
            for key in due {
                let less = self.going.get(&key).is_none_or(|storm| storm.tally.events <= self.options.rate);
                self.sum_up(key, due_ns, if less { StormPhase::End } else { StormPhase::Ongoing }, out);
            }
        }
    }

    /// The last lines of a stream.
    pub fn finish(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        self.tick(now_ns, out);
        let keys: Vec<u64> = self.going.keys().copied().collect();
        for key in keys {
            self.sum_up(key, now_ns, StormPhase::Cut, out);
        }
    }

    fn sum_up(&mut self, key: u64, now_ns: u64, phase: StormPhase, out: &mut Vec<Event>) {
        let Some(mut storm) = self.going.remove(&key) else { return };
        let sums = std::mem::take(&mut storm.tally).line(phase);
        out.push(self.line_of(&storm, sums, now_ns, None));
        if phase == StormPhase::Ongoing {
            storm.since_ns = now_ns;
            self.going.insert(key, storm);
        } else {
            self.by_culprit.remove(&storm.culprit.id);
        }
    }

    fn line_of(&self, storm: &Going, sums: Storm, now_ns: u64, rate: Option<u64>) -> Event {
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

/// What a process does from its birth to its end.
const fn is_of_a_life(kind: Kind) -> bool {
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
