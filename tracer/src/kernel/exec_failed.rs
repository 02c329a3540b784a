//! The two ways to see execs that fail, and how the first that this kernel allows is attached.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::load::{Hook, LoadError, Probe, Way, refused};

/// Where the arguments of a system call are in `struct pt_regs`: rdi, rsi, rdx, r10, r8
/// (arch/x86/include/uapi/asm/ptrace.h).
#[cfg(target_arch = "x86_64")]
pub(super) const SYSCALL_ARGS: [u32; 5] = [112, 104, 96, 56, 72];

/// x0 (as it was: `orig_x0`, for the result takes its place), x1 to x4 (arch/arm64/include/asm/ptrace.h).
#[cfg(target_arch = "aarch64")]
pub(super) const SYSCALL_ARGS: [u32; 5] = [272, 8, 16, 24, 32];

#[cfg(target_arch = "x86_64")]
const FUNCTIONS: [&str; 2] = ["__x64_sys_execve", "__x64_sys_execveat"];
#[cfg(target_arch = "aarch64")]
const FUNCTIONS: [&str; 2] = ["__arm64_sys_execve", "__arm64_sys_execveat"];

/// What is missing without it.
const GIVES: &str = "execs that fail";

/// Where tracefs is as a rule.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Attached to the system calls' own functions: nobody else pays. Not every kernel lets BPF do that.
pub const BY_FUNCTION: [Hook; 2] = [
    Hook { tracepoint: FUNCTIONS[0], program: "execve_failed", needed: false, gives: GIVES, way: Way::Fexit },
    Hook { tracepoint: FUNCTIONS[1], program: "execveat_failed", needed: false, gives: GIVES, way: Way::Fexit },
];

/// By tracepoint: while one of these is on, every system call of the machine takes the slow path.
pub const BY_TRACEPOINT: [Hook; 2] = [
    Hook { tracepoint: "sys_exit_execve", program: "execve_exit", needed: false, gives: GIVES, way: Way::Syscall },
    Hook { tracepoint: "sys_exit_execveat", program: "execveat_exit", needed: false, gives: GIVES, way: Way::Syscall },
];

/// What [`BY_TRACEPOINT`] costs.
pub const COST: &str = "While it is on, every system call of the machine is slower";

/// Attaches by the first way that works, and says why if it is not the first.
pub(super) fn attach(probe: &mut Probe, fallbacks: &mut Vec<String>) -> Result<[Hook; 2], LoadError> {
    let Err(error) = both(probe, &BY_FUNCTION) else { return Ok(BY_FUNCTION) };
    both(probe, &BY_TRACEPOINT)?;
    tracing::debug!("{}: {error}", BY_FUNCTION[0].name());
    fallbacks.push(format!("{}: refused; {} instead. {COST}", BY_FUNCTION[0].name(), BY_TRACEPOINT[0].name()));
    Ok(BY_TRACEPOINT)
}

/// Both or none.
pub(super) fn both(probe: &mut Probe, hooks: &[Hook; 2]) -> Result<(), LoadError> {
    let attached = hooks.iter().try_for_each(|hook| probe.load(hook).and_then(|()| probe.attach(hook)));
    if attached.is_err() {
        for hook in hooks {
            probe.unload(hook);
        }
    }
    attached
}

/// Calls `attach` where tracefs can be seen: aya has to look up a tracepoint's number there. Where it is not mounted,
/// that is done for a moment, in a mount namespace of its own: nothing of it is seen outside, and nothing stays.
pub(super) fn with_tracefs<T: Send>(attach: impl FnOnce() -> Result<T, LoadError> + Send) -> Result<T, LoadError> {
    if [TRACEFS, "/sys/kernel/debug/tracing"].iter().any(|at| Path::new(at).join("events").exists()) {
        return attach();
    }
    let mount_and_attach = move || {
        mount_tracefs().map_err(|error| {
            refused("a look at tracefs", &format!("{}; `mount -t tracefs tracefs {TRACEFS}` helps", error.desc()))
        })?;
        attach()
    };
    // The namespace is the thread's alone, and ends with it.
    let joined = std::thread::scope(|scope| scope.spawn(mount_and_attach).join());
    joined.unwrap_or_else(|_| Err(refused("a look at tracefs", &"it failed")))
}

fn mount_tracefs() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), none)
}
