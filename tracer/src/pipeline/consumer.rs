//! The interface of the pipeline's output.

use std::io;

use super::backlog::Backlog;
use crate::event::Event;

/// Takes events one by one: a view that sums them up, or a writer that encodes them.
pub trait Consumer {
    /// Takes in the running processes before the first event.
    fn learn(&mut self, _running: &[Event]) {}

    /// Takes one event.
    fn take(&mut self, event: &Event) -> io::Result<()>;

    /// Sees an event that was filtered out, for consumers that track the process tree.
    fn skip(&mut self, _event: &Event) {}

    /// Ends a batch and makes the taken events visible.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns the backlog of a slow reader. A consumer that always keeps up has none.
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
