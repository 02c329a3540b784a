//! Finds the culprit of a storm: counts the events below each process in the current second.

use crate::analysis::lineage::Lineage;
use crate::event::id::ProcessId;

/// The share of events that a culprit has at least, of those below the first process that exceeded the rate.
const SHARE: (u64, u64) = (2, 3);

/// The events of a process and its descendants.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// The storm it was forked in.
    pub(super) storm: Option<u64>,
    /// Events of it and its descendants in `second`.
    events: u64,
    second: u64,
}

impl Below {
    /// Returns the note of a new process.
    pub(super) fn new(storm: Option<u64>) -> Self {
        Self { storm, ..Self::default() }
    }
}

impl Lineage<Below> {
    /// Returns the storm a process was forked in.
    pub(super) fn storm_of(&self, id: ProcessId) -> Option<u64> {
        self.note(id)?.storm
    }

    /// Counts an event for a process and its ancestors.
    ///
    /// If one of them exceeds `most` in this second, returns the culprit and the number of events. The culprit is the
    /// lowest living process with a large enough share. Everything descends from init, so init counts only its children.
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
        let is_culprit = |id: &&ProcessId| {
            let node = self.note(**id).filter(|_| self.process(**id).is_some());
            node.is_some_and(|node| node.events * SHARE.1 >= total * SHARE.0)
        };
        line.iter().find(is_culprit).map(|&id| (id, total))
    }

    /// Subtracts the events of a culprit from its ancestors: the storm reports them already.
    pub(super) fn discount(&mut self, culprit: ProcessId) {
        let Some((reported, second)) = self.note(culprit).map(|node| (node.events, node.second)) else { return };
        let mut line = Vec::new();
        self.line(culprit, &mut line);
        for id in &line {
            if let Some(node) = self.note_mut(*id).filter(|node| node.second == second) {
                node.events = node.events.saturating_sub(reported);
            }
        }
    }
}
