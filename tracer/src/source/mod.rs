//! Where events come from. Every view and every output works on every [`EventSource`].

pub mod live;
pub mod recording;
#[cfg(test)]
pub(crate) mod scripted;
pub mod snapshot;

use std::future::Future;
use std::io;
use std::time::Duration;

use nix::sys::utsname::{UtsName, uname};

use crate::event::time::Timestamp;
use crate::event::{Event, Hello, HelloSource};
use crate::kernel::error::LoadError;
use crate::sys::procfs;
use recording::RecordingError;

/// A stream of events. It begins with `hello` and the processes that are already running, and ends with what only the source
/// knows of `bye`.
pub trait EventSource {
    /// The beginning. Called once, before anything else; cancelling it loses nothing.
    fn open(&mut self) -> impl Future<Output = Result<Opening, SourceError>>;

    /// Waits for events and appends them. Cancelling it loses nothing.
    fn next_batch(&mut self, out: &mut Vec<Event>) -> impl Future<Output = Result<Flow, SourceError>>;

    /// Ends the source before its own end, and appends the events that had happened by then.
    fn stop(&mut self, out: &mut Vec<Event>) -> Result<(), SourceError>;

    /// The time now, by the clock of the source: that of its last event if it is not live.
    fn now(&self) -> Moment;

    /// How long to wait until a boot time has come while nothing happens. None if only events move its clock.
    fn time_until(&self, boot_ns: u64) -> Option<Duration>;

    /// What only the source knows of `bye`.
    fn facts(&self) -> Facts;
}

/// How a source begins.
#[derive(Debug)]
pub struct Opening {
    /// The first line.
    pub hello: Event,
    /// The processes that are already running, in any order, and what is known of their containers.
    pub running: Vec<Event>,
}

/// Whether more events may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They may.
    More,
    /// The source has ended.
    Ended,
}

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By `CLOCK_BOOTTIME`, in nanoseconds.
    pub boot_ns: u64,
    /// In UTC.
    pub time: Timestamp,
}

/// What a source contributes to `bye`; the fields are those of [`crate::event::Bye`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Time traced, in nanoseconds.
    pub duration_ns: u64,
    /// Execs whose argv was cut for lack of room.
    pub argv_degraded: u64,
    /// Execs whose exe and cwd were left out for lack of room.
    pub paths_degraded: u64,
    /// Processes that could not be followed.
    pub untracked: u64,
    /// Exited processes that were forgotten early.
    pub dead_forgotten: u64,
    /// Processes whose argv and cwd were forgotten.
    pub argv_forgotten: u64,
    /// CPU time of the tracer that made the events, in user mode, in nanoseconds.
    pub user_ns: u64,
    /// CPU time of the tracer that made the events, in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Largest resident set of the tracer that made the events, in bytes.
    pub max_rss_bytes: u64,
}

/// What every source on this machine says in `hello`.
fn hello_of_this_machine(source: HelloSource) -> Hello {
    let name = uname();
    let text = |field: Option<&std::ffi::OsStr>| field.unwrap_or_default().to_string_lossy().into_owned();
    Hello {
        source: Some(source),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: text(name.as_ref().ok().map(UtsName::release)),
        arch: text(name.as_ref().ok().map(UtsName::machine)),
        host: text(name.as_ref().ok().map(UtsName::nodename)),
        boot_id: procfs::read(procfs::BOOT_ID).unwrap_or_default(),
        ..Hello::default()
    }
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The ring.
    #[error("cannot wait for events: {0}")]
    Wait(#[source] io::Error),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] LoadError),
    /// A recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// `/proc`.
    #[error("cannot read /proc ({0}): mount it with `mount -t proc proc /proc`")]
    Proc(#[source] io::Error),
}
