//! Checks that tracing is possible from these namespaces.
//!
//! The kernel side reports pids of the initial pid namespace. `/proc` shows those of the namespace it is mounted for. Both
//! must be the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

/// Inode of the initial pid namespace ([`PROC_PID_INIT_INO`]).
///
/// [`PROC_PID_INIT_INO`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/proc_ns.h
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;

/// Inode of the initial time namespace ([`PROC_TIME_INIT_INO`]).
///
/// [`PROC_TIME_INIT_INO`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/proc_ns.h
const INITIAL_TIME_NS: u64 = 0xEFFF_FFFA;

/// Why tracing is not possible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.detail(), self.remedy())]
pub enum PreflightError {
    /// `/proc` is not mounted, or is another file system.
    NoProc,
    /// `/proc` does not show this process.
    ForeignProc,
    /// This is another pid namespace, most likely a container.
    Namespace,
    /// This is another time namespace (`unshare -T`).
    TimeNamespace,
}

impl PreflightError {
    /// Returns what is wrong.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NoProc => "/proc is not mounted",
            Self::ForeignProc => "/proc is mounted for another pid namespace",
            Self::Namespace => {
                "this is a separate pid namespace (a container), where the kernel's pids have other numbers"
            }
            Self::TimeNamespace => {
                "this is a time namespace: its boot clock is not the kernel's, so times and ids would be wrong"
            }
        }
    }

    /// Returns what to do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoProc | Self::ForeignProc => "mount it with `mount -t proc proc /proc`",
            Self::Namespace => {
                "run tracer on the host, start the container with `docker run --pid=host`, or go to the host's with \
                 `nsenter -t 1 -p`"
            }
            Self::TimeNamespace => "run tracer outside of it, e.g. with `nsenter -t 1 -T`",
        }
    }
}

/// Checks that `/proc` is mounted and shows this process.
pub fn proc_is_mounted() -> Result<(), PreflightError> {
    match statfs("/proc") {
        Ok(mounted) if mounted.filesystem_type() == PROC_SUPER_MAGIC => {}
        _ => return Err(PreflightError::NoProc),
    }
    if Path::new("/proc/self/stat").exists() { Ok(()) } else { Err(PreflightError::ForeignProc) }
}

/// Checks that tracing is possible here.
pub fn check() -> Result<(), PreflightError> {
    proc_is_mounted()?;
    match fs::metadata("/proc/self/ns/pid") {
        Ok(namespace) if namespace.ino() != INITIAL_PID_NS => return Err(PreflightError::Namespace),
        // A kernel without pid namespaces has only the initial one.
        _ => {}
    }
    if boot_clock_is_shifted() { Err(PreflightError::TimeNamespace) } else { Ok(()) }
}

/// Returns true if this process's `CLOCK_BOOTTIME` and the start times in its `/proc` differ from the kernel's own.
fn boot_clock_is_shifted() -> bool {
    let namespace = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).ok().map(|namespace| namespace.ino());
    // Time namespaces exist since Linux 5.6, if the kernel was built with them.
    let Some(own) = namespace("time").filter(|&own| own != INITIAL_TIME_NS) else { return false };
    // These are the offsets of the namespace for children, which may differ from this one.
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    namespace("time_for_children") != Some(own) || has_boot_offset(&offsets)
}

/// Returns true for a line like `boottime  86400  0`: seconds and nanoseconds (time_namespaces(7)).
fn has_boot_offset(offsets: &str) -> bool {
    let mut lines = offsets.lines().map(str::split_ascii_whitespace);
    // Older kernels show the number of the clock instead of its name.
    lines.any(|mut line| matches!(line.next(), Some("boottime" | "7")) && line.any(|number| number != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_boot_clock_matters() {
        assert!(has_boot_offset("monotonic           0         0\nboottime        86400         0\n"));
        assert!(has_boot_offset("monotonic 0 0\nboottime 0 5\n") && has_boot_offset("7 -60 0\n"));
        assert!(!has_boot_offset("monotonic 5 5\nboottime 0 0\n") && !has_boot_offset(""));
    }
}
