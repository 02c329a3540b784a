//! Finds lost records by gaps in the sequence numbers, at the exact place where they are missing.

use tracer_common::record::{
    Header, KIND_CGROUP, KIND_EXEC, KIND_EXEC_FAILED, KIND_EXECAT_FAILED, KIND_EXIT, KIND_FORK, KIND_REAP, KIND_SIGNAL,
    KINDS,
};
use tracer_common::stats::CpuStats;

use crate::event::{Lost, LostReason};
use crate::record::skipped::SkippedEvents;

/// The last record of one kind on one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    seq: u64,
    boot_ns: u64,
    /// How many records before it are known to be missing.
    missing: u64,
}

/// Follows the sequence numbers of every CPU and kind.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    cpus: Vec<[Last; KINDS]>,
    lost: u64,
}

impl Gaps {
    /// Returns the number of records missing so far.
    #[cfg(any(feature = "internals", test))]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Notes a record. Returns what is missing right before it.
    pub fn observe(&mut self, header: &Header) -> Option<Lost> {
        let (cpu, kind) = (usize::from(header.cpu), usize::from(header.kind));
        let last = self.slot(cpu, kind)?;
        let missing = header.seq.saturating_sub(last.seq + 1);
        let after = (last.seq != 0).then_some(last.boot_ns);
        *last = Last { seq: header.seq.max(last.seq), boot_ns: header.boot_ns, missing: last.missing + missing };
        (missing != 0).then(|| self.count_lost(cpu, kind, missing, after, Some(header.boot_ns)))
    }

    /// Returns records that are missing without a later record that shows the gap. Returns nothing while records are
    /// pending.
    pub fn unnoticed(&mut self, stats: &[CpuStats]) -> Vec<Lost> {
        if self.in_flight(stats) == 0 { self.tail(stats) } else { Vec::new() }
    }

    /// Returns records that are missing at the end: the kernel side numbered them, and they never arrived.
    pub fn tail(&mut self, stats: &[CpuStats]) -> Vec<Lost> {
        let mut out = Vec::new();
        for (cpu, stats) in stats.iter().enumerate() {
            for (kind, &seq) in stats.seq.iter().enumerate() {
                let Some(last) = self.slot(cpu, kind) else { continue };
                let missing = seq.saturating_sub(last.seq);
                let after = (last.seq != 0).then_some(last.boot_ns);
                last.seq = last.seq.max(seq);
                last.missing += missing;
                if missing != 0 {
                    out.push(self.count_lost(cpu, kind, missing, after, None));
                }
            }
        }
        out
    }

    /// Returns how many numbered records are still pending: neither seen nor dropped by a full ring.
    pub fn in_flight(&mut self, stats: &[CpuStats]) -> u64 {
        let mut out = 0;
        for (cpu, stats) in stats.iter().enumerate() {
            for (kind, (&given, &lost)) in stats.seq.iter().zip(&stats.lost).enumerate() {
                let Some(last) = self.slot(cpu, kind) else { continue };
                // Records lost after the last one seen will not arrive.
                let lost_since = lost.saturating_sub(last.missing);
                out += given.saturating_sub(last.seq).saturating_sub(lost_since);
            }
        }
        out
    }

    /// Reports events that the kernel skipped. They were never numbered.
    pub fn skipped(&mut self, missing: &SkippedEvents) -> Lost {
        let lost = self.count_lost(0, missing.kind, missing.count, missing.after_ns, Some(missing.before_ns));
        Lost { reason: LostReason::Skipped, passed_over: missing.count, ..lost }
    }

    fn slot(&mut self, cpu: usize, kind: usize) -> Option<&mut Last> {
        if self.cpus.len() <= cpu {
            self.cpus.resize(cpu + 1, [Last::default(); KINDS]);
        }
        self.cpus[cpu].get_mut(kind)
    }

    fn count_lost(&mut self, cpu: usize, kind: usize, missing: u64, after: Option<u64>, before: Option<u64>) -> Lost {
        self.lost += missing;
        let of = |wanted: u16| if kind == usize::from(wanted) { missing } else { 0 };
        Lost {
            reason: LostReason::Ring,
            cpu: cpu as u32,
            total: missing,
            forks: of(KIND_FORK),
            execs: of(KIND_EXEC),
            exits: of(KIND_EXIT),
            signals: of(KIND_SIGNAL),
            exec_failures: of(KIND_EXEC_FAILED) + of(KIND_EXECAT_FAILED),
            cgroups: of(KIND_CGROUP),
            reaps: of(KIND_REAP),
            passed_over: 0,
            after_boot_ns: after,
            before_boot_ns: before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cpu: u16, kind: u16, seq: u64) -> Header {
        Header { cpu, kind, seq, boot_ns: 1000 * seq, ..Header::default() }
    }

    #[test]
    fn a_gap_is_reported_at_its_place_and_by_kind() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.observe(&header(0, KIND_FORK, 1)), None);
        assert_eq!(gaps.observe(&header(1, KIND_FORK, 1)), None);
        assert_eq!(gaps.observe(&header(0, KIND_EXIT, 1)), None);
        let lost = gaps.observe(&header(0, KIND_FORK, 5)).unwrap();
        assert_eq!((lost.cpu, lost.total, lost.forks, lost.execs, lost.exits), (0, 3, 3, 0, 0));
        assert_eq!((lost.after_boot_ns, lost.before_boot_ns), (Some(1000), Some(5000)));
        assert_eq!(gaps.observe(&header(0, KIND_FORK, 6)), None);
        assert_eq!(gaps.lost(), 3);
    }

    #[test]
    fn the_first_records_can_be_missing() {
        let lost = Gaps::default().observe(&header(3, KIND_EXEC, 8)).unwrap();
        assert_eq!((lost.cpu, lost.execs, lost.after_boot_ns), (3, 7, None));
    }

    #[test]
    fn a_gap_without_a_later_record_is_found_at_the_end() {
        let mut gaps = Gaps::default();
        gaps.observe(&header(0, KIND_EXIT, 1));
        let mut stats = [CpuStats::default(); 2];
        stats[0].seq[usize::from(KIND_EXIT)] = 4;
        stats[0].lost[usize::from(KIND_EXIT)] = 2;
        stats[1].seq[usize::from(KIND_FORK)] = 2;
        stats[1].lost[usize::from(KIND_FORK)] = 2;
        assert_eq!(gaps.in_flight(&stats), 1);
        gaps.observe(&header(0, KIND_EXIT, 2));
        assert_eq!(gaps.in_flight(&stats), 0);
        let tail = gaps.tail(&stats);
        assert_eq!(
            tail.iter().map(|lost| (lost.cpu, lost.exits, lost.forks)).collect::<Vec<_>>(),
            [(0, 2, 0), (1, 0, 2)]
        );
        assert!(gaps.tail(&stats).is_empty());
    }

    #[test]
    fn skipped_events_count_as_lost() {
        let mut gaps = Gaps::default();
        let missing = SkippedEvents { kind: KIND_EXEC.into(), count: 2, after_ns: Some(5), before_ns: 9 };
        let lost = gaps.skipped(&missing);
        assert_eq!((lost.total, lost.execs, lost.passed_over), (2, 2, 2));
        assert_eq!((lost.after_boot_ns, lost.before_boot_ns), (Some(5), Some(9)));
        assert_eq!(gaps.lost(), 2);
    }

    #[test]
    fn an_unknown_kind_is_ignored() {
        assert_eq!(Gaps::default().observe(&header(0, 900, 7)), None);
    }
}
