//! What was spawned, by whom: events in, sums out.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::analysis::lineage::Lineage;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Kind, Process};

/// A process that lived no longer than this is short-lived: its CPU time was used within the last few pictures.
pub const SHORT_LIFE_NS: u64 = 10_000_000_000;

/// Names that are told apart in one group.
const DISTINCT: usize = 4096;

/// Commands and statuses that are told apart for one process.
const NOTED: usize = 32;

/// Pictures whose rates are remembered.
const HISTORY: usize = 256;

/// The culprit has at least so much of all that happened, where there is enough to speak of.
const SHARE: (u64, u64) = (2, 3);
const ENOUGH_A_SECOND: u64 = 20;

/// Events counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Processes created.
    pub forks: u64,
    /// Execs.
    pub execs: u64,
    /// Processes ended.
    pub exits: u64,
    /// … of them with another code than 0 or by a signal.
    pub failures: u64,
    /// CPU time of short-lived processes that ended, nanoseconds.
    pub cpu_ns: u64,
}

impl Sums {
    fn of(event: &Event) -> Self {
        let mut sums = Self::default();
        match &event.detail {
            Detail::Fork => sums.forks = 1,
            Detail::Exec(_) => sums.execs = 1,
            Detail::Exit(exit) => {
                sums.exits = 1;
                sums.failures = u64::from(exit.failed());
                let short = exit.duration_ns.is_some_and(|ns| ns <= SHORT_LIFE_NS);
                sums.cpu_ns = exit.own().filter(|_| short).map_or(0, |usage| usage.user_ns + usage.system_ns);
            }
            _ => {}
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        self.forks += other.forks;
        self.execs += other.execs;
        self.exits += other.exits;
        self.failures += other.failures;
        self.cpu_ns += other.cpu_ns;
    }

    /// All events.
    pub const fn events(&self) -> u64 {
        self.forks + self.execs + self.exits
    }
}

/// Sums of the running interval, and of all time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    now: Sums,
    total: Sums,
    interval: u64,
}

impl Activity {
    fn add(&mut self, sums: &Sums, interval: u64) {
        if self.interval != interval {
            (self.interval, self.now) = (interval, Sums::default());
        }
        self.now.add(sums);
        self.total.add(sums);
    }

    fn now(&self, interval: u64) -> Sums {
        if self.interval == interval { self.now } else { Sums::default() }
    }
}

/// How often something was seen, of not too many things.
type Counts = FxHashMap<Arc<str>, u64>;

fn note(counts: &mut Counts, what: &Arc<str>) {
    if counts.len() < NOTED || counts.contains_key(what) {
        *counts.entry(Arc::clone(what)).or_default() += 1;
    }
}

/// What is noted of a process: what its children do, and what all do that descend from it.
#[derive(Debug, Default)]
struct Spawner {
    own: Activity,
    below: Activity,
    commands: Counts,
    endings: Counts,
}

/// A process of a picture, with what it spawned.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// Who created it.
    pub above: Option<ProcessId>,
    /// False if it has ended.
    pub living: bool,
    /// What its children did in the interval, and since the begin.
    pub own: (Sums, Sums),
    /// What all did that descend from it.
    pub below: (Sums, Sums),
    /// What its children executed, the most frequent first (not more than some are told apart).
    pub commands: Vec<(Arc<str>, u64)>,
    /// How they ended, likewise.
    pub endings: Vec<(Arc<str>, u64)>,
}

impl Spawned {
    fn new(process: &Process, above: Option<ProcessId>, living: bool, noted: &Spawner, interval: u64) -> Self {
        let sums = |activity: &Activity| (activity.now(interval), activity.total);
        Self {
            process: process.clone(),
            above,
            living,
            own: sums(&noted.own),
            below: sums(&noted.below),
            commands: sorted(&noted.commands),
            endings: sorted(&noted.endings),
        }
    }
}

fn sorted(counts: &Counts) -> Vec<(Arc<str>, u64)> {
    let mut sorted: Vec<_> = counts.iter().map(|(what, &n)| (Arc::clone(what), n)).collect();
    sorted.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    sorted
}

/// All who share something: the interval's sums and those since the begin.
pub type Shared<K> = Vec<(K, Sums, Sums)>;

/// What was seen in an interval.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Its end.
    pub time: Timestamp,
    /// Its length. 0 before the first one.
    pub interval_ns: u64,
    /// All of it.
    pub all: Sums,
    /// … since the begin.
    pub total: Sums,
    /// Processes that live.
    pub living: usize,
    /// Events lost since the begin.
    pub lost: u64,
    /// Who makes most of it, if one does: the lowest process with the better part below it.
    pub culprit: Option<ProcessId>,
    /// By the process that spawned, and by all its ancestors.
    pub processes: Vec<Spawned>,
    /// By name.
    pub commands: Shared<Option<Arc<str>>>,
    /// By user.
    pub users: Shared<Option<u32>>,
    /// By container.
    pub containers: Shared<Option<Arc<str>>>,
    /// By systemd unit.
    pub units: Shared<Option<Arc<str>>>,
    /// What containers are called, by id.
    pub names: Arc<FxHashMap<Arc<str>, Arc<str>>>,
    /// Events a second of the intervals so far, the last one last.
    pub history: VecDeque<u64>,
}

impl Picture {
    /// A sum as so many a second.
    pub fn rate(&self, n: u64) -> f64 {
        if self.interval_ns == 0 { 0.0 } else { n as f64 * 1e9 / self.interval_ns as f64 }
    }

    /// A process of the picture.
    pub fn find(&self, id: ProcessId) -> Option<&Spawned> {
        self.processes.iter().find(|spawned| spawned.process.id == id)
    }
}

/// Sums up the events of each interval.
#[derive(Debug, Default)]
pub struct Top {
    lineage: Lineage<Spawner>,
    /// Those that spawned in this interval and have ended.
    gone: Vec<Spawned>,
    commands: FxHashMap<Option<Arc<str>>, Activity>,
    users: FxHashMap<Option<u32>, Activity>,
    containers: FxHashMap<Option<Arc<str>>, Activity>,
    units: FxHashMap<Option<Arc<str>>, Activity>,
    names: Arc<FxHashMap<Arc<str>, Arc<str>>>,
    all: Activity,
    lost: u64,
    interval: u64,
    since_ns: u64,
    line: Vec<ProcessId>,
    history: VecDeque<u64>,
}

impl Top {
    /// Nothing seen yet; the first interval begins now (`CLOCK_BOOTTIME`, nanoseconds).
    pub fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, interval: 1, ..Self::default() }
    }

    /// Learns who runs already, and who descends from whom.
    pub fn learn(&mut self, snapshot: &[Event]) {
        let processes: Vec<&Process> = snapshot.iter().filter_map(|event| event.process.as_ref()).collect();
        self.lineage.adopt(&processes);
    }

    /// Takes in an event; one that is not wanted counts for nothing.
    pub fn apply(&mut self, event: &Event, wanted: bool) {
        self.lost += event.lost().map_or(0, |lost| lost.total);
        if let Some(about) = event.container() {
            self.name_container(&about.id, about.name.as_ref());
        }
        let Some(process) = &event.process else { return };
        if let Some(container) = &process.container {
            self.name_container(&container.id, container.name.as_ref());
        }
        if !matches!(event.kind(), Kind::Process | Kind::Fork | Kind::Exec | Kind::Exit | Kind::Reparent) {
            return;
        }
        self.lineage.learn(event.kind(), process, Spawner::default());
        let sums = Sums::of(event);
        if wanted && sums.events() > 0 {
            self.count(event, process, &sums);
        }
        if event.kind() == Kind::Exit {
            self.bury(process.id);
        }
    }

    fn name_container(&mut self, id: &Arc<str>, name: Option<&Arc<str>>) {
        if let Some(name) = name
            && self.names.get(id) != Some(name)
            && self.names.len() < DISTINCT
        {
            Arc::make_mut(&mut self.names).insert(id.clone(), name.clone());
        }
    }

    fn count(&mut self, event: &Event, process: &Process, sums: &Sums) {
        let interval = self.interval;
        self.all.add(sums, interval);
        add(&mut self.commands, process.image.comm.clone(), sums, interval);
        add(&mut self.users, process.euid.or(process.uid), sums, interval);
        add(&mut self.containers, process.container_id().cloned(), sums, interval);
        add(&mut self.units, process.unit.clone(), sums, interval);
        self.lineage.line(process.id, &mut self.line);
        for (i, id) in self.line.iter().enumerate().skip(1) {
            let Some(noted) = self.lineage.note_mut(*id) else { continue };
            noted.below.add(sums, interval);
            if i > 1 {
                continue;
            }
            noted.own.add(sums, interval);
            match &event.detail {
                Detail::Exec(_) => {
                    if let Some(command) = process.image.exe.as_ref().or(process.image.comm.as_ref()) {
                        note(&mut noted.commands, command);
                    }
                }
                Detail::Exit(exit) => {
                    let code = || exit.code.map(|code| Arc::from(code.to_string()));
                    exit.signal.clone().or_else(code).iter().for_each(|ending| note(&mut noted.endings, ending));
                }
                _ => {}
            }
        }
    }

    /// Who spawned in this interval is in its picture, though it has ended.
    fn bury(&mut self, id: ProcessId) {
        let interval = self.interval;
        if let (Some(process), Some(noted)) = (self.lineage.process(id), self.lineage.note(id))
            && noted.below.now(interval).events() > 0
        {
            self.gone.push(Spawned::new(process, self.lineage.above(id), false, noted, interval));
        }
        self.lineage.end(id);
    }

    /// Ends the interval: what was in it. `now_ns` is of `CLOCK_BOOTTIME`.
    pub fn tick(&mut self, now_ns: u64, time: Timestamp) -> Picture {
        let interval = self.interval;
        let interval_ns = now_ns.saturating_sub(self.since_ns).max(1);
        let mut processes = std::mem::take(&mut self.gone);
        let mut living = 0;
        for (process, above, noted) in self.lineage.living() {
            living += 1;
            if noted.below.total.events() > 0 {
                processes.push(Spawned::new(process, above, true, noted, interval));
            }
        }
        processes.sort_unstable_by_key(|spawned| spawned.process.id);
        let all = self.all.now(interval);
        let a_second = (u128::from(all.events()) * 1_000_000_000 / u128::from(interval_ns)) as u64;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(a_second);
        let picture = Picture {
            time,
            interval_ns,
            all,
            total: self.all.total,
            living,
            lost: self.lost,
            culprit: if a_second < ENOUGH_A_SECOND { None } else { culprit(&processes, all.events()) },
            processes,
            commands: shared(&self.commands, interval),
            users: shared(&self.users, interval),
            containers: shared(&self.containers, interval),
            units: shared(&self.units, interval),
            names: Arc::clone(&self.names),
            history: self.history.clone(),
        };
        self.interval += 1;
        self.since_ns = now_ns;
        picture
    }
}

/// Whoever has the better part of all events below it has no less than those below it have: so the one with the
/// fewest is the lowest.
fn culprit(processes: &[Spawned], all: u64) -> Option<ProcessId> {
    let blamed = processes.iter().filter(|spawned| {
        let below = spawned.below.0.events();
        // Everything descends from init.
        spawned.above.is_some() && below * SHARE.1 >= all * SHARE.0
    });
    // Of two with the same the younger is the lower one.
    let lowest = blamed.min_by_key(|spawned| (spawned.below.0.events(), std::cmp::Reverse(spawned.process.id)));
    lowest.map(|spawned| spawned.process.id)
}

fn add<K: Hash + Eq + Default>(group: &mut FxHashMap<K, Activity>, key: K, sums: &Sums, interval: u64) {
    // Beyond all bounds they are counted with those that have no name.
    let key = if group.len() < DISTINCT || group.contains_key(&key) { key } else { K::default() };
    group.entry(key).or_default().add(sums, interval);
}

fn shared<K: Clone>(group: &FxHashMap<K, Activity>, interval: u64) -> Shared<K> {
    group.iter().map(|(key, activity)| (key.clone(), activity.now(interval), activity.total)).collect()
}
