//! Names, arguments and ids of running processes can change without an event (`prctl`, `setproctitle`, `setuid`). For live
//! views they are read from `/proc` again, by a thread of its own: the memory of a process may not answer.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::kernel::hierarchy::Hierarchy;
use crate::proc::{self, Seed};
use crate::table::{ProcessRef, Table};

/// Processes that are read in one interval, at some 60 µs each. Of more, each has its turn.
const MOST: usize = 512;

/// The answer is looked for after this time first, in nanoseconds, and ever more seldom from then on.
const LOOK_NS: u64 = 20_000_000;

/// Reads processes again, interval by interval.
pub(super) struct Refresh {
    every_ns: u64,
    /// When to ask, or to look for the answer.
    due_ns: u64,
    /// How long the answer is waited for until the next look; none while nothing is requested.
    patience_ns: Option<u64>,
    /// The last pid that was requested.
    last: u32,
    asks: SyncSender<Vec<u32>>,
    answers: Receiver<Vec<Seed>>,
    /// What was read, until all records from before are applied.
    found: Vec<Seed>,
}

impl Refresh {
    /// Begins with the next interval. None if there can be no thread.
    pub(super) fn start(every: Duration, hierarchy: Hierarchy) -> Option<Self> {
        let (asks, asked) = sync_channel::<Vec<u32>>(1);
        let (answer, answers) = sync_channel(1);
        let read = move || {
            for pids in asked {
                let utc_minus_boot_ns = clock::utc_minus_boot_ns();
                let read = |pid| proc::read(pid, utc_minus_boot_ns, &hierarchy);
                if answer.send(pids.into_iter().filter_map(read).collect()).is_err() {
                    return;
                }
            }
        };
        let started = thread::Builder::new().name("refresh".into()).spawn(read);
        if let Err(error) = started {
            tracing::warn!("{error}: names and users that change are not shown");
            return None;
        }
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let due_ns = clock::boot_ns().saturating_add(every_ns);
        Some(Self { every_ns, due_ns, patience_ns: None, last: 0, asks, answers, found: Vec::new() })
    }

    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// What was read by now. To be taken when all that had happened before is in the table.
    pub(super) fn take_found(&mut self) -> Vec<Seed> {
        std::mem::take(&mut self.found)
    }

    /// Asks if it is time, or looks for the answer.
    pub(super) fn tick(&mut self, now: u64, table: &Table) {
        if now < self.due_ns {
            return;
        }
        let Some(patience_ns) = self.patience_ns else {
            self.ask(now, table);
            return;
        };
        match self.answers.try_recv() {
            Ok(found) => {
                self.found = found;
                self.patience_ns = None;
                self.due_ns = now.saturating_add(self.every_ns);
            }
            Err(TryRecvError::Empty) => {
                self.patience_ns = Some((2 * patience_ns).min(self.every_ns.max(LOOK_NS)));
                self.due_ns = now + patience_ns;
            }
            Err(TryRecvError::Disconnected) => self.due_ns = u64::MAX,
        }
    }

    fn ask(&mut self, now: u64, table: &Table) {
        let pids = next(table, self.last);
        self.last = pids.last().copied().unwrap_or_default();
        self.patience_ns = Some(2 * LOOK_NS);
        self.due_ns = now + LOOK_NS;
        if self.asks.try_send(pids).is_err() {
            self.due_ns = u64::MAX;
        }
    }
}

/// The pids whose turn it is, in ascending order after the last one, and from the beginning again.
fn next(table: &Table, last: u32) -> Vec<u32> {
    // A kernel thread gets its name right after its fork, and keeps it.
    let may_change = |process: &ProcessRef<'_>| !process.is_kthread() || process.comm() == Some("kthreadd");
    let mut pids: Vec<u32> = table.living().filter(may_change).map(|process| process.pid()).collect();
    pids.sort_unstable();
    let first = pids.partition_point(|&pid| pid <= last);
    pids.rotate_left(first);
    pids.truncate(MOST);
    pids
}
