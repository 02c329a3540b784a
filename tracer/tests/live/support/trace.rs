//! The lines that tracer wrote, and queries on them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tracer::event::id::ProcessId;
use tracer::event::{ArgvInfo, Bye, Event, Exec, Exit, Hello, Kind, Process};

use super::process::Finished;
use super::truth::TruthLog;

/// Number of lines that are printed when a test fails.
const SHOWN: usize = 60;

/// One line of output.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) event: Event,
}

/// All output of one tracer, and the truth that belongs to it.
pub(crate) struct Trace {
    pub(crate) lines: Vec<Line>,
    pub(crate) truth: TruthLog,
    pub(crate) finished: Finished,
    /// Processes that existed before. A stream of a subtree may name them as parents.
    pub(crate) outsiders: BTreeSet<ProcessId>,
}

/// Parses JSON lines, which must all be complete events.
pub(crate) fn parse_lines(bytes: &[u8]) -> Vec<Line> {
    let text = std::str::from_utf8(bytes).expect("JSON lines are UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is incomplete");
    text.lines()
        .map(|line| {
            let event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
            Line { text: line.to_owned(), event }
        })
        .collect()
}

impl Trace {
    /// Returns what a command wrote to its standard output.
    pub(crate) fn printed_by(finished: Finished) -> Self {
        assert!(finished.status.success(), "{finished:?}");
        let lines = parse_lines(finished.stdout().as_bytes());
        Self { lines, truth: TruthLog::default(), finished, outsiders: BTreeSet::new() }
    }

    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.lines.iter().map(|line| &line.event)
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Event> {
        self.events().filter(move |event| event.kind() == kind)
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.of_kind(kind).count() as u64
    }

    /// Returns all events of a process.
    pub(crate) fn about(&self, id: ProcessId) -> Vec<&Event> {
        self.events().filter(|event| event.process.as_ref().is_some_and(|process| process.id == id)).collect()
    }

    /// Returns the events of one kind of a process.
    pub(crate) fn of(&self, id: ProcessId, kind: Kind) -> Vec<&Event> {
        self.about(id).into_iter().filter(|event| event.kind() == kind).collect()
    }

    /// Returns the only event of a kind of a process.
    pub(crate) fn one(&self, id: ProcessId, kind: Kind) -> &Event {
        match self.of(id, kind).as_slice() {
            [event] => event,
            other => panic!("{} {kind} lines about {id:?}, expected one: {other:#?}", other.len()),
        }
    }

    /// Returns the process as its only line of a kind shows it.
    pub(crate) fn process(&self, id: ProcessId, kind: Kind) -> &Process {
        self.one(id, kind).process.as_ref().expect("selected by its process")
    }

    /// Returns how it exited.
    pub(crate) fn exit(&self, id: ProcessId) -> &Exit {
        self.one(id, Kind::Exit).exit().expect("an exit line has `exit`")
    }

    /// Returns its only exec.
    pub(crate) fn exec(&self, id: ProcessId) -> (&Process, &Exec, &ArgvInfo) {
        parts(self.one(id, Kind::Exec))
    }

    pub(crate) fn hello(&self) -> &Hello {
        let first = self.lines.first().expect("at least `hello` is written");
        first.event.hello().unwrap_or_else(|| panic!("the first line is not `hello`: {}", first.text))
    }

    pub(crate) fn bye(&self) -> &Bye {
        let last = self.lines.last().expect("at least `bye` is written");
        last.event.bye().unwrap_or_else(|| panic!("the last line is not `bye`: {}", last.text))
    }

    /// Returns the main process of the deed.
    pub(crate) fn deed(&self) -> ProcessId {
        self.truth.one("deed").id()
    }
}

/// Returns the parts of an exec line.
pub(crate) fn parts(event: &Event) -> (&Process, &Exec, &ArgvInfo) {
    (
        event.process.as_ref().expect("an exec line has `process`"),
        event.exec().expect("an exec line has `exec`"),
        event.argv_info().expect("an exec line has `argv_info`"),
    )
}

/// Prints the trace when a test fails.
impl Drop for Trace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut text = format!("── stderr of tracer\n{}── truth\n", self.finished.stderr);
        for said in self.truth.lines.iter().take(SHOWN) {
            let _ = writeln!(text, "{}: {}", said.what, cut(&said.facts.to_string(), 600));
        }
        let _ = writeln!(text, "── the last of {} lines", self.lines.len());
        for line in self.lines.iter().skip(self.lines.len().saturating_sub(SHOWN)) {
            let _ = writeln!(text, "{}", cut(&line.text, 1200));
        }
        eprint!("{text}");
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
