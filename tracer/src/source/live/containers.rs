//! What the table wants to know of containers is asked, and what is answered handed to it.

use std::time::{Duration, Instant};

use super::Tracer;
use crate::clock;
use crate::enrich::container_info::{Names, Worker, memory_mount};
use crate::enrich::info::Answer;
use crate::event::Event;
use crate::table::Table;

/// So long may answers take once tracing has ended.
const LAST_WAIT: Duration = Duration::from_secs(1);

impl Tracer {
    /// Asks what is to be looked for, and takes what was found.
    pub(super) fn look_up(&mut self, now: u64) {
        let Some(names) = &mut self.names else {
            drop(self.table.take_asks(now));
            return;
        };
        let asks = self.table.take_asks(now);
        if !asks.is_empty() {
            let left = names.ask(asks);
            self.table.keep_asks(left);
        }
        while let Some(answer) = self.answers.pop().or_else(|| names.answer()) {
            self.outbox.take(|out| self.table.answer(answer, now, out));
        }
    }

    /// Waits for what is still to be told of containers that have ended.
    pub(super) fn await_answers(&mut self, out: &mut Vec<Event>) {
        let end = Instant::now() + LAST_WAIT;
        while self.table.waits_for_answers() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            while self.gather(out) {}
        }
        self.outbox.take(|out| self.table.give_up_waiting(out));
        while self.gather(out) {}
    }
}

/// Looks for what is known of the containers that are there, then goes on as a thread.
pub(super) fn begin(table: &mut Table, out: &mut Vec<Event>) -> Option<Names> {
    let mut worker = Worker::new(memory_mount());
    let asks = table.take_asks(clock::boot_ns());
    let answers: Vec<Answer> = asks.into_iter().filter_map(|ask| worker.take(ask)).collect();
    let now = clock::boot_ns();
    for answer in answers {
        table.answer(answer, now, out);
    }
    match Names::start(worker) {
        Ok(names) => Some(names),
        Err(error) => {
            tracing::warn!("names of containers are not looked for: {error}");
            None
        }
    }
}
