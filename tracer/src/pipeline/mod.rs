//! The pipeline over any source: filter, numbering, storms, back-pressure, consumer, from `hello` to `bye`.
//!
//! It reads no clock and does not access the kernel: the [`EventSource`] gives the time. So it can be tested without root.

pub mod backlog;
pub mod backpressure;
pub mod consumer;
mod stage;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;

use crate::analysis::storm;
use crate::event::Bye;
use crate::filter::Matcher;
use crate::source::{EventSource, Flow, Opening, SourceError};
use backlog::Backlog;
use backpressure::OnSlow;
use consumer::Consumer;
use stage::Stage;

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The output failed.
    #[error(transparent)]
    Output(io::Error),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The options of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Whether running processes are listed first.
    pub snapshot: bool,
    /// The number of events after which it ends.
    pub count: Option<u64>,
    /// The options of storms, if storms are reported.
    pub storm: Option<storm::Options>,
    /// How events are handled while the reader of the output is slow.
    pub on_slow: OnSlow,
    /// Whether it ends when no process is left that matches by descent.
    pub until_over: bool,
}

/// Passes events to the consumer until the source or `shutdown` ends, or until there are enough events.
///
/// Then it passes the events that happened before the end. `go_on` is called after each batch. At the end the caller waits
/// for the backlog of a slow reader ([`Consumer::backlog`]).
pub async fn run<S: EventSource>(
    mut source: S,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    wanted: &Wanted,
    shutdown: impl Future<Output = ()>,
    mut go_on: impl FnMut(&S) -> bool,
) -> Result<Bye, PipelineError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let Opening { hello, running: mut batch } = tokio::select! {
        biased;
        // This is first: a live source opens at once, and its events until then are reported even after a shutdown.
        opening = source.open() => opening?,
        () = &mut shutdown => {
            // Nothing was written, so there is no stream to end.
            source.stop(&mut Vec::new())?;
            return Ok(Bye::default());
        }
    };
    let backlog = consumer.backlog();
    let mut stage = Stage::new(filter, consumer, wanted);
    stage.begin(hello, &mut batch, wanted.snapshot)?;

    // The pipeline waits for a reader that is behind, unless events are dropped instead.
    let awaited = backlog.as_ref().filter(|_| wanted.on_slow == OnSlow::Block);
    let mut flow = Flow::More;
    while flow == Flow::More && stage.wants_more() && go_on(&source) {
        let due = stage.storm_line_due_ns().and_then(|due_ns| source.time_until(due_ns));
        let caught_up = stage.reader_caught_up();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = failed(backlog.as_ref()) => {}
            // Events that do not fit into the ring of a live source during the wait are lost, and reported as lost.
            result = async { not_full(awaited).await; source.next_batch(&mut batch).await } => flow = result?,
            // Only if there is nothing to read: events have their own time.
            () = async { not_full(awaited).await; elapsed(due).await } => stage.tick(source.now())?,
            () = caught_up => stage.report_dropped()?,
        }
        if let Some(backlog) = &backlog {
            backlog.error().map_err(PipelineError::Output)?;
        }
        stage.pass(&mut batch)?;
        stage.flush()?;
    }
    if flow == Flow::More {
        source.stop(&mut batch)?;
        stage.pass(&mut batch)?;
    }
    stage.end(source.now(), source.facts())
}

/// Completes when more may be written. Without a backlog that is at once.
async fn not_full(backlog: Option<&Backlog>) {
    if let Some(backlog) = backlog {
        backlog.not_full().await;
    }
}

/// Completes when the output has failed.
async fn failed(backlog: Option<&Backlog>) {
    match backlog {
        Some(backlog) => backlog.failed().await,
        None => std::future::pending().await,
    }
}

/// Completes after a time. Without a time it never does.
async fn elapsed(time: Option<std::time::Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
