//! Checks that hold for every trace, whatever was traced.

use std::collections::BTreeMap;

use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};

use super::trace::{Line, Trace};

/// Asserts that a trace is framed, complete, balanced and consistent:
///
/// - `hello` is first and `bye` last, `seq` has no gap, and nothing is lost.
/// - A process forks before its other events, exits at most once, and has no event after that.
/// - Every named parent is known, and a parent changes only by a `reparent` line.
/// - At the end no running process has a parent that exited.
pub(crate) fn check_sound(trace: &Trace) {
    check_frame(trace);
    let mut history = History::default();
    for line in &trace.lines {
        history.add(line, trace);
    }
    for (id, entry) in &history.processes {
        let parent = entry.parent.and_then(|parent| history.processes.get(&parent));
        assert!(
            entry.ended || parent.is_none_or(|parent| !parent.ended),
            "{id:?} runs, its parent {:?} has exited, and it was not reparented",
            entry.parent
        );
    }
}

fn check_frame(trace: &Trace) {
    let (hello, bye) = (trace.hello(), trace.bye());
    assert!(!hello.hooks.is_empty(), "hello names the hooks in use: {hello:?}");
    for (expected, line) in trace.lines.iter().enumerate() {
        assert_eq!(line.event.v, 1, "{}", line.text);
        if bye.filtered == 0 {
            assert_eq!(line.event.seq, expected as u64, "seq has a gap, yet nothing was filtered: {}", line.text);
        }
    }
    assert!(trace.lines.is_sorted_by(|a, b| a.event.seq < b.event.seq), "seq does not increase");
    assert_eq!((trace.count(Kind::Hello), trace.count(Kind::Bye)), (1, 1), "one hello, one bye");
    let losses: Vec<_> =
        trace.lines.iter().filter(|line| line.event.kind() == Kind::Lost).map(|line| &line.text).collect();
    assert_eq!((losses.len(), bye.lost), (0, 0), "nothing may be lost: {losses:#?} {bye:?}");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.lost, "{bye:?}");
    let emitted = trace.events().filter(|event| !event.kind().is_framing()).count() as u64;
    assert_eq!(bye.emitted, emitted, "bye counts the lines: {bye:?}");
    assert_eq!(
        (bye.processes, bye.forks, bye.execs, bye.exits),
        (trace.count(Kind::Process), trace.count(Kind::Fork), trace.count(Kind::Exec), trace.count(Kind::Exit)),
        "bye counts by kind: {bye:?}"
    );
}

/// What the lines have reported about one process.
#[derive(Debug, Default)]
struct ProcessState {
    parent: Option<ProcessId>,
    ended: bool,
    execs: u32,
}

#[derive(Debug, Default)]
struct History {
    processes: BTreeMap<ProcessId, ProcessState>,
}

impl History {
    fn add(&mut self, line: &Line, trace: &Trace) {
        let Line { event, text } = line;
        let Some(process) = &event.process else {
            assert!(
                event.kind().is_framing() || event.container().is_some(),
                "a {} line needs a process: {text}",
                event.kind()
            );
            return;
        };
        let id = process.id;
        // `tracer run` reports its ancestors but does not watch them. Their exit is noticed only when the pid is used
        // again, and the status is unknown.
        if event.kind() == Kind::Exit && process.inferred && trace.outsiders.contains(&id) {
            return;
        }
        assert_eq!(process.pid, id.pid(), "{text}");
        for named in [process.parent_id, process.creator_id].into_iter().flatten() {
            assert!(
                self.processes.contains_key(&named) || trace.outsiders.contains(&named),
                "unknown {named:?}: {text}"
            );
        }
        assert_eq!(process.ppid.unwrap_or(0), process.parent_id.map_or(0, ProcessId::pid), "{text}");
        match event.kind() {
            Kind::Process | Kind::Fork => {
                let state = ProcessState { parent: process.parent_id, ended: process.zombie, execs: process.execs };
                let before = self.processes.insert(id, state);
                // The same id occurs twice only when a pid is used again within one clock tick.
                assert!(before.is_none_or(|entry| entry.ended), "forked twice: {text}");
            }
            _ => self.update(id, event, text),
        }
    }

    fn update(&mut self, id: ProcessId, event: &Event, text: &str) {
        let process = event.process.as_ref().expect("checked by the caller");
        if matches!(event.kind(), Kind::Reap | Kind::Zombie) {
            assert!(
                self.processes.get(&id).is_some_and(|entry| entry.ended),
                "only an exited process is reaped: {text}"
            );
            return;
        }
        let entry = self.processes.get_mut(&id).unwrap_or_else(|| panic!("not forked yet: {text}"));
        // A zombie gets a new parent when its parent exits, like any other process. The `exit` line of the zombie
        // precedes that.
        assert!(!entry.ended || event.kind() == Kind::Reparent, "already ended: {text}");
        if let Some(reparent) = event.reparent() {
            assert_eq!(event.kind(), Kind::Reparent, "{text}");
            assert_eq!(entry.parent, Some(reparent.from_id), "its parent was another: {text}");
            assert_eq!(process.parent_id, reparent.to_id, "{text}");
            entry.parent = reparent.to_id;
        }
        assert_eq!(entry.parent, process.parent_id, "its parent changed without a line: {text}");
        match event.kind() {
            Kind::Exec => entry.execs += 1,
            Kind::Exit => {
                let exit = event.exit().unwrap_or_else(|| panic!("an exit line has `exit`: {text}"));
                assert!(exit.code.is_some() != exit.signal.is_some(), "a code or a signal: {text}");
                entry.ended = true;
            }
            _ => {}
        }
        assert_eq!(entry.execs, process.execs, "execs are counted: {text}");
    }
}
