//! Between a writer and its output: a separate thread writes what a slow reader may leave waiting.
//!
//! `write` to a pipe blocks while its reader sleeps. A thread that blocks there handles no signal and empties no ring. So bytes
//! for a pipe, a socket or a terminal go to a thread, chunk by chunk, and the event loop continues. It looks at the
//! [`Backlog`] to decide whether to take more events. Files are written at once: they have no reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::mpsc;
use std::thread;

use nix::sys::stat::major;

use super::Output;
use crate::pipeline::backlog::Backlog;

/// Most bytes of one `write`: the backlog shrinks while the reader reads a part.
const PIECE: usize = 16 * 1024;

/// Major number of `/dev/null` and similar devices (include/uapi/linux/major.h), which never block.
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
    /// The way that suits an output. `room` is how many bytes may wait for its reader.
    pub fn new(output: Output, room: u64) -> io::Result<Self> {
        if has_reader(&output)? { Queue::new(output, room).map(Self::Queued) } else { Ok(Self::Direct(output)) }
    }

    /// What its reader has not read yet; none if there is no reader.
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

/// Chunks on their way to the thread that writes them. It ends when the queue is dropped and everything is written.
#[derive(Debug)]
pub struct Queue {
    chunks: mpsc::Sender<Vec<u8>>,
    backlog: Backlog,
}

impl Queue {
    fn new(output: Output, room: u64) -> io::Result<Self> {
        let (chunks, received) = mpsc::channel();
        let backlog = Backlog::new(room);
        let shared = backlog.clone();
        thread::Builder::new().name("tracer-output".into()).spawn(move || pump(output, &received, &shared))?;
        Ok(Self { chunks, backlog })
    }

    /// Takes all bytes at once. Writers gather some 100 KiB, so the copy is cheap beside the encoding.
    fn hand_over(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.backlog.error()?;
        self.backlog.add(bytes.len() as u64);
        // It fails only after the thread has ended, by an error that the next call finds.
        let _ = self.chunks.send(bytes.to_vec());
        Ok(bytes.len())
    }
}

/// Writes chunk after chunk, and waits for the reader as long as it takes.
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
            backlog.not_full().await;
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
            backlog.not_full().await;
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
