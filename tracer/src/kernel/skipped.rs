//! How often the kernel passed over the programs that are attached: what it says nobody else tells.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::programs::ProgramFd;

use super::hook::Hook;
use crate::record::skipped::SkippedCounts;

/// One program that is attached.
struct Attached {
    kind: u16,
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
        if let (Some(kind), Ok(info)) = (hook.kind, info) {
            self.programs.push(Attached { kind, info, _program: program });
        }
    }

    /// What nobody has told.
    pub(super) fn untold(&self) -> SkippedCounts {
        let mut out = SkippedCounts::default();
        for program in &self.programs {
            out[usize::from(program.kind)] += count(&program.info);
        }
        out
    }
}

/// `recursion_misses` ([`bpf_prog_show_fdinfo`]), in which the kernel counts skips for any other reason too.
///
/// [`bpf_prog_show_fdinfo`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/syscall.c
fn count(info: &File) -> u64 {
    let mut text = [0; 1024];
    let Ok(length) = info.read_at(&mut text, 0) else { return 0 };
    let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
