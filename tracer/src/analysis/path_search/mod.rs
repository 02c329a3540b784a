//! Merges the failed execs of one search along `PATH` into one event.
//!
//! Only the number and the paths of the attempts matter, and only once the search is over. Pure: events in, events out.
//! The events and the caller give the time.

use rustc_hash::FxHashMap;

use crate::event::id::ProcessId;
use crate::event::{Detail, Event, ExecFailed};
use crate::sys::errno;

/// Age at which an unfinished search is reported, in nanoseconds. So a search that never ends is reported too.
const OVER_AFTER_NS: u64 = 1_000_000_000;

/// Largest number of paths in the event of one search.
const MAX_PATHS: usize = 64;

/// Largest number of searches at a time. With more, all are reported early.
const MAX_HELD: usize = 4096;

/// Attempts that differ only in the directory.
#[derive(Debug)]
struct Search {
    /// The last attempt, with the number and paths of all.
    event: Event,
    since_ns: u64,
}

/// The searches in progress.
#[derive(Debug, Default)]
pub struct Searches {
    held: FxHashMap<ProcessId, Search>,
    /// No search times out before this time.
    over_ns: Option<u64>,
}

impl Searches {
    /// Takes an event and appends the events to report now: none for a further attempt of a search.
    pub fn pass(&mut self, event: Event, out: &mut Vec<Event>) {
        let Some(id) = event.process.as_ref().map(|process| process.id) else {
            out.push(event);
            return;
        };
        let attempt = miss(&event).is_some();
        if let Some(search) = self.held.get_mut(&id) {
            if attempt && continues(&search.event, &event) {
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

    /// Appends the searches that time out at `now_ns` (`CLOCK_BOOTTIME`).
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        if self.over_ns.is_none_or(|over_ns| now_ns < over_ns) {
            return;
        }
        let over = |search: &Search| search.since_ns + OVER_AFTER_NS <= now_ns;
        out.extend(in_order(self.held.extract_if(|_, search| over(search)).map(|(_, search)| search)));
        self.over_ns = self.held.values().map(|search| search.since_ns + OVER_AFTER_NS).min();
    }

    /// Appends all searches at the end of the events.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        out.extend(in_order(self.held.drain().map(|(_, search)| search)));
        self.over_ns = None;
    }

    /// Returns when [`Searches::tick`] is due.
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

/// Returns the attempt if it failed because the path does not exist.
fn miss(event: &Event) -> Option<&ExecFailed> {
    event.exec_failed().filter(|failed| matches!(failed.code, errno::ENOENT | errno::ENOTDIR))
}

/// Returns true if an attempt continues the search before: by the same thread, with the same argv[0].
fn continues(before: &Event, this: &Event) -> bool {
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
