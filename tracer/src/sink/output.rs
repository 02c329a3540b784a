//! The output: standard output, or the file of `-o`.

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::open;

/// The target of `-o`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard output, `-`.
    #[default]
    Stdout,
    /// A file, and how its content is handled.
    File(PathBuf, Existing),
}

/// How a file that is not empty is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is truncated, unless it holds a recording.
    #[default]
    Replace,
    /// It is an error. The output is a recording, and the file may hold one, too.
    Keep,
    /// It is truncated.
    Overwrite,
    /// The output is appended.
    Append,
}

impl Target {
    /// Creates the target of a path, or of `-`.
    pub fn new(path: PathBuf, existing: Existing) -> Self {
        if path.as_os_str() == "-" { Self::Stdout } else { Self::File(path, existing) }
    }

    /// Returns the target for a recording. By default, a recording does not replace a file.
    #[must_use]
    pub fn for_recording(self) -> Self {
        match self {
            Self::File(path, Existing::Replace) => Self::File(path, Existing::Keep),
            other => other,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path, _) => path.display().fmt(f),
        }
    }
}

/// Why an output could not be opened or written. An [`io::Error`] of the same kind contains it.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {target}: {}: {}", reason(.cause), remedy(.cause))]
pub struct OutputError {
    doing: &'static str,
    target: Target,
    cause: io::Error,
}

impl OutputError {
    fn wrap(doing: &'static str, target: &Target, cause: io::Error) -> io::Error {
        io::Error::new(cause.kind(), Self { doing, target: target.clone(), cause })
    }

    /// Returns whether the reader closed the output: the ordinary end of `tracer … | head`.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    }
}

/// Returns the text of the system, without the number that `io::Error` adds.
fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or name another file with -o",
        io::ErrorKind::FileTooLarge => "raise the limit on the size of files (`ulimit -f unlimited`)",
        io::ErrorKind::NotFound => "create its directory first",
        io::ErrorKind::AlreadyExists => {
            "append to it with --append, overwrite it with --force, or name another file with -o"
        }
        _ => "name another file with -o",
    }
}

/// An open output. It is not buffered: callers write whole lines or frames at once.
#[derive(Debug)]
pub struct Output {
    file: File,
    target: Target,
}

impl Output {
    /// Opens a target. A file that does not exist is created, readable by its owner only.
    pub fn open(target: Target) -> io::Result<Self> {
        let file = match &target {
            Target::Stdout => open::inherited(1),
            Target::File(path, existing) => open::file(path, *existing),
        };
        match file {
            Ok(file) => Ok(Self { file, target }),
            Err(error) => Err(OutputError::wrap("cannot open", &target, error)),
        }
    }
}

impl Output {
    /// Returns the target.
    pub const fn target(&self) -> &Target {
        &self.target
    }
}

impl From<PipeWriter> for Output {
    /// Uses the end of a pipe as standard output.
    fn from(pipe: PipeWriter) -> Self {
        Self { file: File::from(OwnedFd::from(pipe)), target: Target::Stdout }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                // A process that shares the terminal or pipe may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
                }
                result => return result.map_err(|error| OutputError::wrap("cannot write to", &self.target, error)),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
