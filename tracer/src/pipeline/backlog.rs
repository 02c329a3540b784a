//! The bytes that a slow reader has not read yet.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

/// How far the output has come.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes passed to the thread that writes them.
    queued: u64,
    /// Bytes written.
    taken: u64,
    failed: bool,
    /// The error, until it is fetched.
    error: Option<io::Error>,
}

impl Progress {
    fn left(&self) -> u64 {
        self.queued - self.taken
    }
}

/// Counts the bytes that wait for the reader of an output. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Backlog {
    progress: Arc<watch::Sender<Progress>>,
    capacity: u64,
}

impl Backlog {
    /// Returns an empty backlog with a capacity in bytes.
    pub fn new(capacity: u64) -> Self {
        Self { progress: Arc::new(watch::Sender::new(Progress::default())), capacity }
    }

    /// Returns the number of waiting bytes.
    pub fn left(&self) -> u64 {
        self.progress.borrow().left()
    }

    /// Returns the number of bytes that may wait.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Counts bytes that wait from now on.
    pub(crate) fn add(&self, bytes: u64) {
        self.progress.send_if_modified(|progress| {
            progress.queued += bytes;
            false
        });
    }

    /// Counts bytes that were written.
    pub(crate) fn take(&self, bytes: u64) {
        self.progress.send_modify(|progress| progress.taken += bytes);
    }

    /// Completes when more bytes may wait, or when the output has failed.
    pub async fn not_full(&self) {
        self.until(|progress| progress.failed || progress.left() < self.capacity).await;
    }

    /// Completes when at least half of the capacity is free, or when the output has failed.
    pub async fn half_empty(&self) {
        self.until(|progress| progress.failed || progress.left() <= self.capacity / 2).await;
    }

    /// Completes when the output has failed.
    pub async fn failed(&self) {
        self.until(|progress| progress.failed).await;
    }

    /// Returns an error if the output has failed.
    pub fn error(&self) -> io::Result<()> {
        let (mut failed, mut error) = (false, None);
        self.progress.send_if_modified(|progress| {
            (failed, error) = (progress.failed, progress.error.take());
            false
        });
        match (error, failed) {
            (Some(error), _) => Err(error),
            (None, true) => Err(io::Error::other("the output has failed before")),
            (None, false) => Ok(()),
        }
    }

    async fn until(&self, done: impl Fn(&Progress) -> bool) {
        // This fails only after the sender is dropped, and `self` owns the sender.
        let _ = self.progress.subscribe().wait_for(|progress| done(progress)).await;
    }
}

#[cfg(feature = "cli")]
impl Backlog {
    /// Returns the number of bytes that the reader has taken.
    pub fn taken(&self) -> u64 {
        self.progress.borrow().taken
    }

    /// Notes that the output has failed.
    pub(crate) fn fail(&self, error: io::Error) {
        self.progress.send_modify(|progress| (progress.failed, progress.error) = (true, Some(error)));
    }

    /// Completes when no bytes wait any more, or when the output has failed.
    pub async fn empty(&self) {
        self.until(|progress| progress.failed || progress.left() == 0).await;
    }
}
