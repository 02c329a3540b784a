//! Sums up what each process spawns.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::analysis::lineage::Lineage;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Kind, Process};

/// The longest life of a short-lived process. All its CPU time was used within the last few frames.
pub const SHORT_LIFE_NS: u64 = 10_000_000_000;

/// Most names that are distinguished in one group.
const DISTINCT: usize = 4096;

/// Most commands and statuses that are distinguished for one process.
const NOTED: usize = 32;

/// Frames whose rates are kept.
const HISTORY: usize = 256;

/// The culprit's least share of all events. There is no culprit below a number of events a second.
const SHARE: (u64, u64) = (2, 3);
const ENOUGH_A_SECOND: u64 = 20;

/// Counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Processes created.
    pub forks: u64,
    /// Execs.
    pub execs: u64,
    /// Processes that exited.
    pub exits: u64,
    /// Processes that exited with another code than 0 or were killed by a signal.
    pub failures: u64,
    /// CPU time of short-lived processes that exited, in nanoseconds.
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

    /// Returns the number of all events.
    pub const fn events(&self) -> u64 {
        self.forks + self.execs + self.exits
    }
}

/// Sums of the current interval, and of all time.
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

/// How often each of a limited number of names was seen.
type Counts = FxHashMap<Arc<str>, u64>;

fn note(counts: &mut Counts, what: &Arc<str>) {
    if counts.len() < NOTED || counts.contains_key(what) {
        *counts.entry(Arc::clone(what)).or_default() += 1;
    }
}

/// The activity of a process's children, and of all its descendants.
#[derive(Debug, Default)]
struct Spawner {
    own: Activity,
    below: Activity,
    commands: Counts,
    endings: Counts,
}

/// A process of a frame, with the activity of what it spawned.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// The process that created it.
    pub above: Option<ProcessId>,
    /// False if it exited.
    pub running: bool,
    /// The activity of its children: in the interval, and since the start.
    pub own: (Sums, Sums),
    /// The activity of all its descendants: in the interval, and since the start.
    pub below: (Sums, Sums),
    /// What its children executed, the most frequent first. The number of different names is limited.
    pub commands: Vec<(Arc<str>, u64)>,
    /// How its children exited, likewise.
    pub endings: Vec<(Arc<str>, u64)>,
}

impl Spawned {
    fn new(process: &Process, above: Option<ProcessId>, running: bool, noted: &Spawner, interval: u64) -> Self {
        let sums = |activity: &Activity| (activity.now(interval), activity.total);
        Self {
            process: process.clone(),
            above,
            running,
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

/// For each group of processes: the sums of the interval, and those since the start.
pub type GroupSums<K> = Vec<(K, Sums, Sums)>;

/// The sums of one interval.
#[derive(Clone, Debug, Default)]
pub struct TopFrame {
    /// The end of the interval.
    pub time: Timestamp,
    /// The length of the interval. 0 before the first one ends.
    pub interval_ns: u64,
    /// The sums of all processes.
    pub all: Sums,
    /// The sums of all processes since the start.
    pub total: Sums,
    /// The number of running processes.
    pub running: usize,
    /// Events lost since the start.
    pub lost: u64,
    /// The lowest process whose descendants cause most of the events.
    pub culprit: Option<ProcessId>,
    /// The processes that spawned others, and all their ancestors.
    pub processes: Vec<Spawned>,
    /// Sums by command name.
    pub commands: GroupSums<Option<Arc<str>>>,
    /// Sums by user.
    pub users: GroupSums<Option<u32>>,
    /// Sums by container.
    pub containers: GroupSums<Option<Arc<str>>>,
    /// Sums by systemd unit.
    pub units: GroupSums<Option<Arc<str>>>,
    /// The names of containers, by id.
    pub names: Arc<FxHashMap<Arc<str>, Arc<str>>>,
    /// The events per second of the last intervals, the newest last.
    pub history: VecDeque<u64>,
}

impl TopFrame {
    /// Returns a sum of the interval per second.
    pub fn rate(&self, n: u64) -> f64 {
        if self.interval_ns == 0 { 0.0 } else { n as f64 * 1e9 / self.interval_ns as f64 }
    }

    /// Finds a process of the frame.
    pub fn find(&self, id: ProcessId) -> Option<&Spawned> {
        self.processes.iter().find(|spawned| spawned.process.id == id)
    }
}

/// Sums up the events of each interval.
#[derive(Debug, Default)]
pub struct Top {
    lineage: Lineage<Spawner>,
    /// Processes that spawned others in this interval and exited.
    exited: Vec<Spawned>,
    commands: FxHashMap<Option<Arc<str>>, Activity>,
    users: FxHashMap<Option<u32>, Activity>,
    containers: FxHashMap<Option<Arc<str>>, Activity>,
    units: FxHashMap<Option<Arc<str>>, Activity>,
    names: Arc<FxHashMap<Arc<str>, Arc<str>>>,
    all: Activity,
    lost: u64,
    interval: u64,
    since_ns: u64,
    ancestry: Vec<ProcessId>,
    history: VecDeque<u64>,
}

impl Top {
    /// Creates an empty model. The first interval begins at `now_ns` of `CLOCK_BOOTTIME`.
    pub fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, interval: 1, ..Self::default() }
    }

    /// Learns the running processes and their ancestry.
    pub fn learn(&mut self, snapshot: &[Event]) {
        let processes: Vec<&Process> = snapshot.iter().filter_map(|event| event.process.as_ref()).collect();
        self.lineage.adopt(&processes);
    }

    /// Applies an event. One that does not match the filter is not counted.
    pub fn apply(&mut self, event: &Event, matches: bool) {
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
        if matches && sums.events() > 0 {
            self.count(event, process, &sums);
        }
        if event.kind() == Kind::Exit {
            self.exit(process.id);
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
        self.lineage.line(process.id, &mut self.ancestry);
        for (i, id) in self.ancestry.iter().enumerate().skip(1) {
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

    /// Handles an exit. A process that spawned others in this interval stays in its frame.
    fn exit(&mut self, id: ProcessId) {
        let interval = self.interval;
        if let (Some(process), Some(noted)) = (self.lineage.process(id), self.lineage.note(id))
            && noted.below.now(interval).events() > 0
        {
            self.exited.push(Spawned::new(process, self.lineage.above(id), false, noted, interval));
        }
        self.lineage.end(id);
    }

    /// Ends the interval and returns its sums. `now_ns` is a time of `CLOCK_BOOTTIME`.
    pub fn tick(&mut self, now_ns: u64, time: Timestamp) -> TopFrame {
        let interval = self.interval;
        let interval_ns = now_ns.saturating_sub(self.since_ns).max(1);
        let mut processes = std::mem::take(&mut self.exited);
        let mut running = 0;
        for (process, above, noted) in self.lineage.living() {
            running += 1;
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
        let frame = TopFrame {
            time,
            interval_ns,
            all,
            total: self.all.total,
            running,
            lost: self.lost,
            culprit: if a_second < ENOUGH_A_SECOND { None } else { culprit(&processes, all.events()) },
            processes,
            commands: group_sums(&self.commands, interval),
            users: group_sums(&self.users, interval),
            containers: group_sums(&self.containers, interval),
            units: group_sums(&self.units, interval),
            names: Arc::clone(&self.names),
            history: self.history.clone(),
        };
        self.interval += 1;
        self.since_ns = now_ns;
        frame
    }
}

/// Returns the lowest process whose descendants cause most of the events.
///
/// An ancestor never has fewer events than its descendants, so the lowest of the candidates has the fewest.
fn culprit(processes: &[Spawned], all: u64) -> Option<ProcessId> {
    let candidates = processes.iter().filter(|spawned| {
        let below = spawned.below.0.events();
        // Everything descends from init, so init is not a candidate.
        spawned.above.is_some() && below * SHARE.1 >= all * SHARE.0
    });
    // Of two candidates with equal sums the younger is the lower one.
    let lowest = candidates.min_by_key(|spawned| (spawned.below.0.events(), std::cmp::Reverse(spawned.process.id)));
    lowest.map(|spawned| spawned.process.id)
}

fn add<K: Hash + Eq + Default>(group: &mut FxHashMap<K, Activity>, key: K, sums: &Sums, interval: u64) {
    // Beyond the limit, events count for the group without a name.
    let key = if group.len() < DISTINCT || group.contains_key(&key) { key } else { K::default() };
    group.entry(key).or_default().add(sums, interval);
}

fn group_sums<K: Clone>(group: &FxHashMap<K, Activity>, interval: u64) -> GroupSums<K> {
    group.iter().map(|(key, activity)| (key.clone(), activity.now(interval), activity.total)).collect()
}
