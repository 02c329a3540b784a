//! Whether this is a place to trace from: the kernel side tells pids of the initial pid namespace, `/proc` those of the
//! namespace it is mounted for, and both have to be the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;

/// Why one cannot trace from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// `/proc` is empty, or something else.
    #[error("/proc is not mounted: {}", self.remedy())]
    NoProc,
    /// `/proc` does not know this process.
    #[error("/proc is mounted for another pid namespace: {}", self.remedy())]
    ForeignProc,
    /// A container, most likely.
    #[error("this is a pid namespace of its own (a container), where the kernel's pids have other numbers: {}", self.remedy())]
    Namespace,
}

impl PlaceError {
    /// What to do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoProc | Self::ForeignProc => "mount it with `mount -t proc proc /proc`",
            Self::Namespace => {
                "run tracer on the host, start the container with `docker run --pid=host`, or go to the host's with \
                 `nsenter -t 1 -p`"
            }
        }
    }
}

/// Whether `/proc` is there, and tells of this process.
pub fn proc_is_mounted() -> Result<(), PlaceError> {
    match statfs("/proc") {
        Ok(mounted) if mounted.filesystem_type() == PROC_SUPER_MAGIC => {}
        _ => return Err(PlaceError::NoProc),
    }
    if Path::new("/proc/self/stat").exists() { Ok(()) } else { Err(PlaceError::ForeignProc) }
}

/// Whether one can trace from here.
pub fn check() -> Result<(), PlaceError> {
    proc_is_mounted()?;
    match fs::metadata("/proc/self/ns/pid") {
        Ok(namespace) if namespace.ino() != INITIAL_PID_NS => Err(PlaceError::Namespace),
        // A kernel without pid namespaces has none but the initial one.
        _ => Ok(()),
    }
}
