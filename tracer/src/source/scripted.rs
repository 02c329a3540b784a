//! A source that plays a script, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{EventSource, Facts, Flow, Moment, Opening, SourceError};
use crate::event::time::Timestamp;
use crate::event::{Detail, Event};

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These events come at once.
    Batch(Vec<Event>),
    /// Nothing happens for a time.
    Pause(Duration),
}

/// What a script has handed out, for the test to look at.
pub(crate) type Handed = Arc<Mutex<Vec<Event>>>;

/// Plays steps one after the other, and counts what it hands out.
pub(crate) struct Scripted {
    running: Vec<Event>,
    steps: VecDeque<Step>,
    /// Events that have happened but are only handed out when the source is stopped.
    late: Vec<Event>,
    handed: Handed,
    boot_ns: u64,
}

impl Scripted {
    pub(crate) fn new(running: Vec<Event>, steps: Vec<Step>, late: Vec<Event>) -> Self {
        Self { running, steps: steps.into(), late, handed: Handed::default(), boot_ns: 0 }
    }

    /// Everything handed out so far but the processes that were running; it may be read at any time.
    pub(crate) fn handed(&self) -> Handed {
        Arc::clone(&self.handed)
    }

    fn hand_out(&mut self, mut events: Vec<Event>, out: &mut Vec<Event>) {
        self.boot_ns = events.iter().filter_map(|event| event.boot_ns).fold(self.boot_ns, u64::max);
        self.handed.lock().unwrap().extend(events.iter().cloned());
        out.append(&mut events);
    }
}

impl EventSource for Scripted {
    async fn open(&mut self) -> Result<Opening, SourceError> {
        let hello = Event::new(Detail::Hello(Box::default()), Timestamp(0));
        Ok(Opening { hello, running: std::mem::take(&mut self.running) })
    }

    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Flow, SourceError> {
        while let Some(Step::Pause(time)) = self.steps.front() {
            tokio::time::sleep(*time).await;
            self.steps.pop_front();
        }
        match self.steps.pop_front() {
            Some(Step::Batch(events)) => {
                self.hand_out(events, out);
                Ok(Flow::More)
            }
            _ => Ok(Flow::Ended),
        }
    }

    fn stop(&mut self, out: &mut Vec<Event>) -> Result<(), SourceError> {
        let late = std::mem::take(&mut self.late);
        self.hand_out(late, out);
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment { boot_ns: self.boot_ns, time: Timestamp(self.boot_ns as i64) }
    }

    fn time_until(&self, _boot_ns: u64) -> Option<Duration> {
        None
    }

    fn facts(&self) -> Facts {
        Facts { duration_ns: self.boot_ns, untracked: 7, ..Facts::default() }
    }
}
