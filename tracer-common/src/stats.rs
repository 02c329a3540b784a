//! Counters kept by the kernel side, one set per CPU.

use crate::record::KINDS;

/// Per-CPU counters. Each hook writes only its own slots, so no two programs share a word. No two CPUs share a cache
/// line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Sequence number of the last record by kind, lost ones included.
    pub seq: [u64; KINDS],
    /// Records that did not fit into the ring, by kind.
    pub lost: [u64; KINDS],
    /// Execs whose argv was cut below the configured limit, because the ring was almost full.
    pub argv_degraded: u64,
    /// Execs without exe and cwd, because the ring was even fuller (their argv is cut as well).
    pub paths_degraded: u64,
    /// Forks whose child did not fit into the tracked set.
    pub untracked: u64,
}

const _: () = assert!(size_of::<CpuStats>() == (16 * KINDS + 24).next_multiple_of(64));
