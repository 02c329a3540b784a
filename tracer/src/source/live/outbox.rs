//! Events on their way out of the live source.

use std::mem;

use crate::analysis::path_search::Searches;
use crate::event::Event;

/// Events that wait to be handed on. Each is written where it waits, and what waits is handed on as a whole: an event is
/// large, and in a storm moving it about costs as much as making it.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Vec<Event>,
    /// Searches along `PATH`, when each is reported as one event, and what is on its way through them.
    searches: Option<Searches>,
    passing: Vec<Event>,
}

impl Outbox {
    /// An empty one; whether each search along `PATH` is reported as one event.
    pub(super) fn new(searches: bool) -> Self {
        Self { searches: searches.then(Searches::default), ..Self::default() }
    }

    /// Takes in what `tell` appends.
    pub(super) fn take(&mut self, tell: impl FnOnce(&mut Vec<Event>)) {
        let Some(searches) = &mut self.searches else { return tell(&mut self.waiting) };
        tell(&mut self.passing);
        for event in self.passing.drain(..) {
            searches.pass(event, &mut self.waiting);
        }
    }

    /// Takes in one that is about no process.
    pub(super) fn push(&mut self, event: Event) {
        self.waiting.push(event);
    }

    /// Reports searches that are over by now.
    pub(super) fn tick(&mut self, now_ns: u64) {
        if let Some(searches) = &mut self.searches {
            searches.tick(now_ns, &mut self.waiting);
        }
    }

    /// No more will come: reports searches that are under way too.
    pub(super) fn end(&mut self) {
        if let Some(searches) = &mut self.searches {
            searches.end(&mut self.waiting);
        }
    }

    /// When to tick.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.searches.as_ref().and_then(Searches::deadline_ns)
    }

    /// What waits to be handed on.
    pub(super) fn waiting(&self) -> &[Event] {
        &self.waiting
    }

    /// Memory that they take, in bytes, but for what they share.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.len() * size_of::<Event>()
    }

    /// Appends what waits.
    pub(super) fn hand_on(&mut self, out: &mut Vec<Event>) {
        if out.is_empty() {
            mem::swap(out, &mut self.waiting);
        } else {
            out.append(&mut self.waiting);
        }
    }
}
