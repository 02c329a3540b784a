//! Programs that the kernel passes over: how often it did, and the second ones that tell what it kept from the first.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::programs::ProgramFd;
use tracer_common::record::{
    KIND_CGROUP, KIND_EXEC, KIND_EXEC_FAILED, KIND_EXECAT_FAILED, KIND_EXIT, KIND_FORK, KIND_REAP, KIND_SIGNAL,
    RESCUABLE,
};
use tracer_common::stats::CpuStats;

use super::load::Hook;
use crate::passed_over::Untold;

/// Since then a program on a tracepoint can be preempted (include/linux/tracepoint.h: SRCU instead of
/// `preempt_disable`), and the kernel passes over it for all others on that CPU until it goes on.
const SINCE: u32 = 7;

/// True if the running kernel passes over programs that are preempted.
pub(super) fn is_needed() -> bool {
    let name = nix::sys::utsname::uname();
    let release = name.as_ref().ok().and_then(|name| name.release().to_str()).unwrap_or_default();
    release.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= SINCE)
}

/// The second program of a hook that needs one.
pub(super) fn second(hook: &Hook) -> Option<Hook> {
    let program = match hook.program {
        "fork" => "fork_second",
        "exec" => "exec_second",
        "exit" => "exit_second",
        _ => return None,
    };
    Some(Hook { program, ..*hook })
}

/// What a program tells. None for the second of a hook.
fn kind(program: &str) -> Option<u16> {
    Some(match program {
        "fork" => KIND_FORK,
        "exec" => KIND_EXEC,
        "exit" | "exit_by_live" => KIND_EXIT,
        "signal" => KIND_SIGNAL,
        "cgroup_mkdir" | "cgroup_attach" | "cgroup_rmdir" => KIND_CGROUP,
        "reap" => KIND_REAP,
        "execve_failed" | "execve_exit" => KIND_EXEC_FAILED,
        "execveat_failed" | "execveat_exit" => KIND_EXECAT_FAILED,
        _ => return None,
    })
}

/// One program that is attached.
struct Attached {
    kind: Option<u16>,
    /// What the kernel tells of it. Lasts as long as the descriptor.
    info: File,
    _program: ProgramFd,
}

/// How often the kernel passed over each program that is attached.
#[derive(Default)]
pub(super) struct Misses {
    programs: Vec<Attached>,
}

impl Misses {
    /// One more program.
    pub(super) fn watch(&mut self, hook: &Hook, program: ProgramFd) {
        // Where it cannot be read there is nothing to tell: before 5.12 nothing is passed over.
        let info = File::open(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd()));
        if let Ok(info) = info {
            self.programs.push(Attached { kind: kind(hook.program), info, _program: program });
        }
    }

    /// What the first programs were passed over with, less what the second ones told of it.
    pub(super) fn untold(&self, stats: impl FnOnce() -> Vec<CpuStats>) -> Untold {
        let mut out = Untold::default();
        for program in &self.programs {
            if let Some(kind) = program.kind {
                out[usize::from(kind)] += count(&program.info);
            }
        }
        // Read later than those: nothing is taken for missing that was told in between.
        let stats = stats();
        for (kind, untold) in out.iter_mut().enumerate().take(RESCUABLE) {
            let deferred: u64 = stats.iter().map(|cpu| cpu.deferred[kind]).sum();
            let rescued: u64 = stats.iter().map(|cpu| cpu.rescued[kind]).sum();
            *untold = (*untold + deferred).saturating_sub(rescued);
        }
        out
    }
}

/// `recursion_misses` (kernel/bpf/syscall.c, `bpf_prog_show_fdinfo`), by which the kernel means any other reason too.
fn count(info: &File) -> u64 {
    let mut text = [0; 1024];
    let Ok(length) = info.read_at(&mut text, 0) else { return 0 };
    let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
