//! How events are handled while the reader of the output is behind: pure.

use crate::event::time::Timestamp;
use crate::event::{Detail, Dropped, Event, Kind};

/// What to do when the reader of the output is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum OnSlow {
    /// Wait for it; events for which the ring has no room meanwhile are lost
    #[default]
    Block,
    /// Leave events out; a `dropped` line in their place counts them
    Drop,
    /// Sum up spawned processes in `storm` lines, and leave out what is in no storm
    Collapse,
}

/// Events a second, of one process and its descendants, that are no storm while the reader is behind ([`OnSlow::Collapse`]).
pub const COLLAPSE_RATE: u64 = 10;

/// Follows whether the reader is behind, and counts the events that are left out meanwhile.
#[derive(Debug, Default)]
pub struct Slow {
    behind: bool,
    dropped: Dropped,
    /// When the last of them happened, until the line is written that counts them.
    last: Option<Timestamp>,
    total: u64,
}

impl Slow {
    /// Takes in how many bytes wait for the reader, and how many may. A reader that is behind stays so until half of the room
    /// is free again; otherwise every other event would be left out.
    pub fn look(&mut self, waiting: u64, room: u64) {
        self.behind = if self.behind { waiting > room / 2 } else { waiting >= room };
    }

    /// True while the reader is behind.
    pub const fn is_behind(&self) -> bool {
        self.behind
    }

    /// Events that were left out so far.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Leaves an event out.
    pub fn leave_out(&mut self, event: &Event) {
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

    /// True while events were left out that no line reports yet.
    pub const fn has_left_out(&self) -> bool {
        self.last.is_some()
    }

    /// The line, if the reader is no longer behind.
    pub fn line_if_caught_up(&mut self) -> Option<Event> {
        if self.behind { None } else { self.line() }
    }

    /// The line that takes the place of the events that were left out, if any were.
    pub fn line(&mut self) -> Option<Event> {
        let time = self.last.take()?;
        Some(Event::new(Detail::Dropped(Box::new(std::mem::take(&mut self.dropped))), time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once_with_its_interval() {
        let mut slow = Slow::default();
        slow.look(99, 100);
        assert!(!slow.is_behind() && slow.line().is_none());
        slow.look(100, 100);
        for (n, kind) in [Kind::Fork, Kind::Exec, Kind::Reparent, Kind::Exit, Kind::Fork].into_iter().enumerate() {
            slow.look(60, 100);
            assert!(slow.is_behind(), "half of it is to be free again");
            let boot_ns = Some(10 + n as u64);
            slow.leave_out(&Event { boot_ns, ..Event::new(kind.into(), Timestamp(n as i64)) });
        }
        slow.look(50, 100);
        assert!(!slow.is_behind());
        let line = slow.line().unwrap();
        let (after_boot_ns, before_boot_ns) = (Some(10), Some(14));
        let dropped = Dropped { total: 5, forks: 2, execs: 1, exits: 1, after_boot_ns, before_boot_ns };
        assert_eq!((line.time, line.detail), (Timestamp(4), Detail::Dropped(dropped.into())));
        assert!(slow.line().is_none());
        assert_eq!(slow.total(), 5);
    }
}
