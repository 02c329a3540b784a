//! Handles events while the reader of the output is behind. Pure.

use crate::event::time::Timestamp;
use crate::event::{Detail, Dropped, Event, Kind};

/// How events are handled while the reader of the output is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum OnSlow {
    /// Wait for the reader; when the ring buffer is full, further events are lost
    #[default]
    Block,
    /// Drop events; a `dropped` line in their place counts them
    Drop,
    /// Sum up spawned processes in `storm` lines, and drop other events
    Collapse,
}

/// Rate above which a storm begins while the reader is behind ([`OnSlow::Collapse`]), in events per second.
pub const COLLAPSE_RATE: u64 = 10;

/// Tracks whether the reader is behind, and counts the dropped events.
#[derive(Debug, Default)]
pub struct Slow {
    behind: bool,
    dropped: Dropped,
    /// Time of the last dropped event, until a `dropped` line counts it.
    last: Option<Timestamp>,
    total: u64,
}

impl Slow {
    /// Takes in the numbers of bytes that wait and that may wait.
    ///
    /// A reader that is behind stays so until half of the capacity is free. Otherwise every other event would be dropped.
    pub fn update(&mut self, waiting: u64, capacity: u64) {
        self.behind = if self.behind { waiting > capacity / 2 } else { waiting >= capacity };
    }

    /// Returns true while the reader is behind.
    pub const fn is_behind(&self) -> bool {
        self.behind
    }

    /// Returns the number of dropped events so far.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Counts a dropped event.
    pub fn drop_event(&mut self, event: &Event) {
        let Dropped { total, forks, execs, exits, after_boot_ns, before_boot_ns } = &mut self.dropped;
        self.total += 1;
        *total += 1;
        match event.kind() {
            Kind::Fork => *forks += 1,
            Kind::Exec => *execs += 1,
            Kind::Exit => *exits += 1,
            _ => {}
        }
        *after_boot_ns = after_boot_ns.or(event.boot_ns);
        *before_boot_ns = event.boot_ns.or(*before_boot_ns);
        self.last = Some(event.time);
    }

    /// Returns true if there are dropped events that no line reports yet.
    pub const fn has_dropped(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the `dropped` line if the reader has caught up.
    pub fn line_if_caught_up(&mut self) -> Option<Event> {
        if self.behind { None } else { self.line() }
    }

    /// Returns the `dropped` line that replaces the dropped events, if there are any.
    pub fn line(&mut self) -> Option<Event> {
        let time = self.last.take()?;
        Some(Event::new(Detail::Dropped(Box::new(std::mem::take(&mut self.dropped))), time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_events_are_reported_once_with_their_interval() {
        let mut slow = Slow::default();
        slow.update(99, 100);
        assert!(!slow.is_behind() && slow.line().is_none());
        slow.update(100, 100);
        for (n, kind) in [Kind::Fork, Kind::Exec, Kind::Reparent, Kind::Exit, Kind::Fork].into_iter().enumerate() {
            slow.update(60, 100);
            assert!(slow.is_behind(), "half of the capacity must be free");
            let boot_ns = Some(10 + n as u64);
            slow.drop_event(&Event { boot_ns, ..Event::new(kind.into(), Timestamp(n as i64)) });
        }
        slow.update(50, 100);
        assert!(!slow.is_behind());
        let line = slow.line().unwrap();
        let (after_boot_ns, before_boot_ns) = (Some(10), Some(14));
        let dropped = Dropped { total: 5, forks: 2, execs: 1, exits: 1, after_boot_ns, before_boot_ns };
        assert_eq!((line.time, line.detail), (Timestamp(4), Detail::Dropped(dropped.into())));
        assert!(slow.line().is_none());
        assert_eq!(slow.total(), 5);
    }
}
