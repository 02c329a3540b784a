//! How to trace, and how it begins.

use std::io;
use std::time::Duration;

use super::intake::Intake;
use super::kernel_filter::Narrow;
use super::outbox::Outbox;
use super::recheck::Again;
use super::refresh::Refresh;
use super::{Live, containers, look_at_cgroups, running};
use crate::clock;
use crate::event::Filtering;
use crate::filter::pushdown::Pushdown;
use crate::kernel::error::LoadError;
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::load::{Kernel, Tracked};
use crate::kernel::options::KernelOptions;
use crate::kernel::preflight::{self, PreflightError};
use crate::proc::{self, Seed};
use crate::record::skipped::SkippedTracker;
use crate::table::merge;
use crate::table::{Table, TableOptions};

/// Why tracing did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] LoadError),
    /// It cannot be done from here.
    #[error(transparent)]
    Place(#[from] PreflightError),
    /// `/proc`.
    #[error("cannot read /proc ({0}); mount it with `mount -t proc proc /proc`")]
    Proc(#[source] io::Error),
}

/// Whether execs that fail are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecFailures {
    /// No: it costs something.
    #[default]
    No,
    /// Each of them.
    All,
    /// A search for a program along `PATH` is reported as one.
    Summary,
}

/// How to trace; ends in [`Builder::start`].
#[derive(Clone, Debug)]
pub struct Builder {
    kernel: KernelOptions,
    only: Option<u32>,
    summarise: bool,
    zombie_after: Option<Duration>,
    ancestors: bool,
    pushdown: Pushdown,
    filtering: Option<Filtering>,
    max_memory: usize,
    refresh: Option<Duration>,
}

/// This part of the memory may wait for a slow reader.
const READER_SHARE: u64 = 16;

/// Default of [`Builder::zombie_after`] where an event of that kind is requested.
pub const ZOMBIE_AFTER: Duration = Duration::from_secs(10);

impl Default for Builder {
    fn default() -> Self {
        Self {
            kernel: KernelOptions::default(),
            only: None,
            summarise: false,
            zombie_after: None,
            ancestors: false,
            pushdown: Pushdown::default(),
            filtering: None,
            max_memory: Self::MAX_MEMORY,
            refresh: None,
        }
    }
}

impl Builder {
    /// Default of [`Builder::max_memory`].
    pub const MAX_MEMORY: usize = 64 << 20;

    /// Size of the ring buffer in bytes, a power of two and a multiple of the page size; 8 MiB by default.
    #[must_use]
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.kernel.ring_bytes = bytes;
        self
    }

    /// Most bytes of argv to capture; 64 KiB by default, 6 MiB at most.
    #[must_use]
    pub fn argv_max(mut self, bytes: u32) -> Self {
        self.kernel.argv_max = bytes;
        self
    }

    /// Report the start and end of threads too.
    #[must_use]
    pub fn threads(mut self, threads: bool) -> Self {
        self.kernel.threads = threads;
        self
    }

    /// Report execs that fail. Where the kernel lets no BPF program attach to the functions of the system calls, their tracepoints
    /// are used, and every system call of the machine is slower: [`crate::event::Hello::fallbacks`] says so.
    #[must_use]
    pub fn exec_failures(mut self, failures: ExecFailures) -> Self {
        self.kernel.exec_failed = failures != ExecFailures::No;
        self.summarise = failures == ExecFailures::Summary;
        self
    }

    /// Report when exited processes are reaped, and which are not after this time.
    #[must_use]
    pub fn zombie_after(mut self, after: Option<Duration>) -> Self {
        self.kernel.reap = after.is_some();
        self.zombie_after = after;
        self
    }

    /// A file with the running kernel's BTF. Another kernel's is refused.
    #[must_use]
    pub fn btf(mut self, file: Option<std::path::PathBuf>) -> Self {
        self.kernel.btf = file;
        self
    }

    /// Changes what the kernel side does, for tests.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn kernel(mut self, change: impl FnOnce(&mut KernelOptions)) -> Self {
        change(&mut self.kernel);
        self
    }

    /// Push a part of a filter into the kernel, and report it in `hello` ([`crate::filter::pushdown::of`] gives both). More than
    /// the filter admits still comes: pass the events through a [`Matcher`](crate::filter::Matcher) of the same filter.
    #[must_use]
    pub fn push_down(mut self, pushdown: Pushdown, filtering: Option<Filtering>) -> Self {
        self.kernel.selection = pushdown.selection.clone();
        (self.pushdown, self.filtering) = (pushdown, filtering);
        self
    }

    /// Add to each event the ancestors of its process.
    #[must_use]
    pub fn ancestors(mut self, ancestors: bool) -> Self {
        self.ancestors = ancestors;
        self
    }

    /// Most bytes that what is remembered and what is handed on may take; 64 MiB by default. Three quarters are for the
    /// process table: [`crate::table::TableStats`] says what it had to give up. The rest is for the events that wait to be
    /// taken. The ring, which is the kernel's, is not in it.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Read the names, arguments and ids of running processes again in this interval: they can change without an event. A process
    /// that has changed is reported again, as `process`. Of many processes, 512 are read each time.
    #[must_use]
    pub fn refresh_every(mut self, time: Duration) -> Self {
        self.refresh = Some(time);
        self
    }

    /// Bytes that may wait for a slow reader.
    pub(crate) const fn room(&self) -> u64 {
        self.max_memory as u64 / READER_SHARE
    }

    /// Sizes of the ring and of the largest argv, in bytes.
    pub(crate) const fn sizes(&self) -> (u32, u32) {
        (self.kernel.ring_bytes, self.kernel.argv_max)
    }

    pub(crate) const fn reports_reaps(&self) -> bool {
        self.zombie_after.is_some()
    }

    pub(crate) const fn reports_exec_failures(&self) -> bool {
        self.kernel.exec_failed
    }

    pub(crate) const fn reports_ancestors(&self) -> bool {
        self.ancestors
    }

    /// Loads and attaches the kernel side, then takes the snapshot of what already runs. Needs a tokio runtime.
    pub fn start(self) -> Result<Live, StartError> {
        preflight::check()?;
        let began_ns = clock::boot_ns();
        let (mut kernel, mut ring) = Kernel::start(&self.kernel)?;
        let started_ns = clock::boot_ns();
        let utc_minus_boot_ns = clock::utc_minus_boot_ns();
        let seeds = match self.only {
            Some(pid) => {
                kernel.track(pid, Tracked::Matching)?;
                line_of(pid, utc_minus_boot_ns, &kernel.hierarchy)
            }
            None => running::snapshot(&mut kernel, utc_minus_boot_ns).map_err(StartError::Proc)?,
        };
        let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        let mut table = Table::new(TableOptions {
            max_bytes: self.max_memory / 4 * 3,
            utc_minus_boot_ns,
            ancestors: self.ancestors,
            zombie_after_ns: self.zombie_after.map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
            page_size: page_size as u64,
            look_up: true,
            ..TableOptions::default()
        });
        let narrow = self
            .kernel
            .selection
            .needs_relatives()
            .then(|| Box::new(Narrow::new(self.pushdown, kernel.hierarchy.clone())));
        if narrow.is_some() {
            table.watch_cgroups();
        }
        // Later cgroups are reported, and this lists those that are there: none is missed.
        look_at_cgroups(&mut table, &kernel.hierarchy);
        let intake = Intake::new();
        tracing::info!(
            "attached within {} ms; {} processes found within {} ms",
            (started_ns - began_ns) / 1_000_000,
            seeds.len(),
            (clock::boot_ns() - started_ns) / 1_000_000,
        );
        // What happened while `/proc` was read must be known before it is clear what was there before.
        let (pending, _) = intake.look_ahead(&mut ring);
        let refresh = self.refresh.and_then(|every| Refresh::start(every, kernel.hierarchy.clone()));
        let mut tracer = Live {
            kernel,
            ring,
            emptied_ns: None,
            table,
            intake,
            snapshot: Vec::new(),
            outbox: Outbox::new(self.summarise),
            began_ns,
            started_ns,
            clock_checked_ns: started_ns,
            settle: Again::at_once(),
            timer: None,
            passed_over: SkippedTracker::default(),
            passed_over_checked_ns: 0,
            resync: Again::never(),
            refresh,
            narrow,
            filtering: self.filtering.map(Box::new),
            names: None,
            answers: Vec::new(),
            rescan_at_ns: 0,
            options: self.kernel,
            max_memory: self.max_memory,
        };
        tracer.table.seed(merge::reconcile(seeds, &pending), &mut tracer.snapshot);
        // Before the processes: a filter by container name must know which container they belong to.
        let mut found = Vec::new();
        tracer.names = containers::begin(&mut tracer.table, &tracer.kernel.hierarchy, &mut found);
        containers::name_in(&mut tracer.snapshot, &tracer.table);
        tracer.snapshot.splice(0..0, found);
        tracer.take_batch();
        tracer.close_filter()?;
        // There is something to hand on.
        tracer.emptied_ns = None;
        Ok(tracer)
    }
}

/// What only `tracer run` needs.
#[cfg(feature = "cli")]
impl Builder {
    /// Report only this process and what it forks from now on. The kernel side itself leaves out the rest.
    #[must_use]
    pub fn only(mut self, pid: u32) -> Self {
        self.only = Some(pid);
        self.kernel.selection = crate::kernel::options::Selection::Only;
        self
    }
}

/// A process that is held before its exec, after its line of ancestors, the oldest first. What it runs is not known yet.
fn line_of(pid: u32, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> Vec<Seed> {
    let read = |pid| proc::read(pid, utc_minus_boot_ns, hierarchy);
    let parent = |&pid: &u32| read(pid).map(|seed| seed.ppid).filter(|&ppid| ppid != 0);
    let mut line: Vec<u32> = std::iter::successors(Some(pid), parent).collect();
    line.reverse();
    let mut out: Vec<Seed> = line.into_iter().filter_map(read).collect();
    if let Some(seed) = out.last_mut().filter(|seed| seed.process.pid == pid) {
        seed.forget_image();
    }
    out
}
