//! The front door of the library: a trace on a separate thread, and its events one by one.

mod builder;
mod error;
mod outgoing;
#[cfg(test)]
mod tests;
mod thread;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};

pub use self::builder::{Builder, Source};
use self::error::Cause;
pub use self::error::{Error, ErrorKind};
use self::outgoing::Batch;
use crate::event::{Bye, Event};
use crate::pipeline::backlog::Backlog;

/// A running trace. It is also a [`Stream`] of [`Event`]s.
///
/// A separate thread loads the BPF programs, reads the ring and numbers the events. Dropping the tracer detaches the programs
/// and ends the thread.
pub struct Tracer {
    /// The events of a batch that were not taken yet.
    events: vec::IntoIter<Event>,
    batches: mpsc::UnboundedReceiver<Batch>,
    backlog: Backlog,
    /// Ends the trace, also when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<Bye, Error>>,
    /// How it has ended, once that was received.
    end: Option<Result<Bye, Error>>,
}

impl Tracer {
    /// How to trace.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(
        stop: oneshot::Sender<()>,
        batches: mpsc::UnboundedReceiver<Batch>,
        backlog: Backlog,
        ended: oneshot::Receiver<Result<Bye, Error>>,
    ) -> Self {
        Self { events: Vec::new().into_iter(), batches, backlog, stop: Some(stop), ended, end: None }
    }

    /// The next event: first `hello`, then the processes that are already running, then what happens, and last `bye`. None
    /// at the end of the stream. A trace that fails ends too, and [`stop`](Self::stop) returns the error.
    ///
    /// [`Event::seq`] counts from 0. A gap is what a filter removed. Records that were lost are reported as `lost` events.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the trace, and returns the totals that its `bye` event has: `seen` = `emitted` + `filtered` + `folded` + `dropped` +
    /// `lost`. [`next`](Self::next) still returns the events that had happened by then. Fails if the trace had failed.
    pub async fn stop(&mut self) -> Result<Bye, Error> {
        // It fails when the trace has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = (&mut self.ended).await.unwrap_or_else(|_| Err(Cause::Panicked.into()));
        self.end.insert(end).clone()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.events.next() {
                return Poll::Ready(Some(event));
            }
            let Some(Batch { events, bytes }) = ready!(self.batches.poll_recv(cx)) else { return Poll::Ready(None) };
            self.backlog.take(bytes);
            self.events = events.into_iter();
        }
    }
}

impl Stream for Tracer {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(cx)
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("end", &self.end).finish_non_exhaustive()
    }
}
