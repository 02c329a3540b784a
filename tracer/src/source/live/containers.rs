//! Passes the table's questions about containers on, and the answers back.

use std::time::{Duration, Instant};

use super::Live;
use crate::clock;
use crate::enrich::container_info::{InfoLookup, Mounts, Worker};
use crate::event::Event;
use crate::kernel::hierarchy::Hierarchy;
use crate::table::Table;

/// How long the start waits for answers, and the end.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_millis(500);

impl Live {
    /// Asks what is to be looked for, and takes what was found.
    pub(super) fn look_up(&mut self, now: u64) {
        let Some(names) = &mut self.names else {
            drop(self.table.take_requests(now));
            return;
        };
        let asks = self.table.take_requests(now);
        if !asks.is_empty() {
            let left = names.request(asks);
            self.table.return_requests(left);
        }
        while let Some(answer) = self.answers.pop().or_else(|| names.try_reply()) {
            self.outbox.take(|out| self.table.apply_reply(answer, now, out));
        }
    }

    /// Waits for what is still unknown of containers that have ended.
    pub(super) fn await_answers(&mut self, out: &mut Vec<Event>) {
        let end = Instant::now() + LAST_WAIT;
        while self.table.waits_for_replies() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            while self.gather(out) {}
        }
        self.outbox.take(|out| self.table.give_up_waiting(out));
        while self.gather(out) {}
    }
}

/// Starts the thread that looks for names, and waits for what it finds of the containers that are there: a filter by name must
/// know their processes. What takes longer than [`FIRST_WAIT`] comes later.
pub(super) fn begin(table: &mut Table, hierarchy: &Hierarchy, out: &mut Vec<Event>) -> Option<InfoLookup> {
    let mut names = match InfoLookup::start(Worker::new(Mounts::of_system(hierarchy))) {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!("names of containers are not looked for: {error}");
            return None;
        }
    };
    let asks = table.take_requests(clock::boot_ns());
    if !asks.is_empty() {
        let left = names.request_and_wait(asks, FIRST_WAIT);
        table.return_requests(left);
    }
    while let Some(answer) = names.try_reply() {
        table.apply_reply(answer, clock::boot_ns(), out);
    }
    Some(names)
}

/// Names the containers in lines about running processes, which were made before the names were known.
pub(super) fn name_in(snapshot: &mut [Event], table: &Table) {
    for process in snapshot.iter_mut().filter_map(|event| event.process.as_mut()) {
        if process.container.is_some()
            && let Some(known) = table.by_pid(process.pid)
        {
            process.container = known.process().container;
        }
    }
}
