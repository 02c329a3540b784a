//! Checks that the counts add up for random streams, filters, storms, slow readers, counts and ends.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use proptest::prelude::*;

use super::*;
use crate::analysis::storm::{Mode, Options};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{
    Detail, Dropped, Event, Exit, Kind, Lost, Process, Provenance as Seen, Reparent, ReparentReason, Storm, StormPhase,
};
use crate::filter::Filter;
use crate::sink::{JsonLines, Output, Writer};
use crate::source::scripted::{Handed, Scripted, Step};

const SECOND_NS: u64 = 1_000_000_000;

/// An action in a random stream. The number chooses the process or the count.
#[derive(Clone, Copy, Debug)]
enum Action {
    Fork(u8),
    Exec(u8),
    Exit(u8),
    Reparent(u8),
    Lost(u8),
    /// Lines of a recording in which its own pipeline counted dropped and folded events.
    Dropped(u8),
    Folded(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => any::<u8>().prop_map(Action::Fork),
        4 => any::<u8>().prop_map(Action::Exec),
        6 => any::<u8>().prop_map(Action::Exit),
        1 => any::<u8>().prop_map(Action::Reparent),
        1 => any::<u8>().prop_map(Action::Lost),
        1 => any::<u8>().prop_map(Action::Dropped),
        1 => any::<u8>().prop_map(Action::Folded),
    ]
}

/// Makes the events of random actions. Every process descends from pid 1, and only living ones act.
struct World {
    living: Vec<Process>,
    next_pid: u32,
    boot_ns: u64,
}

impl World {
    fn new() -> Self {
        let living = (1..6).map(|pid| process(pid, (pid > 1).then_some(1))).collect();
        Self { living, next_pid: 100, boot_ns: SECOND_NS }
    }

    fn running(&self) -> Vec<Event> {
        // Children before their parents, as `/proc` may list them.
        let event = |process: &Process| {
            let mut event = Event::new(Detail::Process, Timestamp(0));
            event.process = Some(process.clone());
            event
        };
        self.living.iter().rev().map(event).collect()
    }

    fn event(&mut self, detail: Detail, process: Option<Process>) -> Event {
        let mut event = Event::new(detail, Timestamp(self.boot_ns as i64));
        event.boot_ns = Some(self.boot_ns);
        event.process = process;
        event
    }

    fn act(&mut self, action: Action, later_ns: u64) -> Event {
        self.boot_ns += 1 + later_ns;
        let chosen = |n: u8, from: usize, len: usize| from + usize::from(n) % (len - from).max(1);
        match action {
            Action::Fork(n) => {
                let parent = chosen(n, 0, self.living.len());
                let parent = self.living[parent].clone();
                let mut child = process(self.next_pid, Some(parent.pid));
                (child.parent_id, child.uid) = (Some(parent.id), Some(u32::from(n) % 3));
                self.next_pid += 1;
                self.living.push(child.clone());
                self.event(Detail::Fork, Some(child))
            }
            Action::Exec(n) => {
                let chosen = chosen(n, 0, self.living.len());
                let process = &mut self.living[chosen];
                process.execs += 1;
                process.image_mut().comm = Some(["sh", "make", "cc"][usize::from(n) % 3].into());
                let process = process.clone();
                self.event(Detail::Exec(None), Some(process))
            }
            Action::Exit(n) if self.living.len() > 5 => {
                let process = self.living.remove(chosen(n, 5, self.living.len()));
                self.event(Detail::Exit(Box::new(Exit { code: Some(n % 2), ..Exit::default() })), Some(process))
            }
            Action::Exit(n) | Action::Reparent(n) => {
                let process = self.living[chosen(n, 0, self.living.len())].clone();
                let (from_id, to_pid) = (process.id, process.ppid.unwrap_or_default());
                let reparent = Reparent { from_id, to_id: None, to_pid, reason: ReparentReason::Init };
                self.event(Detail::Reparent(Box::new(reparent)), Some(process))
            }
            Action::Lost(n) => {
                self.event(Detail::Lost(Box::new(Lost { total: u64::from(n), ..Lost::default() })), None)
            }
            Action::Dropped(n) => {
                self.event(Detail::Dropped(Box::new(Dropped { total: u64::from(n), ..Dropped::default() })), None)
            }
            Action::Folded(n) => {
                let culprit = self.living[1].clone();
                self.event(Detail::Storm(Box::new(folded(u64::from(n), self.boot_ns))), Some(culprit))
            }
        }
    }
}

fn process(pid: u32, ppid: Option<u32>) -> Process {
    let mut process = Process::new(ProcessId::from_ticks(u64::from(pid), pid), Seen::Kernel);
    (process.ppid, process.uid) = (ppid, Some(0));
    process.parent_id = ppid.map(|ppid| ProcessId::from_ticks(u64::from(ppid), ppid));
    process.image_mut().comm = Some("sh".into());
    process
}

fn folded(events: u64, boot_ns: u64) -> Storm {
    let phase = if events.is_multiple_of(2) { StormPhase::Begin } else { StormPhase::Ongoing };
    Storm {
        phase,
        rate: 1,
        threshold: 1,
        began_boot_ns: boot_ns,
        period_ns: 1,
        events,
        folded: events,
        forks: events,
        execs: 0,
        exits: 0,
        reparents: 0,
        others: 0,
        failed: 0,
        commands: Vec::new(),
        other_execs: 0,
        statuses: Vec::new(),
        user_ns: 0,
        system_ns: 0,
        total_events: events,
    }
}

/// The random parameters of a stream.
#[derive(Clone, Debug)]
struct Scenario {
    /// Actions, the delay of each, and whether a batch ends or a pause follows.
    actions: Vec<(Action, u8, u8)>,
    late: Vec<Action>,
    filter: u8,
    storm: Option<(bool, u8)>,
    on_slow: u8,
    count: Option<u8>,
    listed: bool,
    until_over: bool,
    /// Number of batches after which `shutdown` completes.
    shutdown: Option<u8>,
    /// Bytes that may wait for the reader, and how slow it is. `None` for a file.
    reader: Option<(u16, u8)>,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let actions = proptest::collection::vec((action(), any::<u8>(), any::<u8>()), 0..400);
    let late = proptest::collection::vec(action(), 0..5);
    let storm = proptest::option::of((any::<bool>(), 0..40u8));
    let count = proptest::option::weighted(0.3, 1..200u8);
    let shutdown = proptest::option::weighted(0.4, 0..40u8);
    let reader = proptest::option::weighted(0.7, (200..20_000u16, 0..4u8));
    let rest = (0..6u8, storm, 0..3u8, count, any::<[bool; 2]>(), shutdown, reader);
    (actions, late, rest).prop_map(
        |(actions, late, (filter, storm, on_slow, count, [listed, until_over], shutdown, reader))| Scenario {
            actions,
            late,
            filter,
            storm,
            on_slow,
            count,
            listed,
            until_over,
            shutdown,
            reader,
        },
    )
}

impl Scenario {
    fn filter(&self) -> Filter {
        match self.filter {
            0 => Filter::uid(1).with(Filter::uid(2)),
            1 => Filter::tree(2),
            2 => Filter::kind(Kind::Exec).with(Filter::kind(Kind::Exit)),
            3 => Filter::comm("m*"),
            _ => Filter::default(),
        }
    }

    fn wanted(&self) -> Wanted {
        let mode = |fold| if fold { Mode::Fold } else { Mode::Alert };
        Wanted {
            snapshot: self.listed,
            count: self.count.map(u64::from),
            storm: self.storm.map(|(fold, rate)| Options { mode: mode(fold), rate: u64::from(rate) }),
            on_slow: [OnSlow::Block, OnSlow::Drop, OnSlow::Collapse][usize::from(self.on_slow)],
            until_over: self.until_over,
        }
    }

    /// Runs it. Returns the running processes, the events of the source, `bye`, and the lines that the reader got.
    fn play(&self) -> (Vec<Event>, Handed, Bye, Vec<Event>) {
        let mut world = World::new();
        let running = world.running();
        let (mut steps, mut batch) = (Vec::new(), Vec::new());
        for &(action, later, end) in &self.actions {
            // Mostly bursts, and sometimes a delay of half a second.
            let later_ns = if later > 240 { u64::from(later) * 2_000_000 } else { u64::from(later) * 1000 };
            batch.push(world.act(action, later_ns));
            if end % 16 == 0 {
                steps.push(Step::Batch(std::mem::take(&mut batch)));
            }
            if end == 16 {
                steps.push(Step::Pause(Duration::from_millis(1)));
            }
        }
        steps.push(Step::Batch(batch));
        let late = self.late.iter().map(|&action| world.act(action, 10)).collect();
        let source = Scripted::new(running.clone(), steps, late);
        let handed = source.handed();

        let (mut reader, pipe) = io::pipe().unwrap();
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let (capacity, slowness) = self.reader.unwrap_or((u16::MAX, 0));
        let reading = thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), [0; 2048]);
            loop {
                match reader.read(&mut piece).unwrap() {
                    0 => return all,
                    read => all.extend_from_slice(&piece[..read]),
                }
                thread::sleep(Duration::from_micros(u64::from(slowness) * 200));
            }
        });
        let mut writer = Writer::open(JsonLines, Output::from(pipe), u64::from(capacity)).unwrap();
        let rounds = AtomicUsize::new(0);
        let shutdown = std::future::poll_fn(|_| {
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            if self.shutdown.is_some_and(|limit| round >= usize::from(limit)) { Poll::Ready(()) } else { Poll::Pending }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bye = runtime.block_on(async {
            let filter = Matcher::new(&self.filter()).unwrap();
            let bye = run(source, filter, &mut writer, &self.wanted(), shutdown, |_| true).await.unwrap();
            writer.drain(async || std::future::pending().await, || ()).await.unwrap();
            bye
        });
        drop(writer);
        let bytes = reading.join().unwrap();
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        (running, handed, bye, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
    }
}

fn sum(lines: &[Event], of: impl Fn(&Event) -> Option<u64>) -> u64 {
    lines.iter().filter_map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_accounted_for(scenario in scenario()) {
        let (running, handed, bye, lines) = scenario.play();
        let handed = handed.lock().unwrap();
        if lines.is_empty() {
            // It ended before it began.
            prop_assert_eq!((scenario.shutdown, &bye), (Some(0), &Bye::default()));
            return Ok(());
        }
        // The framing lines.
        prop_assert!(lines[0].kind() == Kind::Hello && lines[0].seq == 0);
        let last = lines.last().unwrap();
        prop_assert_eq!(last.bye(), Some(&bye));
        prop_assert_eq!(bye.untracked, 7, "known only to the source");
        prop_assert_eq!(lines.iter().filter(|line| matches!(line.kind(), Kind::Hello | Kind::Bye)).count(), 2);

        // The sums match the lines.
        prop_assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.dropped + bye.lost);
        let of_kind = |kind: Kind| lines.iter().filter(|line| line.kind() == kind).count() as u64;
        prop_assert_eq!(bye.emitted, lines.iter().filter(|line| !line.kind().is_framing()).count() as u64);
        prop_assert_eq!(bye.lost, sum(&lines, |line| Some(line.lost()?.total)));
        prop_assert_eq!(bye.dropped, sum(&lines, |line| Some(line.dropped()?.total)));
        prop_assert_eq!(bye.folded, sum(&lines, |line| Some(line.storm()?.folded)));
        prop_assert_eq!(bye.storms, sum(&lines, |line| Some(u64::from(line.storm()?.phase == StormPhase::Begin))));
        prop_assert_eq!(
            [bye.processes, bye.forks, bye.execs, bye.exits],
            [Kind::Process, Kind::Fork, Kind::Exec, Kind::Exit].map(of_kind)
        );

        // Each gap in `seq` is an event without a line.
        prop_assert!(lines.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        let holes = last.seq + 1 - lines.len() as u64;
        prop_assert_eq!(holes, bye.filtered + bye.folded + bye.dropped);

        // The sums match the source.
        let listed: &[Event] = if scenario.listed { &running } else { &[] };
        let all: Vec<&Event> = listed.iter().chain(handed.iter()).collect();
        let counted = |event: &Event| match &event.detail {
            Detail::Lost(lost) => lost.total,
            Detail::Dropped(dropped) => dropped.total,
            Detail::Storm(storm) => storm.folded,
            _ => 1,
        };
        prop_assert_eq!(bye.seen, all.iter().map(|event| counted(event)).sum::<u64>());

        // Lines are matching events of the source, in its order.
        let mut filter = Matcher::new(&scenario.filter()).unwrap();
        filter.learn(&running);
        let admitted: Vec<&Event> = all.into_iter().filter(|event| !event.kind().is_framing() && filter.admits(event)).collect();
        let emitted: Vec<Event> = lines.iter().filter(|line| !line.kind().is_framing()).cloned().collect();
        let mut rest = admitted.iter();
        for line in &emitted {
            let same = |event: &&&Event| Event { seq: line.seq, ..(**event).clone() } == *line;
            prop_assert!(rest.find(same).is_some(), "{line:?}");
        }
        let count = scenario.count.map_or(u64::MAX, u64::from);
        prop_assert!(bye.emitted <= count);
        if scenario.on_slow == 0 && scenario.storm.is_none_or(|(fold, _)| !fold) {
            // Only the filter and the count leave events out.
            prop_assert_eq!(bye.emitted, count.min(admitted.len() as u64));
        }
    }
}

/// A consumer that notes the events it sees.
#[derive(Default)]
struct Notes {
    learnt: usize,
    taken: Vec<Kind>,
    skipped: Vec<Kind>,
}

impl Consumer for Arc<Mutex<Notes>> {
    fn learn(&mut self, running: &[Event]) {
        self.lock().unwrap().learnt = running.len();
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.lock().unwrap().taken.push(event.kind());
        Ok(())
    }

    fn skip(&mut self, event: &Event) {
        self.lock().unwrap().skipped.push(event.kind());
    }
}

#[test]
fn a_consumer_also_sees_events_that_are_filtered_out() {
    let mut world = World::new();
    let running = world.running();
    let events = vec![world.act(Action::Fork(1), 1), world.act(Action::Exec(5), 1), world.act(Action::Exit(5), 1)];
    let source = Scripted::new(running, vec![Step::Batch(events)], Vec::new());
    let mut notes = Arc::new(Mutex::new(Notes::default()));
    let filter = Matcher::new(&Filter::kind(Kind::Exec)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let never = std::future::pending();
    runtime.block_on(run(source, filter, &mut notes, &Wanted::default(), never, |_| true)).unwrap();
    let notes = notes.lock().unwrap();
    assert_eq!(notes.learnt, 5);
    assert_eq!(notes.taken, [Kind::Hello, Kind::Exec, Kind::Bye]);
    assert_eq!(notes.skipped, [Kind::Fork, Kind::Exit]);
}
