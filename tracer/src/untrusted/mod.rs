//! Opens files that another process named. This module is the only entry for hostile input.
//!
//! A path may come from a command line, an environment, a working directory or a file that another user controls. Such
//! a path is opened only here. [`read`] accepts only regular files, checks their owners, and follows no magic link. It
//! enters no FUSE file system of another user, and reads a bounded number of bytes. [`Pool`] runs it on a thread that
//! can be abandoned.

mod open;
mod pool;
mod root;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use open::{Signature, read, signature};
pub use pool::Pool;
pub use root::Root;

/// The accepted owners of a file and of every directory above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Only root.
    Root,
    /// Root or this user: the file describes what that user runs.
    User(u32),
    /// Anyone: a root process has used this very file. World-writable files are refused.
    Vouched,
}

impl Owner {
    /// Returns the owner to require for an engine of this user.
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
    /// The root directory to which the path is relative, tracer's own if None. No link leads out of it.
    pub root: Option<Arc<Root>>,
    /// Its required owner.
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
    /// It, or a directory above it, belongs to another user or is world-writable.
    #[error("it, or a directory above it, belongs to user {0} or is writable by everyone")]
    Owner(u32),
    /// It is on a FUSE file system that another user serves.
    #[error("it lies on a FUSE file system of another user")]
    FileSystem,
    /// It is larger than allowed.
    #[error("it is larger than {0} bytes")]
    Size(u64),
    /// Its path has too many components or links.
    #[error("its path is too long")]
    Path,
}

#[cfg(test)]
mod tests;
