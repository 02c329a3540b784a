//! Buffers encoded events, writes them to the output, and waits for a slow reader at the end.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::{Encoder, Outlet, Output, Target};
use crate::event::Event;
use crate::pipeline::backlog::Backlog;
use crate::pipeline::consumer::Consumer;

/// Bytes that are buffered before they are written.
const CHUNK: usize = 128 * 1024;

/// The longest time without a read after a request to end.
const GRACE: Duration = Duration::from_millis(600);

/// The longest time of an orderly end that makes progress.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Time between two checks of the reader.
const CHECK: Duration = Duration::from_millis(50);

/// Encodes and writes events. Each write ends with a line, so readers see whole lines, even after a crash.
#[derive(Debug)]
pub struct Writer<E, W = Outlet> {
    encoder: E,
    lines: Vec<u8>,
    output: W,
    backlog: Option<Backlog>,
    target: Target,
}

impl<E: Encoder> Writer<E> {
    /// Creates a writer to an output. It never waits for a reader. Its [`Backlog`] holds up to `capacity` bytes.
    pub fn open(encoder: E, output: Output, capacity: u64) -> io::Result<Self> {
        let target = output.target().clone();
        let outlet = Outlet::new(output, capacity)?;
        let backlog = outlet.backlog();
        Ok(Self { backlog, target, ..Self::new(encoder, outlet) })
    }
}

impl<E: Encoder, W: Write> Writer<E, W> {
    /// Creates a writer to any [`Write`], which needs no buffer.
    pub fn new(encoder: E, output: W) -> Self {
        Self { encoder, lines: Vec::with_capacity(2 * CHUNK), output, backlog: None, target: Target::default() }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let written = self.output.write_all(&self.lines);
        // Nothing is written twice: the caller ends with the error.
        self.lines.clear();
        written
    }

    /// Waits until the reader has read everything.
    ///
    /// `end` completes on a request to end. After the first request, this waits only while the reader makes progress, and calls
    /// `progress` then. After the second request, it does not wait.
    pub async fn drain(&self, mut end: impl AsyncFnMut(), progress: impl Fn()) -> Result<(), DrainError> {
        let Some(backlog) = &self.backlog else { return Ok(()) };
        let mut patience: Option<Patience> = None;
        loop {
            tokio::select! {
                biased;
                () = backlog.empty() => return backlog.error().map_err(DrainError::Output),
                () = end() => {
                    if patience.is_some() {
                        break;
                    }
                    patience = Some(Patience::from_now(backlog.taken()));
                }
                () = tokio::time::sleep(CHECK), if patience.is_some() => {
                    if patience.as_mut().is_some_and(|patience| patience.is_over(backlog.taken(), &progress)) {
                        break;
                    }
                }
            }
        }
        Err(DrainError::NotRead { target: self.target.clone(), left: backlog.left() })
    }
}

/// Decides how long to wait for a reader.
struct Patience {
    since: Instant,
    moved: Instant,
    taken: u64,
}

impl Patience {
    fn from_now(taken: u64) -> Self {
        let now = Instant::now();
        Self { since: now, moved: now, taken }
    }

    fn is_over(&mut self, taken: u64, progress: impl Fn()) -> bool {
        let now = Instant::now();
        if taken != self.taken {
            (self.taken, self.moved) = (taken, now);
            progress();
        }
        now >= self.moved + GRACE || now >= self.since + LONGEST
    }
}

/// Why the reader did not get the last lines.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The output failed.
    #[error(transparent)]
    Output(io::Error),
    /// The reader stopped reading.
    #[error(
        "cannot finish {target}: its reader did not read the last {left} bytes, with the line `bye`: read on, or write to a \
         file with -o FILE"
    )]
    NotRead {
        /// The output.
        target: Target,
        /// Bytes that were not read.
        left: u64,
    },
}

impl<E: Encoder, W: Write> Consumer for Writer<E, W> {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.encoder.encode(event, &mut self.lines)?;
        if self.lines.len() >= CHUNK { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.write_out()?;
        }
        self.output.flush()
    }

    fn backlog(&self) -> Option<Backlog> {
        self.backlog.clone()
    }
}
