//! Records of the ring on their way to the table.

use crate::event::Lost;
use crate::kernel::ring::Ring;
use crate::record::Record;
use crate::record::decode::decode;
use crate::record::gaps::Gaps;
use crate::table::merge::Pending;

/// Decodes records and finds the gaps between them.
pub(super) struct Intake {
    pub(super) gaps: Gaps,
    /// When tracing ends: later events are not reported. Far away while it goes on.
    pub(super) end_ns: u64,
    /// What was lost before records from after the end.
    pub(super) late: Vec<Lost>,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self { gaps: Gaps::default(), end_ns: u64::MAX, late: Vec::new() }
    }

    /// A record, and what was lost right before it. None if it is not understood, or from after the end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<(Option<Lost>, Record)> {
        match decode(bytes) {
            Ok(record) => {
                let lost = self.gaps.observe(record.header());
                if record.header().boot_ns > self.end_ns {
                    self.late.extend(lost);
                    return None;
                }
                Some((lost, record))
            }
            Err(error) => {
                tracing::warn!("a record of the kernel side is not understood: {error}");
                None
            }
        }
    }

    /// What the records in the ring say, which stay there, and the gaps as they will be after them. However many there are:
    /// taken out all at once they would be many times as large.
    pub(super) fn look_ahead(&self, ring: &mut Ring) -> (Pending, Gaps) {
        let (mut pending, mut gaps) = (Pending::default(), self.gaps.clone());
        ring.look_ahead(|bytes| {
            if let Ok(record) = decode(bytes) {
                gaps.observe(record.header());
                pending.note(&record);
            }
        });
        (pending, gaps)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use tracer_common::record::{KIND_REAP, Reap};

    use super::*;

    fn record(seq: u64, boot_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32_ne(size_of::<Reap>() as u32);
        bytes.put_u16_ne(KIND_REAP);
        bytes.put_u16_ne(0);
        bytes.put_u64_ne(seq);
        bytes.put_u64_ne(boot_ns);
        bytes.resize(size_of::<Reap>(), 0);
        bytes
    }

    #[test]
    fn what_happened_after_the_end_is_not_told_but_what_was_lost_is() {
        let mut intake = Intake::new();
        assert!(intake.take(&record(1, 10)).is_some());
        intake.end_ns = 20;
        assert!(intake.take(&record(2, 20)).is_some_and(|(lost, _)| lost.is_none()), "it was still on");
        assert!(intake.take(&record(3, 21)).is_none() && intake.late.is_empty());
        assert!(intake.take(&record(6, 22)).is_none());
        assert_eq!(intake.late.iter().map(|lost| lost.reaps).collect::<Vec<_>>(), [2]);
        assert!(intake.take(&record(7, 15)).is_some(), "written late, not too late");
        assert_eq!(intake.gaps.lost(), 2);
    }

    #[test]
    fn what_is_not_understood_is_counted() {
        let mut intake = Intake::new();
        assert!(intake.take(b"?").is_none());
    }
}
