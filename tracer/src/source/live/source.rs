//! The live kernel as a [`EventSource`].

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tracer_common::stats::CpuStats;

use super::Live;
use crate::clock;
use crate::event::Event;
use crate::source::{EventSource, Facts, Flow, Moment, Opening, SourceError};
use crate::table::TableStats;

impl EventSource for Live {
    async fn open(&mut self) -> Result<Opening, SourceError> {
        Ok(Opening { hello: self.hello(), running: self.take_snapshot() })
    }

    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Flow, SourceError> {
        Self::next_batch(self, out).await.map_err(SourceError::Wait)?;
        Ok(Flow::More)
    }

    fn stop(&mut self, out: &mut Vec<Event>) -> Result<(), SourceError> {
        Self::stop(self, out);
        Ok(())
    }

    fn now(&self) -> Moment {
        let boot_ns = clock::boot_ns();
        Moment { boot_ns, time: self.time_at(boot_ns) }
    }

    fn time_until(&self, boot_ns: u64) -> Option<Duration> {
        Some(Duration::from_nanos(boot_ns.saturating_sub(clock::boot_ns())))
    }

    fn facts(&self) -> Facts {
        let CpuStats { argv_degraded, paths_degraded, untracked, .. } = self.shortfalls();
        let TableStats { dead_forgotten, argv_forgotten, .. } = self.table().stats();
        let mut facts = Facts {
            duration_ns: self.duration_ns(),
            argv_degraded,
            paths_degraded,
            untracked,
            dead_forgotten,
            argv_forgotten,
            ..Facts::default()
        };
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            facts.user_ns = usage.user_time().num_nanoseconds() as u64;
            facts.system_ns = usage.system_time().num_nanoseconds() as u64;
            facts.max_rss_bytes = usage.max_rss() as u64 * 1024;
        }
        facts
    }
}
