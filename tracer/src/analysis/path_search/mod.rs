//! Looking for a program along `PATH`, told as one: of the attempts that failed because there was nothing, only their
//! number and paths are of interest, and only once it is known that there are no more.
//!
//! Pure: events in, events out, and no clock but theirs and the one that is handed in.

use rustc_hash::FxHashMap;

use crate::event::id::ProcessId;
use crate::event::{Detail, Event, ExecFailed};
use crate::sys::errno;

/// A search that began so long ago is told as far as it has come, in nanoseconds: one that never ends is told of too.
const OVER_AFTER_NS: u64 = 1_000_000_000;

/// Most paths told of one search.
const MAX_PATHS: usize = 64;

/// Most searches followed at a time; when there are more, they are told sooner.
const MAX_HELD: usize = 4096;

/// Attempts that differ only in the place that was looked at.
#[derive(Debug)]
struct Search {
    /// The last attempt, with all of them in it.
    event: Event,
    since_ns: u64,
}

/// The searches that are under way.
#[derive(Debug, Default)]
pub struct Searches {
    held: FxHashMap<ProcessId, Search>,
    /// None of them is over before this time.
    over_ns: Option<u64>,
}

impl Searches {
    /// Takes an event and appends what there is to be told now: nothing, if it is one more attempt of a search.
    pub fn pass(&mut self, event: Event, out: &mut Vec<Event>) {
        let Some(id) = event.process.as_ref().map(|process| process.id) else {
            out.push(event);
            return;
        };
        let attempt = miss(&event).is_some();
        if let Some(search) = self.held.get_mut(&id) {
            if attempt && goes_on(&search.event, &event) {
                search.add(event);
                return;
            }
            out.extend(self.held.remove(&id).map(|search| search.event));
        }
        if !attempt {
            out.push(event);
            return;
        }
        if self.held.len() >= MAX_HELD {
            self.end(out);
        }
        let since_ns = event.boot_ns.unwrap_or_default();
        self.over_ns.get_or_insert(since_ns + OVER_AFTER_NS);
        self.held.insert(id, Search { event, since_ns });
    }

    /// Tells those that are over, now that it is so late (`CLOCK_BOOTTIME`).
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        if self.over_ns.is_none_or(|over_ns| now_ns < over_ns) {
            return;
        }
        let over = |search: &Search| search.since_ns + OVER_AFTER_NS <= now_ns;
        out.extend(in_order(self.held.extract_if(|_, search| over(search)).map(|(_, search)| search)));
        self.over_ns = self.held.values().map(|search| search.since_ns + OVER_AFTER_NS).min();
    }

    /// Tells all: there will be no more events.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        out.extend(in_order(self.held.drain().map(|(_, search)| search)));
        self.over_ns = None;
    }

    /// When [`Searches::tick`] has something to do, as far as is known now.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.over_ns
    }
}

impl Search {
    fn add(&mut self, mut attempt: Event) {
        let before = std::mem::replace(&mut self.event.detail, Detail::Process);
        if let (Detail::ExecFailed(before), Detail::ExecFailed(this)) = (before, &mut attempt.detail) {
            let ExecFailed { filename, attempts, paths, .. } = *before;
            this.attempts = Some(attempts.unwrap_or(1) + 1);
            let mut paths = paths.unwrap_or_else(|| filename.into_iter().collect());
            if paths.len() < MAX_PATHS {
                paths.extend(this.filename.clone());
            }
            this.paths = Some(paths);
        }
        self.event = attempt;
    }
}

/// The attempt, if it failed because there was nothing.
fn miss(event: &Event) -> Option<&ExecFailed> {
    event.exec_failed().filter(|failed| matches!(failed.code, errno::ENOENT | errno::ENOTDIR))
}

/// True if one attempt is for the same as the one before: by the same thread, with the same argv[0].
fn goes_on(before: &Event, this: &Event) -> bool {
    let what = |event| miss(event).map(|failed| (failed.from_tid, failed.argv.as_ref().and_then(|argv| argv.first())));
    what(before) == what(this)
}

fn in_order(searches: impl Iterator<Item = Search>) -> Vec<Event> {
    let mut searches: Vec<Search> = searches.collect();
    searches.sort_by_key(|search| search.since_ns);
    searches.into_iter().map(|search| search.event).collect()
}

#[cfg(test)]
mod tests;
