//! What a slow reader has not read yet.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

/// Bytes handed to the thread that writes them, and bytes written.
#[derive(Debug, Default)]
struct State {
    handed: u64,
    taken: u64,
    failed: bool,
    /// The error, until somebody has fetched it.
    error: Option<io::Error>,
}

impl State {
    fn left(&self) -> u64 {
        self.handed - self.taken
    }
}

/// Counts the bytes that wait for the reader of an output. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Backlog {
    state: Arc<watch::Sender<State>>,
    room: u64,
}

impl Backlog {
    /// An empty one, with room for a number of bytes.
    pub fn new(room: u64) -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())), room }
    }

    /// Bytes that wait.
    pub fn left(&self) -> u64 {
        self.state.borrow().left()
    }

    /// Bytes that may wait.
    pub const fn room_bytes(&self) -> u64 {
        self.room
    }

    /// Counts bytes that wait from now on.
    pub(crate) fn add(&self, bytes: u64) {
        self.state.send_if_modified(|state| {
            state.handed += bytes;
            false
        });
    }

    /// Counts bytes that were written.
    pub(crate) fn take(&self, bytes: u64) {
        self.state.send_modify(|state| state.taken += bytes);
    }

    /// Completes when there is room, or when the output has failed.
    pub async fn room(&self) {
        self.until(|state| state.failed || state.left() < self.room).await;
    }

    /// Completes when at least half of the room is free, or when the output has failed.
    pub async fn half_empty(&self) {
        self.until(|state| state.failed || state.left() <= self.room / 2).await;
    }

    /// Completes when the output has failed.
    pub async fn failed(&self) {
        self.until(|state| state.failed).await;
    }

    /// How the output has failed, if it has.
    pub fn error(&self) -> io::Result<()> {
        let (mut failed, mut error) = (false, None);
        self.state.send_if_modified(|state| {
            (failed, error) = (state.failed, state.error.take());
            false
        });
        match (error, failed) {
            (Some(error), _) => Err(error),
            (None, true) => Err(io::Error::other("the output has failed before")),
            (None, false) => Ok(()),
        }
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        // It fails only when the sender is gone, and this holds it.
        let _ = self.state.subscribe().wait_for(|state| done(state)).await;
    }
}

/// What only a writer needs.
#[cfg(feature = "cli")]
impl Backlog {
    /// Bytes that the reader has taken.
    pub fn taken(&self) -> u64 {
        self.state.borrow().taken
    }

    /// Notes that the output has failed.
    pub(crate) fn fail(&self, error: io::Error) {
        self.state.send_modify(|state| (state.failed, state.error) = (true, Some(error)));
    }

    /// Completes when nothing waits any more, or when the output has failed.
    pub async fn empty(&self) {
        self.until(|state| state.failed || state.left() == 0).await;
    }
}
