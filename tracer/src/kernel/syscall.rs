//! Facts about system calls that depend on the architecture.

/// The kernel functions of execve(2) and execveat(2).
#[cfg(target_arch = "x86_64")]
pub(super) const EXEC_FUNCTIONS: [&str; 2] = ["__x64_sys_execve", "__x64_sys_execveat"];
#[cfg(target_arch = "aarch64")]
pub(super) const EXEC_FUNCTIONS: [&str; 2] = ["__arm64_sys_execve", "__arm64_sys_execveat"];

/// Offsets of the arguments of a system call in `struct pt_regs`: rdi, rsi, rdx, r10, r8
/// (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/arch/x86/include/uapi/asm/ptrace.h>).
#[cfg(target_arch = "x86_64")]
pub(super) const SYSCALL_ARGS: [u32; 5] = [112, 104, 96, 56, 72];

/// x0 (`orig_x0`, because the result replaces it), x1 to x4
/// (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/arch/arm64/include/asm/ptrace.h>).
#[cfg(target_arch = "aarch64")]
pub(super) const SYSCALL_ARGS: [u32; 5] = [272, 8, 16, 24, 32];
