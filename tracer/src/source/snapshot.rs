//! The processes of this moment, from `/proc`, as a [`EventSource`] without events. It needs no privileges.

use std::time::Duration;

use super::{EventSource, Facts, Flow, Moment, Opening, SourceError, hello_of_this_machine};
use crate::clock;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, HelloSource};
use crate::kernel::hierarchy::Hierarchy;
use crate::proc;
use crate::table::{Table, TableOptions};

/// Reads `/proc` once.
#[derive(Debug, Default)]
pub struct Snapshot(());

impl EventSource for Snapshot {
    async fn open(&mut self) -> Result<Opening, SourceError> {
        let utc_minus_boot_ns = clock::utc_minus_boot_ns();
        let mut seeds = proc::snapshot(utc_minus_boot_ns, &Hierarchy::of_proc()).map_err(SourceError::Proc)?;
        seeds.retain(|seed| !seed.gone);
        let mut table = Table::new(TableOptions { utc_minus_boot_ns, ..TableOptions::default() });
        let mut running = Vec::with_capacity(seeds.len());
        table.seed(seeds, &mut running);
        let hello = Detail::Hello(Box::new(hello_of_this_machine(HelloSource::Proc)));
        let hello = Event::new(hello, self.now().time);
        Ok(Opening { hello, running })
    }

    async fn next_batch(&mut self, _out: &mut Vec<Event>) -> Result<Flow, SourceError> {
        Ok(Flow::Ended)
    }

    fn stop(&mut self, _out: &mut Vec<Event>) -> Result<(), SourceError> {
        Ok(())
    }

    fn now(&self) -> Moment {
        let boot_ns = clock::boot_ns();
        Moment { boot_ns, time: Timestamp(boot_ns as i64 + clock::utc_minus_boot_ns()) }
    }

    fn time_until(&self, boot_ns: u64) -> Option<Duration> {
        Some(Duration::from_nanos(boot_ns.saturating_sub(clock::boot_ns())))
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}
