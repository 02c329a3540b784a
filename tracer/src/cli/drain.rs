//! The end of a trace whose reader is slow: waited for, but not for ever.

use std::time::Duration;

use crate::pipeline::PipelineError;
use crate::sink::{Sink, Target};
use crate::view::units;

/// How long a reader may take nothing once tracer was told to end.
const GRACE: Duration = Duration::from_secs(2);

/// Waits until all is taken of what was written. Once `told` is done, which means that tracer is to end, it only waits
/// while the reader takes some, and not at all when `told` is done again.
pub(super) async fn deliver(sink: &dyn Sink, target: &Target, mut told: impl AsyncFnMut()) -> anyhow::Result<()> {
    let Some(backlog) = sink.backlog() else { return Ok(()) };
    let mut patient = true;
    let mut taken = backlog.taken();
    loop {
        tokio::select! {
            biased;
            () = backlog.empty() => {
                backlog.error().map_err(PipelineError::Output)?;
                return Ok(());
            }
            () = told() => {
                if !std::mem::take(&mut patient) {
                    break;
                }
                taken = backlog.taken();
            }
            () = tokio::time::sleep(GRACE), if !patient => {
                if std::mem::replace(&mut taken, backlog.taken()) == backlog.taken() {
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
