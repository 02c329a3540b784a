//! One pipeline over any source: filter, numbering, storms, back-pressure, consumer; from `hello` to `bye`.
//!
//! It reads no clock and knows no kernel: time comes from the [`EventSource`]. So everything here is tested without root.

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
    /// The output.
    #[error(transparent)]
    Output(io::Error),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What is wanted of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Whether the processes that are already running are listed.
    pub snapshot: bool,
    /// After how many events it ends.
    pub count: Option<u64>,
    /// What makes a storm, if storms are wanted.
    pub storm: Option<storm::Options>,
    /// What happens while the reader of the output is slow.
    pub on_slow: OnSlow,
    /// Whether it ends when no process is left that the filter follows by descent.
    pub until_over: bool,
}

/// Passes events on to the consumer until the source or `shutdown` ends, or until enough were passed on; then those that
/// happened before the end. `go_on` is called after each batch. The caller waits for what a slow reader has not read at the
/// end ([`Consumer::backlog`]).
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
        // First: a live source opens at once, and what happened until then is reported even if it is to end already.
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

    // The pipeline waits for a reader that is behind, unless events are to be left out instead.
    let awaited = backlog.as_ref().filter(|_| wanted.on_slow == OnSlow::Block);
    let mut flow = Flow::More;
    while flow == Flow::More && stage.wants_more() && go_on(&source) {
        let due = stage.storm_line_due_ns().and_then(|due_ns| source.time_until(due_ns));
        let caught_up = stage.reader_caught_up();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = failed(backlog.as_ref()) => {}
            // What the ring of a live source cannot hold while the reader is waited for is lost, and reported.
            result = async { room(awaited).await; source.next_batch(&mut batch).await } => flow = result?,
            // Only when there is nothing to read: events bring their own time.
            () = async { room(awaited).await; elapsed(due).await } => stage.tick(source.now())?,
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

/// Completes when more may be written: at once where there is no reader.
async fn room(backlog: Option<&Backlog>) {
    if let Some(backlog) = backlog {
        backlog.room().await;
    }
}

/// Completes when the output has failed while nothing was being written.
async fn failed(backlog: Option<&Backlog>) {
    match backlog {
        Some(backlog) => backlog.failed().await,
        None => std::future::pending().await,
    }
}

/// Completes after a time; never if there is none.
async fn elapsed(time: Option<std::time::Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
