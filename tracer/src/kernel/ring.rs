//! The ring buffer's reading end.
//!
//! Wake-ups are dear (an interrupt each), so under load there are none: after each batch the reader looks
//! again by itself a moment later, and a longer moment while there is something each time. Once it finds nothing it says that
//! it will sleep, and the next record wakes it at once. So a storm costs some three hundred looks a second, a single event is
//! handled at once, and idleness costs nothing.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aya::maps::{Map, MapData};
use nix::unistd::{SysconfVar, sysconf};
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use super::load::{LoadError, refused};
use super::records::Records;
use super::shared::Asleep;

/// Pause before the first look after something was found.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause, reached while each look finds something. The timer may be a millisecond late.
const LONGEST_PAUSE: Duration = Duration::from_millis(3);

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
    /// The end of the pause that is under way.
    pause: Option<Pin<Box<Sleep>>>,
    /// How long the last pause between two looks was; none since we were woken.
    length: Duration,
    /// Records found since.
    found: usize,
}

impl Ring {
    /// From its map, which has room for so many bytes.
    pub(super) fn new(map: Map, bytes: u32, asleep: Asleep) -> Result<Self, LoadError> {
        let Map::RingBuf(map) = map else { return Err(refused("the ring buffer", &"the map is none")) };
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| usize::try_from(page).ok());
        let page = page.ok_or_else(|| refused("the ring buffer", &"the size of a page is not known"))?;
        let records = Records::map(map.fd().as_fd(), bytes as usize, page)?;
        // SAFETY: the map owns its descriptor, is owned by the `AsyncFd`, and always names the same one.
        let map = unsafe { AsyncFd::register(Descriptor(map)) };
        let map = map.map_err(|error| refused("the ring buffer", &error))?;
        Ok(Self { map, records, asleep, rest: Rest::Busy, pause: None, length: Duration::ZERO, found: 0 })
    }

    /// True until a look after a pause has found nothing.
    pub fn is_busy(&self) -> bool {
        self.rest == Rest::Busy
    }

    /// Waits until it is worth looking. May return for nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// The same as a poll.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.rest {
            Rest::Busy => {
                if self.pause.is_none() {
                    self.length = if self.found > MANY {
                        FIRST_PAUSE
                    } else {
                        (2 * self.length).clamp(FIRST_PAUSE, LONGEST_PAUSE)
                    };
                    self.found = 0;
                }
                ready!(self.poll_pause(cx, self.length));
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
            self.pause = None;
            self.length = Duration::ZERO;
            return Poll::Ready(Ok(()));
        }
        let Some(&length) = LAST_LOOKS.get(looks) else { return Poll::Pending };
        ready!(self.poll_pause(cx, length));
        self.rest = Rest::Asleep(looks + 1);
        Poll::Ready(Ok(()))
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>, length: Duration) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(length)));
        ready!(pause.as_mut().poll(cx));
        self.pause = None;
        Poll::Ready(())
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
            self.rest = Rest::Busy;
            self.found += taken.records;
        }
        taken
    }

    /// The same for all that are there. Returns how many.
    pub fn drain(&mut self, mut record: impl FnMut(&[u8])) -> usize {
        let all = |bytes: &[u8]| {
            record(bytes);
            true
        };
        self.drain_while(all).records
    }
}
