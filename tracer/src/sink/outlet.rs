//! Writes to an output that may have a slow reader, on a separate thread.
//!
//! `write` to a pipe blocks while its reader sleeps. A thread that blocks there handles no signal and empties no ring. So bytes
//! for a pipe, a socket or a terminal go to a thread in chunks, and the event loop continues. The [`Backlog`] shows it
//! whether to take more events. Files have no reader, so they are written directly.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::mpsc;
use std::thread;

use nix::sys::stat::major;

use super::Output;
use crate::pipeline::backlog::Backlog;

/// Most bytes of one `write`. Small writes let the backlog shrink while the reader reads.
const PIECE: usize = 16 * 1024;

/// Major number of `/dev/null` and similar devices (include/uapi/linux/major.h), which never block.
const MEM_MAJOR: u64 = 1;

/// Writes to an output, directly or through a thread.
#[derive(Debug)]
pub enum Outlet {
    /// Writes directly.
    Direct(Output),
    /// Passes bytes to a thread that writes them.
    Queued(Queue),
}

impl Outlet {
    /// Creates the outlet for an output. At most about `capacity` bytes wait for its reader.
    pub fn new(output: Output, capacity: u64) -> io::Result<Self> {
        if has_reader(&output)? { Queue::new(output, capacity).map(Self::Queued) } else { Ok(Self::Direct(output)) }
    }

    /// Returns what the reader has not read yet, or `None` if there is no reader.
    pub fn backlog(&self) -> Option<Backlog> {
        match self {
            Self::Direct(_) => None,
            Self::Queued(queue) => Some(queue.backlog.clone()),
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
            Self::Queued(queue) => queue.push(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(output) => output.flush(),
            Self::Queued(_) => Ok(()),
        }
    }
}

/// Sends chunks to the thread that writes them. The thread ends when the queue is dropped and everything is written.
#[derive(Debug)]
pub struct Queue {
    chunks: mpsc::Sender<Vec<u8>>,
    backlog: Backlog,
}

impl Queue {
    fn new(output: Output, capacity: u64) -> io::Result<Self> {
        let (chunks, received) = mpsc::channel();
        let backlog = Backlog::new(capacity);
        let shared = backlog.clone();
        thread::Builder::new().name("tracer-output".into()).spawn(move || pump(output, &received, &shared))?;
        Ok(Self { chunks, backlog })
    }

    /// Queues all bytes. Writers buffer some 100 KiB, so the copy is cheap compared with the encoding.
    fn push(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.backlog.error()?;
        self.backlog.add(bytes.len() as u64);
        // It fails only after the thread has ended with an error, which the next call returns.
        let _ = self.chunks.send(bytes.to_vec());
        Ok(bytes.len())
    }
}

/// Writes chunks until the queue is dropped. Waits for the reader without a limit.
fn pump(mut output: Output, chunks: &mpsc::Receiver<Vec<u8>>, backlog: &Backlog) {
    for chunk in chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE)];
            match output.write(piece) {
                Ok(0) => return backlog.fail(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    backlog.take(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return backlog.fail(error),
            }
        }
    }
}
#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sink::OutputError;

    const CAPACITY: u64 = 1 << 20;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_sleeping_reader_blocks_nothing_and_gets_all_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(Output::from(writer), CAPACITY).unwrap();
        let backlog = outlet.backlog().unwrap();
        // Twice what may wait, and far more than a pipe holds.
        let line = |n: u64| format!("{n:09}\n").into_bytes();
        let lines = 2 * CAPACITY / 10;
        let all: Vec<u8> = (0..lines).flat_map(line).collect();
        for chunk in all.chunks(100_000) {
            assert_eq!(outlet.write(chunk).unwrap(), chunk.len());
        }
        assert!(backlog.left() > CAPACITY);
        let taken = thread::spawn(move || {
            let mut taken = Vec::new();
            reader.read_to_end(&mut taken).unwrap();
            taken
        });
        block_on(async {
            backlog.not_full().await;
            backlog.empty().await;
        });
        assert_eq!((backlog.left(), backlog.taken()), (0, all.len() as u64));
        backlog.error().unwrap();
        drop(outlet);
        assert!(taken.join().unwrap() == all);
    }

    #[test]
    fn a_closed_pipe_is_an_error_of_this_and_every_later_write() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(Output::from(writer), CAPACITY).unwrap();
        let backlog = outlet.backlog().unwrap();
        drop(reader);
        outlet.write_all(b"x").unwrap();
        block_on(backlog.failed());
        let error = outlet.write_all(b"y").unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<OutputError>()).unwrap();
        assert!(inner.is_closed_pipe());
        outlet.write_all(b"z").unwrap_err();
        block_on(async {
            backlog.not_full().await;
            backlog.empty().await;
        });
    }

    #[test]
    fn only_outputs_with_a_reader_are_queued() {
        let is_queued = |file: OwnedFd| {
            Outlet::new(Output::from(io::PipeWriter::from(file)), CAPACITY).unwrap().backlog().is_some()
        };
        let open = |path: &str| OwnedFd::from(File::options().write(true).open(path).unwrap());
        assert!(!is_queued(open("/dev/null")) && !is_queued(open("/dev/full")));
        assert!(!is_queued(tempfile::tempfile().unwrap().into()));
        let (_reader, writer) = io::pipe().unwrap();
        assert!(is_queued(writer.into()));
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(is_queued(socket.into()));
    }
}
