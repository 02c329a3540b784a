//! Counters kept by the kernel side, one set per CPU.

use crate::record::KINDS;

/// Per-CPU counters. Each hook writes only its own slots, so that no two programs ever share a word; and no two CPUs a cache
/// line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Records that were due, by kind: the sequence number of the last one, lost ones included.
    pub seq: [u64; KINDS],
    /// Records that found no room in the ring, by kind.
    pub lost: [u64; KINDS],
    /// Execs whose argv was cut shorter than asked for because the ring was too full for all of it.
    pub argv_degraded: u64,
    /// Execs whose exe and cwd were left out because the ring was too full for them (their argv is cut as well).
    pub paths_degraded: u64,
    /// Forks whose child could not be put into the tracked set because that was full.
    pub untracked: u64,
}

const _: () = assert!(size_of::<CpuStats>() == (16 * KINDS + 24).next_multiple_of(64));
