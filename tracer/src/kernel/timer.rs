//! A timer with microsecond precision. tokio's own timers have a precision of a millisecond, and wait up to one longer.

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

/// A timer that is set once per pause.
pub(super) struct Pause {
    timer: AsyncFd<Descriptor>,
    /// True while a pause is in progress.
    set: bool,
}

impl Pause {
    /// Creates the timer. Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor, is owned by the `AsyncFd`, and always names the same one.
        let timer = unsafe { AsyncFd::register(Descriptor(timer)) };
        Ok(Self { timer: timer.map_err(io::Error::from)?, set: false })
    }

    /// Begins a pause of this length unless one is in progress, and waits for its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, length: Duration) -> Poll<io::Result<()>> {
        if !self.set {
            self.timer.get_ref().0.set(Expiration::OneShot(length.into()), TimerSetTimeFlags::empty())?;
            self.set = true;
        }
        loop {
            let mut ready = ready!(self.timer.poll_read_ready(cx))?;
            // Readiness is cleared before the read, so that an expiry in between wakes us again.
            ready.clear_ready();
            match self.timer.get_ref().0.wait() {
                // It was ready because a cancelled pause expired.
                Err(Errno::EAGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(()) => {
                    self.set = false;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Returns true while a pause is in progress.
    pub(super) const fn is_set(&self) -> bool {
        self.set
    }

    /// Cancels the pause in progress. The next pause sets the timer again.
    pub(super) fn cancel(&mut self) {
        self.set = false;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_cancelled_pause_does_not_shorten_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pause = Pause::new().unwrap();
            let short = Duration::from_micros(200);
            // It begins, expires, and nothing waits for it.
            assert!(poll_fn(|cx| Poll::Ready(pause.poll(cx, short).is_pending())).await);
            std::thread::sleep(10 * short);
            tokio::task::yield_now().await;
            pause.cancel();
            for length in [Duration::from_millis(20), short] {
                let began = Instant::now();
                poll_fn(|cx| pause.poll(cx, length)).await.unwrap();
                assert!(began.elapsed() >= length && !pause.is_set());
            }
        });
    }
}
