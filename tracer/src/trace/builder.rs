//! How to trace.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracer_common::limits::ARGV_MAX_BYTES;

use super::error::{Cause, Error};
use super::outgoing::Outgoing;
use super::{Tracer, thread};
use crate::analysis::storm::{self, Mode};
use crate::event::Kind;
use crate::filter::Filter;
use crate::pipeline::Wanted;
use crate::pipeline::backlog::Backlog;
use crate::pipeline::backpressure::OnSlow;
use crate::source::live::{self, ExecFailures, Live};

/// Where the events come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The running kernel. This needs privileges.
    #[default]
    Live,
    /// `/proc`, read once: the processes of this moment, and no events. This needs no privileges.
    Proc,
    /// A recording: a file of JSON lines that `tracer stream` wrote, plain or compressed by zstd. `-` is standard input.
    Recording(PathBuf),
}

/// How to trace. [`Tracer::builder`] makes one, and [`start`](Builder::start) ends it.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before it is started"]
pub struct Builder {
    pub(super) source: Source,
    pub(super) filter: Filter,
    pub(super) live: live::Builder,
    pub(super) wanted: Wanted,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            source: Source::default(),
            filter: Filter::default(),
            live: Live::builder(),
            wanted: Wanted { snapshot: true, ..Wanted::default() },
        }
    }
}

impl Builder {
    /// Where the events come from; [`Source::Live`] by default. A recording keeps what its recorder captured: the options about
    /// capture have no effect on it.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Reports only what matches this filter. A later call replaces it.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Whether the processes that are already running are listed first, as `process` events. They are by default.
    pub fn snapshot(mut self, snapshot: bool) -> Self {
        self.wanted.snapshot = snapshot;
        self
    }

    /// Ends the stream after this number of events. Lines that frame it (`hello`, `lost`, `bye` …) are not counted.
    pub fn count(mut self, events: u64) -> Self {
        self.wanted.count = Some(events);
        self
    }

    /// What happens while [`Tracer::next`] is called too seldom; [`OnSlow::Block`] by default.
    pub fn on_slow(mut self, on_slow: OnSlow) -> Self {
        self.wanted.on_slow = on_slow;
        self
    }

    /// Folds what one process and its descendants spawn beyond this number of events a second into `storm` events.
    pub fn fold_storms(mut self, rate: u64) -> Self {
        self.wanted.storm = Some(storm::Options { mode: Mode::Fold, rate });
        self
    }

    /// Adds `storm` events where one process and its descendants spawn more than this number of events a second.
    pub fn report_storms(mut self, rate: u64) -> Self {
        self.wanted.storm = Some(storm::Options { mode: Mode::Alert, rate });
        self
    }

    /// Adds to each event the ancestors of its process, nearest first.
    pub fn ancestors(mut self, ancestors: bool) -> Self {
        self.live = self.live.ancestors(ancestors);
        self
    }

    /// Reports the start and end of threads too.
    pub fn threads(mut self, threads: bool) -> Self {
        self.live = self.live.threads(threads);
        self
    }

    /// Whether execs that fail are reported. Where the kernel lets no BPF program attach to the functions of the system calls,
    /// this slows every system call of the machine; [`Hello::fallbacks`](crate::event::Hello::fallbacks) says so.
    pub fn exec_failures(mut self, failures: ExecFailures) -> Self {
        self.live = self.live.exec_failures(failures);
        self
    }

    /// Reports when exited processes are reaped, and which are not after this time.
    pub fn zombie_after(mut self, after: Duration) -> Self {
        self.live = self.live.zombie_after(Some(after));
        self
    }

    /// Reads the names, arguments and users of running processes again in this interval: they can change without an event.
    /// A process that has changed is reported again, as `process`.
    pub fn refresh_every(mut self, interval: Duration) -> Self {
        self.live = self.live.refresh_every(interval);
        self
    }

    /// Size of the ring buffer between the kernel and the tracer, in bytes: a power of two, at least a page; 8 MiB by default.
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.live = self.live.ring_bytes(bytes);
        self
    }

    /// Most bytes of argv to capture; 64 KiB by default, 6 MiB at most.
    pub fn argv_max(mut self, bytes: u32) -> Self {
        self.live = self.live.argv_max(bytes);
        self
    }

    /// Most bytes for what is remembered of processes and for events that wait to be taken; 64 MiB by default. A sixteenth may
    /// wait for [`Tracer::next`]. The ring buffer comes on top.
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.live = self.live.max_memory(bytes);
        self
    }

    /// A file with the running kernel's BTF. The start fails if it is another kernel's.
    pub fn btf(mut self, file: impl Into<PathBuf>) -> Self {
        self.live = self.live.btf(Some(file.into()));
        self
    }

    /// Starts the trace on a separate thread, and waits until the first events are there. It works in any runtime and does not
    /// block it.
    pub async fn start(self) -> Result<Tracer, Error> {
        let builder = self.checked()?;
        let backlog = Backlog::new(builder.live.room());
        let (stop, shutdown) = oneshot::channel();
        let (begun, beginning) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (batches, received) = mpsc::unbounded_channel();
        let outgoing = Outgoing::new(batches, backlog.clone(), begun);
        let trace = move || {
            let result = thread::trace(builder, outgoing, shutdown);
            // It fails when the tracer is gone.
            let _ = end.send(result);
        };
        std::thread::Builder::new().name("tracer".into()).spawn(trace).map_err(Cause::Thread)?;
        let mut tracer = Tracer::new(stop, received, backlog, ended);
        match beginning.await {
            Ok(()) => Ok(tracer),
            Err(_) => Err(tracer.stop().await.err().unwrap_or_else(|| Cause::Panicked.into())),
        }
    }

    /// The same with what the filter requests by naming kinds. An error if an option is out of range.
    fn checked(mut self) -> Result<Self, Error> {
        if self.filter.names_kind(&[Kind::ThreadStart, Kind::ThreadExit]) {
            self = self.threads(true);
        }
        if self.filter.names_kind(&[Kind::ExecFailed]) && !self.live.reports_exec_failures() {
            self = self.exec_failures(ExecFailures::All);
        }
        if self.filter.names_kind(&[Kind::Reap, Kind::Zombie]) && !self.live.reports_reaps() {
            self = self.zombie_after(live::ZOMBIE_AFTER);
        }
        let Wanted { storm, on_slow, .. } = self.wanted;
        let folds = on_slow == OnSlow::Collapse || storm.is_some_and(|storm| storm.mode == Mode::Fold);
        if folds && (self.live.reports_reaps() || storm.is_some_and(|storm| storm.mode == Mode::Alert)) {
            let message = "events are folded: that goes neither with report_storms nor with zombie_after";
            return Err(Cause::Option(message.into()).into());
        }
        let (ring_bytes, argv_max) = self.live.sizes();
        if !ring_bytes.is_power_of_two() || ring_bytes < 4096 {
            return Err(
                Cause::Option(format!("ring_bytes is {ring_bytes}: give a power of two, at least a page")).into()
            );
        }
        if argv_max == 0 || argv_max > ARGV_MAX_BYTES || argv_max >= ring_bytes {
            let most = ARGV_MAX_BYTES.min(ring_bytes - 1);
            return Err(Cause::Option(format!("argv_max is {argv_max}: give 1 to {most}")).into());
        }
        Ok(self)
    }
}
