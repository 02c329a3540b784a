//! Files that another process named: the one door to hostile input.
//!
//! A path may come from a command line, an environment, a working directory or a file that another user controls. Such a
//! path is opened only here. [`read`] accepts regular files alone, checks who owns them, follows no magic link, enters no
//! FUSE file system of another user, and reads a bounded number of bytes. [`Pool`] runs it on a thread that can be given up.

mod open;
mod pool;
mod root;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use open::{Signature, read, signature};
pub use pool::Pool;
pub use root::Root;

/// Who may own a file, and every directory on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Root alone.
    Root,
    /// Root or this user: the file describes what that user runs.
    User(u32),
    /// Anyone: a root process has used this very file. Files that everyone may write are refused.
    Vouched,
}

impl Owner {
    /// The owner that an engine of this user implies.
    pub const fn of(uid: u32) -> Self {
        if uid == 0 { Self::Root } else { Self::User(uid) }
    }

    fn accepts(self, uid: u32) -> bool {
        match self {
            Self::Root => uid == 0,
            Self::User(user) => uid == 0 || uid == user,
            Self::Vouched => true,
        }
    }
}

/// A file that another process named.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its absolute path.
    pub path: PathBuf,
    /// The root directory to which the path is relative; that of tracer if none. No link leads out of it.
    pub root: Option<Arc<Root>>,
    /// Who must own it.
    pub owner: Owner,
    /// Larger files are refused.
    pub max_bytes: u64,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It could not be opened or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a directory, a link, a FIFO, a socket or a device.
    #[error("it is not a regular file")]
    Kind,
    /// It, or a directory above it, belongs to another user, or everyone may write it.
    #[error("it, or a directory above it, belongs to user {0} or is writable by everyone")]
    Owner(u32),
    /// It lies on a FUSE file system that another user serves.
    #[error("it lies on a FUSE file system of another user")]
    FileSystem,
    /// It is larger than it may be.
    #[error("it is larger than {0} bytes")]
    Size(u64),
    /// Its path has too many components or links.
    #[error("its path is too long")]
    Path,
}

#[cfg(test)]
mod tests;
