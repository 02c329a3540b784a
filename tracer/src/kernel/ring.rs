//! The ring buffer's reading end.

use std::io;
use std::task::{Context, Poll, ready};

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::load::{LoadError, refused};

/// Records of the kernel side, in the order in which it reserved them.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    pub(super) fn new(map: Map) -> Result<Self, LoadError> {
        let ring = RingBuf::try_from(map).map_err(|error| refused("the ring buffer", &error))?;
        // SAFETY: the map owns its descriptor, is owned by the `AsyncFd`, and always names the same one.
        let ring = unsafe { AsyncFd::register(ring) };
        Ok(Self { ring: ring.map_err(|error| refused("the ring buffer", &error))? })
    }

    /// Waits until there is something to read. May wake for nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        // Readiness is edge-triggered: it is cleared here, before the records are read, so that
        // one that arrives in between wakes us again.
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// The same as a poll.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.ring.poll_read_ready(cx))?;
        guard.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Hands over up to `most` records that are there now, each as it lies in the ring. Returns how many.
    pub fn drain(&mut self, most: usize, mut record: impl FnMut(&[u8])) -> usize {
        let ring = self.ring.get_mut();
        for taken in 0..most {
            match ring.next() {
                Some(item) => record(&item),
                None => return taken,
            }
        }
        most
    }
}
