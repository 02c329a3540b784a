//! The two ways to see execs that fail, and how the first that this kernel allows is attached.

use super::error::LoadError;
use super::fallback::Fallback;
use super::hook::{BY_FUNCTION, BY_TRACEPOINT, Hook};
use super::object::Object;

/// Where the arguments of a system call are in `struct pt_regs`: rdi, rsi, rdx, r10, r8
/// (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/arch/x86/include/uapi/asm/ptrace.h>).
#[cfg(target_arch = "x86_64")]
pub(crate) const SYSCALL_ARGS: [u32; 5] = [112, 104, 96, 56, 72];

/// x0 (`orig_x0`, because the result replaces it), x1 to x4
/// (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/arch/arm64/include/asm/ptrace.h>).
#[cfg(target_arch = "aarch64")]
pub(crate) const SYSCALL_ARGS: [u32; 5] = [272, 8, 16, 24, 32];

/// Attaches by the given way, or else by the first that works; reports it if that is not the first.
pub(crate) fn attach(
    object: &mut Object,
    by_function: Option<bool>,
    fallbacks: &mut Vec<Fallback>,
) -> Result<[Hook; 2], LoadError> {
    if let Some(by_function) = by_function {
        let hooks = if by_function { BY_FUNCTION } else { BY_TRACEPOINT };
        return both(object, &hooks).map(|()| hooks);
    }
    let Err(error) = both(object, &BY_FUNCTION) else { return Ok(BY_FUNCTION) };
    both(object, &BY_TRACEPOINT)?;
    tracing::debug!("{}: {error}", BY_FUNCTION[0].name());
    fallbacks.push(Fallback::SlowSystemCalls);
    Ok(BY_TRACEPOINT)
}

/// Both or none.
pub(crate) fn both(object: &mut Object, hooks: &[Hook; 2]) -> Result<(), LoadError> {
    let attached = hooks.iter().try_for_each(|hook| object.load(hook).and_then(|()| object.attach(hook)));
    if attached.is_err() {
        for hook in hooks {
            object.unload(hook);
        }
    }
    attached
}
