//! A pause to the microsecond: tokio's own timers are good to a millisecond, and wait up to one longer.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// The timer's descriptor.
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A timer that is set once for each pause.
pub(super) struct Pause {
    timer: AsyncFd<Descriptor>,
    /// A pause is under way.
    set: bool,
}

impl Pause {
    /// Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor, is owned by the `AsyncFd`, and always names the same one.
        let timer = unsafe { AsyncFd::register(Descriptor(timer)) };
        Ok(Self { timer: timer.map_err(io::Error::from)?, set: false })
    }

    /// Begins a pause of this length unless one is under way, and waits for its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, length: Duration) -> Poll<io::Result<()>> {
        if !self.set {
            self.timer.get_ref().0.set(Expiration::OneShot(length.into()), TimerSetTimeFlags::empty())?;
            self.set = true;
        }
        loop {
            let mut ready = ready!(self.timer.poll_read_ready(cx))?;
            // Cleared before it is read: an end that comes in between wakes us again.
            ready.clear_ready();
            match self.timer.get_ref().0.wait() {
                // It was ready for the end of one that was given up.
                Err(Errno::EAGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(()) => {
                    self.set = false;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// True while one is under way.
    pub(super) const fn is_set(&self) -> bool {
        self.set
    }

    /// Gives up the one that is under way. The next sets the timer anew.
    pub(super) fn give_up(&mut self) {
        self.set = false;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;

    #[test]
    fn one_that_is_given_up_does_not_shorten_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pause = Pause::new().unwrap();
            let short = Duration::from_micros(200);
            // Begun, over by itself, and never waited for.
            assert!(poll_fn(|cx| Poll::Ready(pause.poll(cx, short).is_pending())).await);
            std::thread::sleep(10 * short);
            tokio::task::yield_now().await;
            pause.give_up();
            for length in [Duration::from_millis(20), short] {
                let began = Instant::now();
                poll_fn(|cx| pause.poll(cx, length)).await.unwrap();
                assert!(began.elapsed() >= length && !pause.is_set());
            }
        });
    }
}
