//! The reader of the ring buffer.
//!
//! A wake-up is expensive: an interrupt on the CPU of the traced process. So under load there are none. After each batch the
//! reader polls again after a pause, and the pause grows while each poll finds records. Once a poll finds nothing, the reader
//! announces that it will sleep, and the next record wakes it at once. So a storm costs about three hundred polls a second. A
//! single event is handled at once, and idleness costs nothing. After a single event, a few more often follow within some
//! milliseconds. They are polled at quick pauses, whose number per second is limited.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData};
use nix::unistd::{SysconfVar, sysconf};
use tokio::io::unix::AsyncFd;

use super::error::{LoadError, refused};
use super::mmap::Asleep;
use super::records::Records;
use super::timer::Pause;

/// Pause before the first poll after records were found.
const FIRST_PAUSE: Duration = Duration::from_micros(1_500);

/// The longest pause, reached while each poll finds records.
const LONGEST_PAUSE: Duration = Duration::from_micros(3_500);

/// Pause after a poll that found at most [`FEW`] records, while quick pauses are left. With it a line is written within a
/// millisecond when little happens.
const QUICK_PAUSE: Duration = Duration::from_micros(300);
const FEW: usize = 4;

/// Largest number of quick pauses in a row.
const QUICK_PAUSES: u32 = 48;

/// Time after which one more quick pause is allowed.
const QUICK_PAUSE_EACH: Duration = Duration::from_millis(2);

/// A poll that finds more records than this makes the next pause short again: the ring must not fill.
const MANY: usize = 512;

/// Polls after the announcement of sleep. A record that was being written at that time may not wake us. It is complete by
/// one of these polls, unless the writer's (virtual) CPU stood still.
const LAST_POLLS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// The state of the reader between records and sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The last poll found records. The next one comes after a pause.
    Busy,
    /// The pause is over, and no records were found since.
    Polled,
    /// Sleep is announced: the next record will wake us. One more poll follows.
    Announced,
    /// The reader waits for a wake-up or for the next of the last polls.
    Asleep(usize),
}

/// The ring's map. Its descriptor becomes readable when the ring is no longer empty.
struct Descriptor(MapData);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_fd().as_raw_fd()
    }
}

/// The result of one read of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Number of records.
    pub records: usize,
    /// True if the ring had no more.
    pub all: bool,
}

/// The records of the kernel side, in the order of their reservation.
pub struct Ring {
    map: AsyncFd<Descriptor>,
    records: Records,
    asleep: Asleep,
    phase: Phase,
    pause: Pause,
    /// Length of the last pause between two polls, zero after a wake-up.
    length: Duration,
    /// Records found since that pause.
    found: usize,
    quick: Allowance,
}

/// The number of quick pauses that are left at a time.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    counted: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: QUICK_PAUSES, counted: now }
    }

    /// Takes one if one is left.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).as_nanos() / QUICK_PAUSE_EACH.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(passed).min(QUICK_PAUSES);
        self.counted = if self.left == QUICK_PAUSES { now } else { self.counted + passed * QUICK_PAUSE_EACH };
        let one = self.left != 0;
        self.left -= u32::from(one);
        one
    }
}

impl Ring {
    /// Creates the reader of a map with a capacity of `bytes`.
    pub(super) fn new(map: Map, bytes: u32, asleep: Asleep) -> Result<Self, LoadError> {
        let Map::RingBuf(map) = map else { return Err(refused("the ring buffer", "the map is none")) };
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| usize::try_from(page).ok());
        let page = page.ok_or_else(|| refused("the ring buffer", "the size of a page is not known"))?;
        let records = Records::map(map.fd().as_fd(), bytes as usize, page)?;
        // SAFETY: the map owns its descriptor, is owned by the `AsyncFd`, and always names the same one.
        let map = unsafe { AsyncFd::register(Descriptor(map)) };
        let map = map.map_err(|error| refused("the ring buffer", error))?;
        let pause = Pause::new().map_err(|error| refused("a timer", error))?;
        let quick = Allowance::new(Instant::now());
        Ok(Self { map, records, asleep, phase: Phase::Busy, pause, length: Duration::ZERO, found: 0, quick })
    }

    /// Returns true until a poll after a pause has found nothing.
    pub fn is_busy(&self) -> bool {
        self.phase == Phase::Busy
    }

    /// Waits until there may be records. May return early.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.phase {
            Phase::Busy => {
                if !self.pause.is_set() {
                    self.length = if self.found > MANY {
                        FIRST_PAUSE
                    } else if self.found <= FEW && self.quick.take(Instant::now()) {
                        QUICK_PAUSE
                    } else {
                        (2 * self.length).clamp(FIRST_PAUSE, LONGEST_PAUSE)
                    };
                    self.found = 0;
                }
                ready!(self.pause.poll(cx, self.length))?;
                self.phase = Phase::Polled;
                Poll::Ready(Ok(()))
            }
            Phase::Polled => {
                self.asleep.announce();
                self.phase = Phase::Announced;
                Poll::Ready(Ok(()))
            }
            Phase::Announced => {
                self.phase = Phase::Asleep(0);
                self.poll_asleep(cx, 0)
            }
            Phase::Asleep(polls) => self.poll_asleep(cx, polls),
        }
    }

    fn poll_asleep(&mut self, cx: &mut Context<'_>, polls: usize) -> Poll<io::Result<()>> {
        // Readiness is edge-triggered. It is cleared before the records are read, so that a record that arrives in between
        // wakes us again.
        if let Poll::Ready(ready) = self.map.poll_read_ready(cx) {
            ready?.clear_ready();
            // The wake-up has cleared our announcement. Its record may not be readable yet, because a record that was
            // reserved earlier is still being written. That one will not wake us again.
            self.phase = Phase::Busy;
            self.pause.cancel();
            self.length = Duration::ZERO;
            return Poll::Ready(Ok(()));
        }
        let Some(&length) = LAST_POLLS.get(polls) else { return Poll::Pending };
        ready!(self.pause.poll(cx, length))?;
        self.phase = Phase::Asleep(polls + 1);
        Poll::Ready(Ok(()))
    }

    /// Passes the records to `record` until the ring is empty or `record` returns false.
    pub fn drain_while(&mut self, mut record: impl FnMut(&[u8]) -> bool) -> Taken {
        let mut taken = Taken { records: 0, all: false };
        let mut go_on = true;
        while go_on && !taken.all {
            match self.records.next() {
                Some(bytes) => {
                    taken.records += 1;
                    go_on = record(bytes);
                }
                None => taken.all = true,
            }
        }
        self.records.release();
        if taken.records != 0 {
            if matches!(self.phase, Phase::Asleep(_)) {
                // The pause in progress is one between last polls, and the writer has cleared the announcement.
                self.pause.cancel();
                self.length = Duration::ZERO;
            }
            self.phase = Phase::Busy;
            self.found += taken.records;
        }
        taken
    }

    /// Passes all present records to `record` without removing them.
    pub fn look_ahead(&mut self, record: impl FnMut(&[u8])) {
        self.records.look_ahead(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_pauses_are_used_up_and_come_back_one_by_one() {
        let began = Instant::now();
        let mut quick = Allowance::new(began);
        assert!((0..QUICK_PAUSES).all(|_| quick.take(began)) && !quick.take(began));
        assert!(!quick.take(began + QUICK_PAUSE_EACH / 2));
        assert!(quick.take(began + QUICK_PAUSE_EACH) && !quick.take(began + QUICK_PAUSE_EACH));
        assert!((0..3).all(|_| quick.take(began + 4 * QUICK_PAUSE_EACH)));
        let later = began + Duration::from_secs(3600);
        assert!((0..QUICK_PAUSES).all(|_| quick.take(later)) && !quick.take(later), "never more in a row");
    }
}
