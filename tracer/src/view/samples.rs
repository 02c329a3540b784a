//! Events for tests of views.

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Exit, Kind, Process, Provenance, Usage};

/// Returns the id of a process. All start in the same tick, so the pid alone identifies one.
pub(crate) fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(100, pid)
}

pub(crate) fn event(kind: Kind, pid: u32, parent: u32, comm: &str) -> Event {
    let mut process = Process::new(id(pid), Provenance::Kernel);
    process.ppid = Some(parent);
    process.parent_id = (parent != 0).then(|| id(parent));
    process.image_mut().comm = Some(comm.into());
    process.uid = Some(0);
    let mut event = Event::new(kind.into(), Timestamp(1_700_000_000_000_000_000));
    event.process = Some(process);
    event
}

pub(crate) fn ended(pid: u32, parent: u32, comm: &str, code: u8) -> Event {
    let mut event = event(Kind::Exit, pid, parent, comm);
    let usage = Usage { user_ns: 2_000_000, system_ns: 1_000_000, max_rss_bytes: 3 << 20, ..Usage::default() };
    let exit = Exit { code: Some(code), duration_ns: Some(5_000_000), usage: Some(usage), ..Exit::default() };
    event.detail = Detail::Exit(Box::new(exit));
    event
}

/// Adds arguments to an event. The first one is the name.
pub(crate) fn with_argv(mut event: Event, argv: &[&str]) -> Event {
    if let Some(process) = &mut event.process {
        process.image_mut().argv = Some(argv.iter().collect());
        process.execs = 1;
    }
    event
}
