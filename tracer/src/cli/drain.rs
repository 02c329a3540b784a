//! The end of a trace whose reader is slow: it is waited for, but not for ever.

use std::time::{Duration, Instant};

use super::stop::{self, LONGEST, LOOK};
use crate::pipeline::PipelineError;
use crate::sink::{Sink, Target};
use crate::view::units;

/// How long a reader may take nothing once tracer is to end.
const GRACE: Duration = Duration::from_millis(600);

/// Waits until the reader has taken all that was written. `told` is done when a signal says that tracer is to end. From then on this waits
/// only while the reader takes some, and not at all once `told` is done again.
pub(super) async fn deliver(sink: &dyn Sink, target: &Target, mut told: impl AsyncFnMut()) -> anyhow::Result<()> {
    let Some(backlog) = sink.backlog() else { return Ok(()) };
    let mut patience: Option<Patience> = None;
    loop {
        tokio::select! {
            biased;
            () = backlog.empty() => {
                backlog.error().map_err(PipelineError::Output)?;
                return Ok(());
            }
            () = told() => {
                if patience.is_some() {
                    break;
                }
                patience = Some(Patience::from_now(backlog.taken()));
            }
            () = tokio::time::sleep(LOOK), if patience.is_some() => {
                if patience.as_mut().is_some_and(|patience| patience.is_over(backlog.taken())) {
                    break;
                }
            }
        }
    }
    let left = backlog.left();
    anyhow::bail!(
        "{target} is not read: its reader did not take {left} bytes ({}), the last line (`bye`) among them; read on, or \
         write to a file with -o FILE",
        units::bytes(left)
    )
}

/// How long a reader is still waited for.
struct Patience {
    since: Instant,
    moved: Instant,
    taken: u64,
}

impl Patience {
    fn from_now(taken: u64) -> Self {
        let now = Instant::now();
        Self { since: now, moved: now, taken }
    }

    fn is_over(&mut self, taken: u64) -> bool {
        let now = Instant::now();
        if taken != self.taken {
            (self.taken, self.moved) = (taken, now);
            stop::note_progress();
        }
        now >= self.moved + GRACE || now >= self.since + LONGEST
    }
}
