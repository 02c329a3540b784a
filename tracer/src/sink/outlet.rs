//! Between a sink and its output: what a reader may leave lying is written by a thread of its own.
//!
//! A pipe whose reader sleeps makes `write` wait, and whoever waits there hears no signal and empties no ring. So what is
//! for a pipe, a socket or a terminal is handed over, chunk by chunk, and the event loop goes on. It looks at the
//! [`Backlog`] to see whether to take more from the ring. Files are written at once: they have no reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::sys::stat::major;
use tokio::sync::watch;

use super::{Output, Sink};
use crate::event::Event;

/// Most bytes of one `write`: while the reader takes some, it shows.
const PIECE: usize = 16 * 1024;

/// Major number of `/dev/null` and its like (include/uapi/linux/major.h), which make nobody wait.
const MEM_MAJOR: u64 = 1;

/// The way to an output.
#[derive(Debug)]
pub enum Outlet {
    /// Written at once.
    Direct(Output),
    /// Handed to a thread that writes it.
    Queued(Queue),
}

impl Outlet {
    /// The way that suits an output. So many bytes may wait for its reader before nothing more should be handed over.
    pub fn new(output: Output, room: u64) -> io::Result<Self> {
        if has_reader(&output)? { Queue::new(output, room).map(Self::Queued) } else { Ok(Self::Direct(output)) }
    }

    /// What its reader has not taken yet; none if there is no reader.
    pub fn backlog(&self) -> Option<Backlog> {
        match self {
            Self::Direct(_) => None,
            Self::Queued(queue) => Some(queue.backlog()),
        }
    }
}

fn has_reader(output: &Output) -> io::Result<bool> {
    let metadata = File::from(output.as_fd().try_clone_to_owned()?).metadata()?;
    let kind = metadata.file_type();
    let device = kind.is_char_device() && major(metadata.rdev()) != MEM_MAJOR;
    Ok(kind.is_fifo() || kind.is_socket() || device)
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(output) => output.write(bytes),
            Self::Queued(queue) => queue.hand_over(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(output) => output.flush(),
            Self::Queued(_) => Ok(()),
        }
    }
}

/// What was handed over, and what became of it.
#[derive(Debug, Default)]
struct State {
    handed: u64,
    taken: u64,
    failed: bool,
    /// Why, until somebody was told.
    error: Option<io::Error>,
}

impl State {
    fn left(&self) -> u64 {
        self.handed - self.taken
    }
}

/// Chunks on their way to the thread that writes them. It ends when the queue is dropped and all is written.
#[derive(Debug)]
pub struct Queue {
    chunks: mpsc::Sender<Vec<u8>>,
    state: Arc<watch::Sender<State>>,
    room: u64,
}

impl Queue {
    fn new(output: Output, room: u64) -> io::Result<Self> {
        let (chunks, received) = mpsc::channel();
        let state = Arc::new(watch::Sender::new(State::default()));
        let shared = Arc::clone(&state);
        thread::Builder::new().name("tracer-output".into()).spawn(move || pump(output, &received, &shared))?;
        Ok(Self { chunks, state, room })
    }

    fn backlog(&self) -> Backlog {
        Backlog { state: Arc::clone(&self.state), room: self.room }
    }

    /// All of it, at once. Sinks gather some 100 KiB, so copying them is nothing beside making them.
    fn hand_over(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.backlog().error()?;
        self.state.send_if_modified(|state| {
            state.handed += bytes.len() as u64;
            false
        });
        // It fails only once the thread has ended, by an error that the next call finds.
        let _ = self.chunks.send(bytes.to_vec());
        Ok(bytes.len())
    }
}

/// Writes chunk after chunk, and waits for the reader as long as it takes.
fn pump(mut output: Output, chunks: &mpsc::Receiver<Vec<u8>>, state: &watch::Sender<State>) {
    for chunk in chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE)];
            let error = match output.write(piece) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    rest = &rest[written..];
                    state.send_modify(|state| state.taken += written as u64);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            state.send_modify(|state| (state.failed, state.error) = (true, Some(error)));
            return;
        }
    }
}

/// What the reader of an output has not taken yet.
#[derive(Clone, Debug)]
pub struct Backlog {
    state: Arc<watch::Sender<State>>,
    room: u64,
}

impl Backlog {
    /// Bytes that were not taken yet.
    pub fn left(&self) -> u64 {
        self.state.borrow().left()
    }

    /// Bytes that may wait.
    pub const fn room_bytes(&self) -> u64 {
        self.room
    }

    /// Bytes that were taken.
    pub fn taken(&self) -> u64 {
        self.state.borrow().taken
    }

    /// Done when more may be handed over; also when the output has failed.
    pub async fn room(&self) {
        self.until(|state| state.failed || state.left() < self.room).await;
    }

    /// Done when half of the room or more is free; also when the output has failed.
    pub async fn half_empty(&self) {
        self.until(|state| state.failed || state.left() <= self.room / 2).await;
    }

    /// Done when all was taken; also when the output has failed.
    pub async fn empty(&self) {
        self.until(|state| state.failed || state.left() == 0).await;
    }

    /// Done when the output has failed.
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

/// A sink onto an output that has a reader.
pub(super) struct Watched<S> {
    pub(super) sink: S,
    pub(super) backlog: Option<Backlog>,
}

impl<S: Sink> Sink for Watched<S> {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.sink.write(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn backlog(&self) -> Option<Backlog> {
        self.backlog.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sink::OutputError;

    const ROOM: u64 = 1 << 20;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_reader_that_sleeps_keeps_nobody_waiting_and_gets_all_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(Output::from(writer), ROOM).unwrap();
        let backlog = outlet.backlog().unwrap();
        // Twice what may wait, and far more than a pipe holds.
        let line = |n: u64| format!("{n:09}\n").into_bytes();
        let lines = 2 * ROOM / 10;
        let all: Vec<u8> = (0..lines).flat_map(line).collect();
        for chunk in all.chunks(100_000) {
            assert_eq!(outlet.write(chunk).unwrap(), chunk.len());
        }
        assert!(backlog.left() > ROOM);
        let taken = thread::spawn(move || {
            let mut taken = Vec::new();
            reader.read_to_end(&mut taken).unwrap();
            taken
        });
        block_on(async {
            backlog.room().await;
            backlog.empty().await;
        });
        assert_eq!((backlog.left(), backlog.taken()), (0, all.len() as u64));
        backlog.error().unwrap();
        drop(outlet);
        assert!(taken.join().unwrap() == all);
    }

    #[test]
    fn a_reader_that_goes_is_an_error_of_the_output_told_once_and_for_good() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(Output::from(writer), ROOM).unwrap();
        let backlog = outlet.backlog().unwrap();
        drop(reader);
        outlet.write_all(b"x").unwrap();
        block_on(backlog.failed());
        let error = outlet.write_all(b"y").unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<OutputError>()).unwrap();
        assert!(inner.is_closed_pipe());
        outlet.write_all(b"z").unwrap_err();
        block_on(async {
            backlog.room().await;
            backlog.empty().await;
        });
    }

    #[test]
    fn only_what_has_a_reader_is_queued() {
        let to =
            |file: OwnedFd| Outlet::new(Output::from(io::PipeWriter::from(file)), ROOM).unwrap().backlog().is_some();
        let open = |path: &str| OwnedFd::from(File::options().write(true).open(path).unwrap());
        assert!(!to(open("/dev/null")) && !to(open("/dev/full")));
        assert!(!to(tempfile::tempfile().unwrap().into()));
        let (_reader, writer) = io::pipe().unwrap();
        assert!(to(writer.into()));
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(to(socket.into()));
    }
}
