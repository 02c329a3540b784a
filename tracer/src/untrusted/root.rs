//! The root directory of another process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::event::id::ProcessId;

/// The root directory of a process that may have separate mounts.
#[derive(Debug)]
pub struct Root {
    /// `/proc/PID`, which refers to this process even if its pid is reused.
    process: OwnedFd,
    directory: OwnedFd,
}

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC).union(OFlag::O_DIRECTORY);

impl Root {
    /// Opens the root of a process, while that lives.
    pub fn of(id: ProcessId) -> Option<Self> {
        let process = open(format!("/proc/{}", id.pid()).as_str(), PATH, Mode::empty()).ok()?;
        let directory = openat(&process, "root", PATH, Mode::empty()).ok()?;
        let root = Self { process, directory };
        // Checked after the descriptor is open: it is still the same process.
        (crate::proc::start_of(&root.at("stat")) == Some(id)).then_some(root)
    }

    /// Returns whether this is tracer's own view.
    pub fn is_ours(&self) -> bool {
        let namespace = |path: PathBuf| fs::read_link(path).ok();
        let own = namespace("/proc/self/ns/mnt".into());
        let place = |path: PathBuf| fs::read_link(path).ok().filter(|path| path.as_os_str() == "/");
        own.is_some() && own == namespace(self.at("ns/mnt")) && place(self.at("root")).is_some()
    }

    pub(super) fn directory(&self) -> io::Result<OwnedFd> {
        self.directory.try_clone()
    }

    pub(super) fn mounts(&self) -> PathBuf {
        self.at("mountinfo")
    }

    fn at(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.process.as_raw_fd()).into()
    }
}
