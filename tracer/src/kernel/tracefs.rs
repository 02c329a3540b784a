//! Where tracefs is not mounted, it is for a moment, and nobody else sees it.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::error::{LoadError, refused};

/// Where tracefs is as a rule.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Calls `attach` where tracefs can be seen: aya has to look up a trace event's number there. Where it is not mounted,
/// that is done for a moment, in a mount namespace of its own: nothing of it is seen outside, and nothing stays.
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
    // The namespace is the thread's alone, and ends with it.
    let joined = std::thread::scope(|scope| scope.spawn(mount_and_attach).join());
    joined.unwrap_or_else(|_| Err(refused("a look at tracefs", "it failed")))
}

fn mount_tracefs() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), none)
}
