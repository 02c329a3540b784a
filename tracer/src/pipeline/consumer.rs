//! What takes the events that leave the pipeline.

use std::io;

use super::backlog::Backlog;
use crate::event::Event;

/// Takes events one by one: a view that sums them up, or a writer that encodes them.
pub trait Consumer {
    /// Learns the processes that are already running, before the first event.
    fn learn(&mut self, _running: &[Event]) {}

    /// Takes one event.
    fn take(&mut self, event: &Event) -> io::Result<()>;

    /// Sees an event that was filtered out, for consumers that follow which process descends from which.
    fn skip(&mut self, _event: &Event) {}

    /// Ends a batch: what was taken becomes visible now.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What a slow reader has not read yet. A consumer that keeps up by itself has none.
    fn backlog(&self) -> Option<Backlog> {
        None
    }
}

impl<C: Consumer + ?Sized> Consumer for &mut C {
    fn learn(&mut self, running: &[Event]) {
        (**self).learn(running);
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        (**self).take(event)
    }

    fn skip(&mut self, event: &Event) {
        (**self).skip(event);
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn backlog(&self) -> Option<Backlog> {
        (**self).backlog()
    }
}
