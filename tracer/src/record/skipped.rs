//! Computes from the kernel's counters which events it skipped. It does no I/O.

use tracer_common::record::KINDS;

/// How many events of each kind the kernel has skipped so far.
pub type SkippedCounts = [u64; KINDS];

/// Skipped events of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedEvents {
    /// `KIND_*`.
    pub kind: usize,
    /// The most that may be missing: the kernel does not say what it skipped, and filters may exclude all of it.
    pub count: u64,
    /// Time of the previous update. None for the first.
    pub after_ns: Option<u64>,
    /// Time of the update that found them missing.
    pub before_ns: u64,
}

/// Finds newly skipped events.
#[derive(Clone, Debug, Default)]
pub struct SkippedTracker {
    reported: SkippedCounts,
    updated_ns: Option<u64>,
}

impl SkippedTracker {
    /// Returns what was skipped since the last update.
    pub fn update(&mut self, now: u64, counts: &SkippedCounts) -> Vec<SkippedEvents> {
        let after_ns = self.updated_ns.replace(now);
        let mut out = Vec::new();
        for (kind, (reported, &skipped)) in self.reported.iter_mut().zip(counts).enumerate() {
            let count = skipped.saturating_sub(*reported);
            if count != 0 {
                *reported = skipped;
                out.push(SkippedEvents { kind, count, after_ns, before_ns: now });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::record::{KIND_EXEC, KIND_FORK};

    use super::*;

    const S: u64 = 1_000_000_000;

    fn counts(forks: u64, execs: u64) -> SkippedCounts {
        let mut out = [0; KINDS];
        (out[usize::from(KIND_FORK)], out[usize::from(KIND_EXEC)]) = (forks, execs);
        out
    }

    fn skipped(kind: u16, count: u64, after_ns: Option<u64>, before_ns: u64) -> SkippedEvents {
        SkippedEvents { kind: kind.into(), count, after_ns, before_ns }
    }

    #[test]
    fn skipped_events_are_reported_once_and_by_kind() {
        let mut tracker = SkippedTracker::default();
        assert_eq!(tracker.update(S, &counts(0, 2)), [skipped(KIND_EXEC, 2, None, S)]);
        assert_eq!(tracker.update(2 * S, &counts(0, 2)), []);
        let both = [skipped(KIND_FORK, 1, Some(2 * S), 3 * S), skipped(KIND_EXEC, 3, Some(2 * S), 3 * S)];
        assert_eq!(tracker.update(3 * S, &counts(1, 5)), both);
        assert_eq!(tracker.update(4 * S, &counts(1, 5)), []);
    }
}
