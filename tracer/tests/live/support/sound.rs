//! What holds for every trace, whatever was traced.

use std::collections::BTreeMap;

use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind};

use super::trace::{Line, Trace};

/// Asserts that a trace is framed, complete, balanced, and tells one consistent story:
/// `hello` first and `bye` last; no hole in `seq`; nothing lost; each process is born before it does anything, ends
/// at most once, and does nothing after; every parent it names is known; its parent changes only by a `reparent` line;
/// and at the end nobody alive has a dead parent.
pub(crate) fn check_sound(trace: &Trace) {
    check_frame(trace);
    let mut story = Story::default();
    for line in &trace.lines {
        story.tell(line, trace);
    }
    for (id, life) in &story.lives {
        let parent = life.parent.and_then(|parent| story.lives.get(&parent));
        assert!(
            life.ended || parent.is_none_or(|parent| !parent.ended),
            "{id:?} lives, its parent {:?} is dead, and nobody took it over",
            life.parent
        );
    }
}

fn check_frame(trace: &Trace) {
    let (hello, bye) = (trace.hello(), trace.bye());
    assert!(!hello.hooks.is_empty(), "hello names the hooks in use: {hello:?}");
    for (expected, line) in trace.lines.iter().enumerate() {
        assert_eq!(line.event.v, 1, "{}", line.text);
        if bye.filtered == 0 {
            assert_eq!(line.event.seq, expected as u64, "seq has a hole, yet nothing was filtered: {}", line.text);
        }
    }
    assert!(trace.lines.is_sorted_by(|a, b| a.event.seq < b.event.seq), "seq does not grow");
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

/// What is known of one process so far.
#[derive(Debug, Default)]
struct Life {
    parent: Option<ProcessId>,
    ended: bool,
    execs: u32,
}

#[derive(Debug, Default)]
struct Story {
    lives: BTreeMap<ProcessId, Life>,
}

impl Story {
    fn tell(&mut self, line: &Line, trace: &Trace) {
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
        // `tracer run` tells of the ancestors, and does not watch them: that one has ended is only found when its pid is
        // another's, and then with what status is not known.
        if event.kind() == Kind::Exit && process.inferred && trace.outsiders.contains(&id) {
            return;
        }
        assert_eq!(process.pid, id.pid(), "{text}");
        for named in [process.parent_id, process.creator_id].into_iter().flatten() {
            assert!(self.lives.contains_key(&named) || trace.outsiders.contains(&named), "unknown {named:?}: {text}");
        }
        assert_eq!(process.ppid.unwrap_or(0), process.parent_id.map_or(0, ProcessId::pid), "{text}");
        match event.kind() {
            Kind::Process | Kind::Fork => {
                let born = Life { parent: process.parent_id, ended: process.zombie, execs: process.execs };
                let before = self.lives.insert(id, born);
                // The same id again is possible only when a pid is used again within one clock tick.
                assert!(before.is_none_or(|life| life.ended), "born twice: {text}");
            }
            _ => self.live_on(id, event, text),
        }
    }

    fn live_on(&mut self, id: ProcessId, event: &Event, text: &str) {
        let process = event.process.as_ref().expect("checked by the caller");
        if matches!(event.kind(), Kind::Reap | Kind::Zombie) {
            assert!(self.lives.get(&id).is_some_and(|life| life.ended), "only the dead are waited for: {text}");
            return;
        }
        let life = self.lives.get_mut(&id).unwrap_or_else(|| panic!("not born yet: {text}"));
        // A zombie is handed on when its parent dies, like anyone else; what tracer calls an exit precedes that.
        assert!(!life.ended || event.kind() == Kind::Reparent, "already ended: {text}");
        if let Some(reparent) = event.reparent() {
            assert_eq!(event.kind(), Kind::Reparent, "{text}");
            assert_eq!(life.parent, Some(reparent.from_id), "its parent was another: {text}");
            assert_eq!(process.parent_id, reparent.to_id, "{text}");
            life.parent = reparent.to_id;
        }
        assert_eq!(life.parent, process.parent_id, "its parent changed without a line: {text}");
        match event.kind() {
            Kind::Exec => life.execs += 1,
            Kind::Exit => {
                let exit = event.exit().unwrap_or_else(|| panic!("an exit line has `exit`: {text}"));
                assert!(exit.code.is_some() != exit.signal.is_some(), "a code or a signal: {text}");
                life.ended = true;
            }
            _ => {}
        }
        assert_eq!(life.execs, process.execs, "execs are counted: {text}");
    }
}
