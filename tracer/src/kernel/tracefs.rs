//! Mounts tracefs privately and briefly if it is not mounted.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::error::{LoadError, refused};

/// The usual mount point of tracefs.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Calls `attach` where tracefs is mounted: aya looks up the number of a trace event there.
///
/// If it is not mounted, a separate mount namespace gets it for the duration of the call. Nothing is visible outside, and
/// nothing remains.
pub(super) fn with_tracefs<T: Send>(attach: impl FnOnce() -> Result<T, LoadError> + Send) -> Result<T, LoadError> {
    if [TRACEFS, "/sys/kernel/debug/tracing"].iter().any(|at| Path::new(at).join("events").exists()) {
        return attach();
    }
    let mount_and_attach = move || {
        mount_tracefs().map_err(|error| {
            let needs = if error == Errno::EPERM { " (to mount it takes CAP_SYS_ADMIN)" } else { "" };
            let helps = format!("`mount -t tracefs tracefs {TRACEFS}` helps");
            refused("a look at tracefs", format!("{}{needs}; {helps}", error.desc()))
        })?;
        attach()
    };
    // The namespace belongs to the thread and ends with it.
    let joined = std::thread::scope(|scope| scope.spawn(mount_and_attach).join());
    joined.unwrap_or_else(|_| Err(refused("a look at tracefs", "it failed")))
}

fn mount_tracefs() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), none)
}
