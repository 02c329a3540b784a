//! The ring buffer's reading end.
//!
//! Wake-ups are dear (an interrupt each, on the CPU of whom we watch), so under load there are none: after each batch the reader
//! looks again by itself a moment later, and a longer moment while there is something each time. Once it finds nothing it says
//! that it will sleep, and the next record wakes it at once. So a storm costs some three hundred looks a second, a single event
//! is handled at once, and idleness costs nothing. What follows a single event, a few within some milliseconds, is looked
//! for at quick pauses, of which there are so many in a second and no more.

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

/// Pause before the first look after something was found.
const FIRST_PAUSE: Duration = Duration::from_micros(1_500);

/// The longest pause, reached while each look finds something.
const LONGEST_PAUSE: Duration = Duration::from_micros(3_500);

/// Pause after a look that found no more than so many records, while there are such pauses left: so that a line is out within a
/// millisecond when little happens.
const QUICK_PAUSE: Duration = Duration::from_micros(300);
const FEW: usize = 4;

/// There may be so many quick pauses in a row, and one more for each such time.
const QUICK_PAUSES: u32 = 48;
const QUICK_PAUSE_EACH: Duration = Duration::from_millis(2);

/// A look that finds more records than this makes the next pause a short one again: the ring must not fill.
const MANY: usize = 512;

/// A record that was being written when we said that we will sleep may not have seen it; it is there by then,
/// unless the writer's own (virtual) CPU stood still.
const LAST_LOOKS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// How far the reader is on its way to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Records were found a moment ago: there may be more after a pause.
    Busy,
    /// The pause is over; nothing was found since.
    Looked,
    /// It is said that the next record is to wake us; one more look.
    Announced,
    /// Until woken, or until the next of the last looks.
    Asleep(usize),
}

/// The ring's map, whose descriptor tells when it is no longer empty.
struct Descriptor(MapData);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_fd().as_raw_fd()
    }
}

/// What was taken from the ring at once.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// So many records.
    pub records: usize,
    /// There was no more.
    pub all: bool,
}

/// Records of the kernel side, in the order in which it reserved them.
pub struct Ring {
    map: AsyncFd<Descriptor>,
    records: Records,
    asleep: Asleep,
    rest: Rest,
    pause: Pause,
    /// How long the last pause between two looks was; none since we were woken.
    length: Duration,
    /// Records found since.
    found: usize,
    quick: Allowance,
}

/// How many quick pauses are left, by when.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    counted: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: QUICK_PAUSES, counted: now }
    }

    /// Takes one, if there is one.
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
    /// From its map, which has room for so many bytes.
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
        Ok(Self { map, records, asleep, rest: Rest::Busy, pause, length: Duration::ZERO, found: 0, quick })
    }

    /// True until a look after a pause has found nothing.
    pub fn is_busy(&self) -> bool {
        self.rest == Rest::Busy
    }

    /// Waits until it is worth looking. May return without a reason.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.rest {
            Rest::Busy => {
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
                self.rest = Rest::Looked;
                Poll::Ready(Ok(()))
            }
            Rest::Looked => {
                self.asleep.announce();
                self.rest = Rest::Announced;
                Poll::Ready(Ok(()))
            }
            Rest::Announced => {
                self.rest = Rest::Asleep(0);
                self.poll_asleep(cx, 0)
            }
            Rest::Asleep(looks) => self.poll_asleep(cx, looks),
        }
    }

    fn poll_asleep(&mut self, cx: &mut Context<'_>, looks: usize) -> Poll<io::Result<()>> {
        // Readiness is edge-triggered: it is cleared before the records are read, so that one that
        // arrives in between wakes us again.
        if let Poll::Ready(ready) = self.map.poll_read_ready(cx) {
            ready?.clear_ready();
            // Whoever woke us has taken our wish to be woken with it. Its record may not be readable yet: one that was
            // reserved before is still being written, and will not wake us again.
            self.rest = Rest::Busy;
            self.pause.give_up();
            self.length = Duration::ZERO;
            return Poll::Ready(Ok(()));
        }
        let Some(&length) = LAST_LOOKS.get(looks) else { return Poll::Pending };
        ready!(self.pause.poll(cx, length))?;
        self.rest = Rest::Asleep(looks + 1);
        Poll::Ready(Ok(()))
    }

    /// Hands over the records that are there now, each as it lies in the ring, for as long as there are and `record` says
    /// that it takes one more.
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
        self.records.give_back();
        if taken.records != 0 {
            if matches!(self.rest, Rest::Asleep(_)) {
                // The pause that is under way is one between last looks; and whoever wrote them has woken us.
                self.pause.give_up();
                self.length = Duration::ZERO;
            }
            self.rest = Rest::Busy;
            self.found += taken.records;
        }
        taken
    }

    /// Shows all that are there now, and leaves them there.
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
