use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::event::{Detail, Exit, Image, Provenance, Usage};

const MS: u64 = 1_000_000;
const START: u64 = 100 * SECOND_NS;

fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(u64::from(pid), pid)
}

fn process(pid: u32, parent: u32) -> Process {
    Process {
        parent_id: (parent > 0).then(|| id(parent)),
        ppid: Some(parent),
        image: Image { comm: Some(format!("p{pid}").into()), ..Image::default() }.into(),
        ..Process::new(id(pid), Provenance::Kernel)
    }
}

fn event(kind: Kind, pid: u32, parent: u32, at_ns: u64) -> Event {
    let mut event = Event::new(kind.into(), Timestamp(at_ns as i64 + 7));
    event.boot_ns = Some(at_ns);
    event.process = Some(process(pid, parent));
    if kind == Kind::Exec {
        event.process.as_mut().unwrap().image_mut().exe = Some(format!("/bin/{}", pid % 40).into());
    }
    if kind == Kind::Exit {
        let usage = Usage { user_ns: u64::from(pid), system_ns: 1, ..Usage::default() };
        event.detail =
            Detail::Exit(Box::new(Exit { code: Some((pid % 3) as u8), usage: Some(usage), ..Exit::default() }));
    }
    event
}

/// The result of a list of events.
struct Outcome {
    shown: Vec<Event>,
    folded: Vec<Event>,
    lines: Vec<Event>,
    storms: Storms,
}

fn run(options: Options, snapshot: &[Event], events: &[Event]) -> Outcome {
    let mut storms = Storms::new(options);
    storms.learn(snapshot);
    let (mut shown, mut folded, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for event in snapshot.iter().chain(events) {
        let of = if storms.take(event, true, &mut lines) { &mut shown } else { &mut folded };
        of.push(event.clone());
    }
    let end = events.iter().filter_map(|event| event.boot_ns).max().unwrap_or(START);
    storms.finish(end, &mut lines);
    Outcome { shown, folded, lines, storms }
}

fn fold(rate: u64) -> Options {
    Options { mode: Mode::Fold, rate }
}

fn sums(lines: &[Event]) -> impl Iterator<Item = &Storm> {
    lines.iter().filter_map(|line| line.storm())
}

fn culprits(lines: &[Event]) -> Vec<u32> {
    let begun = lines.iter().filter(|line| line.storm().is_some_and(|storm| storm.phase == StormPhase::Begin));
    begun.filter_map(|line| Some(line.process.as_ref()?.pid)).collect()
}

/// init, a session, a shell below it, and an innocent process.
fn machine() -> Vec<Event> {
    [(1, 0), (10, 1), (11, 10), (12, 10)].map(|(pid, parent)| event(Kind::Process, pid, parent, START)).to_vec()
}

/// A process that forks short-lived children, one after the other.
fn spawn(parent: u32, pids: std::ops::Range<u32>, from_ns: u64, every_ns: u64) -> Vec<Event> {
    let lives = pids.enumerate().flat_map(|(i, pid)| {
        let at = from_ns + i as u64 * every_ns;
        [Kind::Fork, Kind::Exec, Kind::Exit].map(|kind| event(kind, pid, parent, at))
    });
    lives.collect()
}

#[test]
fn a_storm_is_one_line_a_second_and_names_the_culprit() {
    // 1000 processes in two seconds, 3000 events.
    let outcome = run(fold(500), &machine(), &spawn(11, 100..1100, START, 2 * MS));
    assert_eq!(culprits(&outcome.lines), [11]);
    let phases: Vec<_> = sums(&outcome.lines).map(|storm| storm.phase).collect();
    assert_eq!(phases, [StormPhase::Begin, StormPhase::Ongoing, StormPhase::Cut]);
    let [begin, ongoing, cut] = &sums(&outcome.lines).collect::<Vec<_>>()[..] else { panic!("three lines") };
    assert_eq!((begin.rate, begin.events), (501, 0));
    // Their forks were shown, so their exits are too.
    assert_eq!(outcome.shown.len(), 4 + 501);
    // An event at the very end of a second belongs to the next one.
    assert_eq!((ongoing.rate, ongoing.events, ongoing.period_ns), (1497, 1497, SECOND_NS));
    assert_eq!((ongoing.forks, ongoing.execs, ongoing.exits), (499, 499, 499));
    assert_eq!(ongoing.statuses.iter().map(|status| status.exits).sum::<u64>(), 499);
    assert_eq!(ongoing.failed, 499 - ongoing.statuses.iter().find(|s| s.code == Some(0)).unwrap().exits);
    assert_eq!((ongoing.commands.len(), ongoing.other_execs), (16, 499 - 16 * 13), "{ongoing:#?}");
    assert_eq!(cut.total_events, outcome.folded.len() as u64);
    let above: Vec<_> = outcome.lines[0].ancestors.as_ref().unwrap().iter().map(|ancestor| ancestor.pid).collect();
    assert_eq!(above, [10, 1]);
}

#[test]
fn a_calm_second_ends_it_and_survivors_are_shown_again() {
    let mut events = spawn(11, 100..400, START, MS);
    events.push(event(Kind::Fork, 999, 11, START + 300 * MS));
    events.extend(spawn(11, 400..410, START + 5 * SECOND_NS, 300 * MS));
    events.push(event(Kind::Exit, 999, 11, START + 9 * SECOND_NS));
    let outcome = run(fold(100), &machine(), &events);
    let phases: Vec<_> = sums(&outcome.lines).map(|storm| storm.phase).collect();
    assert_eq!(phases, [StormPhase::Begin, StormPhase::Ongoing, StormPhase::End]);
    let folded = |kind, pid| {
        outcome.folded.iter().any(|event| event.kind() == kind && event.process.as_ref().unwrap().pid == pid)
    };
    assert!(folded(Kind::Fork, 999) && !folded(Kind::Exit, 999) && !folded(Kind::Fork, 400));
}

#[test]
fn no_other_process_is_folded() {
    let mut events = spawn(11, 100..1000, START, MS);
    events.extend(spawn(12, 1000..1020, START, 40 * MS));
    events.sort_by_key(|event| event.boot_ns);
    let outcome = run(fold(200), &machine(), &events);
    assert_eq!(culprits(&outcome.lines), [11]);
    let parent = |event: &Event| event.process.as_ref().unwrap().ppid.unwrap();
    assert!(outcome.folded.iter().all(|event| parent(event) == 11));
}

#[test]
fn many_children_are_a_storm_of_their_parent() {
    // Ten workers of 12, each with 30 events a second. None alone is a storm.
    let mut machine = machine();
    machine.extend((20..30).map(|pid| event(Kind::Process, pid, 12, START)));
    let workers = (0..10).flat_map(|n| spawn(20 + n, 100 + 10 * n..110 + 10 * n, START, 50 * MS));
    let mut events: Vec<_> = workers.collect();
    events.sort_by_key(|event| event.boot_ns);
    let outcome = run(fold(100), &machine, &events);
    assert_eq!(culprits(&outcome.lines), [12]);
    assert!(!outcome.folded.is_empty());
}

#[test]
fn init_is_not_the_culprit_for_what_others_spawn() {
    let mut machine = vec![event(Kind::Process, 1, 0, START)];
    machine.extend((20..40).map(|pid| event(Kind::Process, pid, 1, START)));
    let many = (0..20).flat_map(|n| spawn(20 + n, 100 + 10 * n..110 + 10 * n, START, 50 * MS));
    let mut events: Vec<_> = many.collect();
    events.sort_by_key(|event| event.boot_ns);
    assert_eq!(culprits(&run(fold(100), &machine, &events).lines), [0; 0]);
    // It is the culprit for its children, and only for those.
    let mut events = spawn(1, 1000..1200, START, MS);
    events.extend(spawn(20, 2000..2010, START + 150 * MS, MS));
    let outcome = run(fold(100), &machine, &events);
    assert_eq!(culprits(&outcome.lines), [1]);
    assert!(outcome.folded.iter().all(|event| event.process.as_ref().unwrap().ppid == Some(1)));
}

#[test]
fn a_chain_of_processes_that_each_fork_the_next_keeps_no_nodes() {
    let mut events = Vec::new();
    for n in 0..5000u32 {
        let (pid, parent) = (100 + n, if n == 0 { 11 } else { 99 + n });
        events.push(event(Kind::Fork, pid, parent, START + u64::from(n) * MS));
        if n > 0 {
            events.push(event(Kind::Exit, parent, 1, START + u64::from(n) * MS));
        }
    }
    let outcome = run(fold(300), &machine(), &events);
    assert_eq!(culprits(&outcome.lines), [11], "the lowest living one");
    assert!(outcome.storms.lineage.len() < 20, "{}", outcome.storms.lineage.len());
}

#[test]
fn a_process_that_execs_repeatedly_is_its_own_culprit() {
    let events: Vec<_> = (0..900).map(|n| event(Kind::Exec, 11, 10, START + n * MS)).collect();
    let outcome = run(fold(200), &machine(), &events);
    assert_eq!((culprits(&outcome.lines), outcome.folded.len()), (vec![11], 900 - 201));
}

#[test]
fn an_alert_folds_nothing() {
    let events = spawn(11, 100..1100, START, 2 * MS);
    let outcome = run(Options { mode: Mode::Alert, rate: 500 }, &machine(), &events);
    assert_eq!((outcome.folded.len(), outcome.shown.len()), (0, 4 + 3000));
    assert_eq!(culprits(&outcome.lines), [11]);
    assert!(sums(&outcome.lines).all(|storm| storm.folded == 0));
    let folding = run(fold(500), &machine(), &events);
    let events = |lines: &[Event]| sums(lines).map(|storm| storm.events).collect::<Vec<_>>();
    assert_eq!(events(&outcome.lines), events(&folding.lines), "both modes report the same sums");
}

/// A step of a random machine.
#[derive(Clone, Debug)]
enum Step {
    Fork(usize),
    Exec(usize),
    Exit(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..12).prop_map(Step::Fork),
        2 => any::<usize>().prop_map(Step::Exec),
        4 => any::<usize>().prop_map(Step::Exit),
        1 => (0u64..400).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..400)
}

/// Events of a machine on which processes fork (a few of them often), exec and exit. Orphans go to init.
fn play(steps: &[Step]) -> Vec<Event> {
    let mut parents: BTreeMap<u32, u32> = [(1, 0), (10, 1), (11, 10), (12, 10)].into();
    let (mut events, mut now, mut next) = (Vec::new(), START, 100);
    let pick = |parents: &BTreeMap<u32, u32>, n: usize| *parents.keys().nth(n % parents.len()).unwrap();
    for step in steps {
        match *step {
            Step::Fork(n) => {
                let parent = pick(&parents, n);
                parents.insert(next, parent);
                events.push(event(Kind::Fork, next, parent, now));
                next += 1;
            }
            Step::Exec(n) => {
                let pid = pick(&parents, n);
                events.push(event(Kind::Exec, pid, parents[&pid], now));
            }
            Step::Exit(n) => {
                let pid = pick(&parents, n);
                if pid == 1 {
                    continue;
                }
                let parent = parents.remove(&pid).unwrap();
                for (child, of) in &mut parents {
                    if *of == pid {
                        *of = 1;
                        events.push(event(Kind::Reparent, *child, 1, now));
                    }
                }
                events.push(event(Kind::Exit, pid, parent, now));
            }
            Step::Wait(ms) => now += ms * MS,
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn shown_plus_folded_equals_all_events(steps in steps(), rate in 1u64..60, alert: bool) {
        let mode = if alert { Mode::Alert } else { Mode::Fold };
        let (machine, events) = (machine(), play(&steps));
        let outcome = run(Options { mode, rate }, &machine, &events);
        prop_assert_eq!(outcome.shown.len() + outcome.folded.len(), machine.len() + events.len());
        prop_assert_eq!(outcome.storms.folded(), outcome.folded.len() as u64);
        prop_assert_eq!(outcome.storms.begun(), culprits(&outcome.lines).len() as u64);
        if alert {
            prop_assert!(outcome.folded.is_empty());
        }
        let sum = |of: fn(&Storm) -> u64| sums(&outcome.lines).map(of).sum::<u64>();
        prop_assert_eq!(sum(|storm| storm.folded), outcome.folded.len() as u64);
        for storm in sums(&outcome.lines) {
            prop_assert_eq!(storm.events, storm.forks + storm.execs + storm.exits + storm.reparents + storm.others);
            prop_assert_eq!(storm.execs, storm.other_execs + storm.commands.iter().map(|c| c.execs).sum::<u64>());
            prop_assert_eq!(storm.exits, storm.statuses.iter().map(|status| status.exits).sum::<u64>());
            prop_assert!(storm.period_ns <= SECOND_NS);
        }
        if !alert {
            // The storm events report exactly the folded events.
            let folded = |kind| outcome.folded.iter().filter(|event| event.kind() == kind).count() as u64;
            prop_assert_eq!(sum(|storm| storm.forks), folded(Kind::Fork));
            prop_assert_eq!(sum(|storm| storm.execs), folded(Kind::Exec));
            prop_assert_eq!(sum(|storm| storm.exits), folded(Kind::Exit));
            prop_assert_eq!(sum(|storm| storm.reparents), folded(Kind::Reparent));
            let ends = || outcome.folded.iter().filter_map(|event| event.exit());
            let user = ends().map(|exit| exit.own().unwrap().user_ns).sum::<u64>();
            prop_assert_eq!(sum(|storm| storm.user_ns), user);
            prop_assert_eq!(sum(|storm| storm.failed), ends().filter(|exit| exit.code != Some(0)).count() as u64);
        }
    }

    #[test]
    fn a_shown_fork_has_a_shown_exit(steps in steps(), rate in 1u64..60) {
        let outcome = run(fold(rate), &machine(), &play(&steps));
        let pids = |events: &[Event], kind| -> BTreeSet<u32> {
            let of_kind = events.iter().filter(|event| event.kind() == kind);
            of_kind.map(|event| event.process.as_ref().unwrap().pid).collect()
        };
        let shown = &pids(&outcome.shown, Kind::Fork) | &pids(&outcome.shown, Kind::Process);
        prop_assert!(shown.is_disjoint(&pids(&outcome.folded, Kind::Exit)));
        prop_assert!(shown.is_disjoint(&pids(&outcome.folded, Kind::Reparent)));
    }

    #[test]
    fn a_rate_that_is_not_exceeded_folds_nothing_and_exited_processes_are_dropped(steps in steps()) {
        let events = play(&steps);
        let outcome = run(fold(events.len() as u64), &machine(), &events);
        prop_assert!(outcome.folded.is_empty() && outcome.lines.is_empty());
        let exited = events.iter().filter(|event| event.kind() == Kind::Exit).count();
        let forked = events.iter().filter(|event| event.kind() == Kind::Fork).count();
        // A living process keeps at most the exited ones up to its next living ancestor. `line` unlinks those.
        let living = 4 + forked - exited;
        let mut lineage = outcome.storms.lineage;
        let mut line = Vec::new();
        let pids: Vec<u32> = (1..100 + forked as u32).collect();
        for pid in pids {
            lineage.line(id(pid), &mut line);
        }
        prop_assert_eq!(lineage.len(), living);
    }
}
