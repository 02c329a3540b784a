//! The two ways to see execs that fail, and how the first that this kernel allows is attached.

use super::error::LoadError;
use super::hook::{Hook, Way};
use super::object::Probe;

/// Where the arguments of a system call are in `struct pt_regs`: rdi, rsi, rdx, r10, r8
/// (arch/x86/include/uapi/asm/ptrace.h).
#[cfg(target_arch = "x86_64")]
pub(crate) const SYSCALL_ARGS: [u32; 5] = [112, 104, 96, 56, 72];

/// x0 (as it was: `orig_x0`, for the result takes its place), x1 to x4 (arch/arm64/include/asm/ptrace.h).
#[cfg(target_arch = "aarch64")]
pub(crate) const SYSCALL_ARGS: [u32; 5] = [272, 8, 16, 24, 32];

#[cfg(target_arch = "x86_64")]
pub(super) const FUNCTIONS: [&str; 2] = ["__x64_sys_execve", "__x64_sys_execveat"];
#[cfg(target_arch = "aarch64")]
pub(super) const FUNCTIONS: [&str; 2] = ["__arm64_sys_execve", "__arm64_sys_execveat"];

/// What is missing without it.
const GIVES: &str = "execs that fail";

/// Attached to the system calls' own functions: nobody else pays. Not every kernel lets BPF do that.
pub const BY_FUNCTION: [Hook; 2] = [
    Hook { tracepoint: FUNCTIONS[0], program: "execve_failed", needed: false, gives: GIVES, way: Way::Fexit },
    Hook { tracepoint: FUNCTIONS[1], program: "execveat_failed", needed: false, gives: GIVES, way: Way::Fexit },
];

const SYSCALLS: Way = Way::Event("syscalls");

/// By tracepoint: while one of these is on, every system call of the machine takes the slow path.
pub const BY_TRACEPOINT: [Hook; 2] = [
    Hook { tracepoint: "sys_exit_execve", program: "execve_exit", needed: false, gives: GIVES, way: SYSCALLS },
    Hook { tracepoint: "sys_exit_execveat", program: "execveat_exit", needed: false, gives: GIVES, way: SYSCALLS },
];

/// What [`BY_TRACEPOINT`] costs.
pub const COST: &str = "While it is on, every system call of the machine is slower";

/// Attaches by the way that is asked for, or else by the first that works, and says why if that is not the first.
pub(crate) fn attach(
    probe: &mut Probe,
    by_function: Option<bool>,
    fallbacks: &mut Vec<String>,
) -> Result<[Hook; 2], LoadError> {
    if let Some(by_function) = by_function {
        let hooks = if by_function { BY_FUNCTION } else { BY_TRACEPOINT };
        return both(probe, &hooks).map(|()| hooks);
    }
    let Err(error) = both(probe, &BY_FUNCTION) else { return Ok(BY_FUNCTION) };
    both(probe, &BY_TRACEPOINT)?;
    tracing::debug!("{}: {error}", BY_FUNCTION[0].name());
    fallbacks.push(format!("{}: refused; {} instead. {COST}", BY_FUNCTION[0].name(), BY_TRACEPOINT[0].name()));
    Ok(BY_TRACEPOINT)
}

/// Both or none.
pub(crate) fn both(probe: &mut Probe, hooks: &[Hook; 2]) -> Result<(), LoadError> {
    let attached = hooks.iter().try_for_each(|hook| probe.load(hook).and_then(|()| probe.attach(hook)));
    if attached.is_err() {
        for hook in hooks {
            probe.unload(hook);
        }
    }
    attached
}
