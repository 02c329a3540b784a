//! Where bytes go: standard output, or the file of `-o`.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Mode of a file that `-o` creates: the argument lists of all users are for whoever asked only.
const MODE: u32 = 0o600;

/// What `-o` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard output, `-`.
    #[default]
    Stdout,
    /// A file, made anew.
    File(PathBuf),
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdout } else { Self::File(path) }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why an output could not be opened or written. It travels inside [`io::Error`], under the kind it had.
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

    /// True when whoever read the output has gone: the ordinary end of `tracer … | head`.
    pub fn is_closed_pipe(&self) -> bool {
        self.cause.kind() == io::ErrorKind::BrokenPipe
    }
}

/// What the system says, without the number that `io::Error` adds.
fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or name another file with -o",
        io::ErrorKind::NotFound => "create its directory first",
        _ => "name another file with -o",
    }
}

/// An open output. It is not buffered: those who write to it gather what belongs together.
#[derive(Debug)]
pub struct Output {
    file: File,
    target: Target,
}

impl Output {
    /// Opens a target; a file is created or emptied.
    pub fn open(target: Target) -> io::Result<Self> {
        let file = match &target {
            // Not `io::stdout()`: its line buffer would copy everything once more.
            Target::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Target::File(path) => OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path),
        };
        match file {
            Ok(file) => Ok(Self { file, target }),
            Err(error) => Err(OutputError::wrap("cannot open", &target, error)),
        }
    }
}

impl From<PipeWriter> for Output {
    /// The end of a pipe, taken for standard output.
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
                // Whoever shares the terminal or pipe may have made it non-blocking.
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
