//! Events on their way from the thread that traces to the task that takes them.

use std::io;

use tokio::sync::{mpsc, oneshot};

use crate::event::{Detail, Event};
use crate::pipeline::backlog::Backlog;
use crate::pipeline::consumer::Consumer;

/// Events that are sent at once, and the memory that they take.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) bytes: u64,
}

/// Sends what the pipeline hands on.
pub(super) struct Outgoing {
    batch: Batch,
    batches: mpsc::UnboundedSender<Batch>,
    /// What waits to be taken. It bounds what is sent.
    backlog: Backlog,
    /// Completes the start with the first events.
    begun: Option<oneshot::Sender<()>>,
}

impl Outgoing {
    pub(super) fn new(batches: mpsc::UnboundedSender<Batch>, backlog: Backlog, begun: oneshot::Sender<()>) -> Self {
        Self { batch: Batch::default(), batches, backlog, begun: Some(begun) }
    }
}

impl Consumer for Outgoing {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        if self.batches.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = bytes_of(event);
        self.backlog.add(bytes);
        self.batch.bytes += bytes;
        self.batch.events.push(event.clone());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.batch.events.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.batches.send(batch).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        if let Some(begun) = self.begun.take() {
            // It fails when nobody waits for the start any more.
            let _ = begun.send(());
        }
        Ok(())
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(self.backlog.clone())
    }
}

/// Memory that an event takes. What an exec brings along is counted with it, and shared by later events.
fn bytes_of(event: &Event) -> u64 {
    let new = matches!(event.detail, Detail::Exec(_) | Detail::ExecFailed(_) | Detail::Process);
    let argv = event.process.as_ref().filter(|_| new).and_then(|process| process.image.argv.as_ref());
    (size_of::<Event>() + argv.map_or(0, |argv| argv.as_bytes().len())) as u64
}
