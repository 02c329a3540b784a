//! Counts how often the kernel skipped the attached programs. Nothing else reports that.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::programs::ProgramFd;

use super::hook::Hook;
use crate::record::skipped::SkippedCounts;

/// An attached program.
struct Attached {
    kind: u16,
    /// Its `fdinfo`. Valid while the descriptor is open.
    info: File,
    _program: ProgramFd,
}

/// The skip counters of the attached programs.
#[derive(Default)]
pub(super) struct SkipCounters {
    programs: Vec<Attached>,
}

impl SkipCounters {
    /// Adds a program.
    pub(super) fn watch(&mut self, hook: &Hook, program: ProgramFd) {
        // Without the counter there is nothing to count: before 5.12 no program is skipped.
        let info = File::open(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd()));
        if let (Some(kind), Ok(info)) = (hook.kind, info) {
            self.programs.push(Attached { kind, info, _program: program });
        }
    }

    /// Returns the number of skips by kind of record.
    pub(super) fn skipped(&self) -> SkippedCounts {
        let mut out = SkippedCounts::default();
        for program in &self.programs {
            out[usize::from(program.kind)] += count(&program.info);
        }
        out
    }
}

/// Reads `recursion_misses` ([`bpf_prog_show_fdinfo`]), which counts skips for every reason.
///
/// [`bpf_prog_show_fdinfo`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/syscall.c
fn count(info: &File) -> u64 {
    let mut text = [0; 1024];
    let Ok(length) = info.read_at(&mut text, 0) else { return 0 };
    let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
