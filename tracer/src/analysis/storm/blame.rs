//! Who is to blame: how many events there were below each process in this second.

use crate::analysis::lineage::Lineage;
use crate::event::id::ProcessId;

/// A culprit has at least so much of what happened below the first that passed the rate.
const SHARE: (u64, u64) = (2, 3);

/// What is noted of a process.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// The storm it was born in.
    pub(super) storm: Option<u64>,
    /// Events in `second`, of it and of all below it.
    events: u64,
    second: u64,
}

impl Below {
    /// Of one that is born, in a storm or not.
    pub(super) fn born(storm: Option<u64>) -> Self {
        Self { storm, ..Self::default() }
    }
}

impl Lineage<Below> {
    /// The storm it was born in.
    pub(super) fn storm_of(&self, id: ProcessId) -> Option<u64> {
        self.note(id)?.storm
    }

    /// Counts an event of the first of a line for all of it. If one of them passes `most` in this second, says who is
    /// to blame and how many there were: the lowest living one with the better part of it all.
    ///
    /// Everything descends from init, which is to blame only for what it spawns itself.
    pub(super) fn count(&mut self, line: &[ProcessId], second: u64, most: u64) -> Option<(ProcessId, u64)> {
        let counted = line.iter().enumerate().position(|(i, &id)| i > 1 && self.is_root(id)).unwrap_or(line.len());
        let line = &line[..counted];
        let mut total = 0;
        for id in line {
            let Some(node) = self.note_mut(*id) else { continue };
            if node.second < second {
                (node.second, node.events) = (second, 0);
            }
            node.events += 1;
            total = node.events.max(total);
        }
        if total <= most {
            return None;
        }
        let to_blame = |id: &&ProcessId| {
            let node = self.note(**id).filter(|_| self.process(**id).is_some());
            node.is_some_and(|node| node.events * SHARE.1 >= total * SHARE.0)
        };
        line.iter().find(to_blame).map(|&id| (id, total))
    }

    /// What was counted for a culprit is told as a storm: it is no reason to blame those above as well.
    pub(super) fn discount(&mut self, culprit: ProcessId) {
        let Some((told, second)) = self.note(culprit).map(|node| (node.events, node.second)) else { return };
        let mut line = Vec::new();
        self.line(culprit, &mut line);
        for id in &line {
            if let Some(node) = self.note_mut(*id).filter(|node| node.second == second) {
                node.events = node.events.saturating_sub(told);
            }
        }
    }
}
