//! The live source: the running kernel and `/proc`, as a stream of events.

mod builder;
mod containers;
mod intake;
mod kernel_filter;
mod outbox;
mod recheck;
mod refresh;
mod running;
mod source;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tracer_common::limits::{ARGV_DEFAULT_BYTES, RING_DEFAULT_BYTES};
use tracer_common::stats::CpuStats;

use self::intake::Intake;
use self::kernel_filter::Narrow;
use self::outbox::Outbox;
use self::recheck::{Again, SETTLE_NS};
use self::refresh::Refresh;
use crate::clock;
use crate::enrich::container_info::InfoLookup;
use crate::enrich::info::InfoReply;
use crate::enrich::runtime_state;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Filtering, Hello, HelloSource, Lost};
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::load::Kernel;
use crate::kernel::options::KernelOptions;
use crate::kernel::ring::{Ring, Taken};
use crate::proc;
use crate::record::Record;
use crate::record::skipped::SkippedTracker;
use crate::source::hello_of_this_machine;
use crate::table::Table;
pub use builder::{Builder, ExecFailures, StartError, ZOMBIE_AFTER};

/// Records taken from the ring before the events they make are handed on.
const BATCH: usize = 4096;

/// Which part of the memory is for events that wait to be handed on.
const QUEUE_SHARE: usize = 16;

/// How far UTC is ahead of the boot clock is taken over this often, in nanoseconds.
const CLOCK_CHECK_NS: u64 = 1_000_000_000;

/// A larger difference, in nanoseconds, is a clock that was set.
const CLOCK_STEP_NS: u64 = 1_000_000;

/// Shortest time between two searches for cgroups whose creation was not reported, in nanoseconds.
const RESCAN_NS: u64 = 50_000_000;

/// Shortest time between two readings of how often the kernel skipped a program, in nanoseconds. In a storm without a pause it is
/// twenty times as long.
const PASSED_OVER_NS: u64 = 50_000_000;

/// After this time the ring is read again whatever it held before, in nanoseconds. A reading is put off no longer.
const HELD_UP_NS: u64 = 3_500_000;

/// At the end, records that are on their way are looked for this many times, with this pause.
const STOP_LOOKS: u32 = 2500;
const STOP_PAUSE: Duration = Duration::from_micros(200);

/// A running trace of the kernel.
pub struct Live {
    kernel: Kernel,
    ring: Ring,
    /// When all that the ring held was taken, and nothing was waited for since. What has come meanwhile waits for the next look: to
    /// look for it at once, while a storm goes on, would be a look for each few records.
    emptied_ns: Option<u64>,
    table: Table,
    intake: Intake,
    snapshot: Vec<Event>,
    outbox: Outbox,
    /// Before the first program was attached: no event is older.
    began_ns: u64,
    started_ns: u64,
    clock_checked_ns: u64,
    /// When to look again at those that [`Table::unsettled`] lists; never, once there are none.
    settle: Again,
    /// The time that is waited for, and the wait for it.
    timer: Option<(u64, Pin<Box<Sleep>>)>,
    /// What the kernel skipped, and when that was last read.
    passed_over: SkippedTracker,
    passed_over_checked_ns: u64,
    /// When to compare the table with `/proc`, because records were lost; never, while none are.
    resync: Again,
    /// Reads again what changes without an event, for live views.
    refresh: Option<Refresh>,
    /// The sets of the kernel's filter, if it filters.
    narrow: Option<Box<Narrow>>,
    /// … as `hello` reports it.
    filtering: Option<Box<Filtering>>,
    /// The thread that looks for names of containers; none if it could not be started.
    names: Option<InfoLookup>,
    /// Its replies that were not taken yet.
    answers: Vec<InfoReply>,
    /// Not before then are the cgroups looked through again.
    rescan_at_ns: u64,
    options: KernelOptions,
    max_memory: usize,
}

impl Live {
    /// How to trace.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The processes that ran already, as `process` events. Once taken they do not come with the stream.
    pub fn take_snapshot(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.snapshot)
    }

    /// The process table, as of the last event handed out or waiting to be.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What the kernel side could not do so far, summed over the CPUs; of sequence numbers and losses there is nothing.
    pub fn shortfalls(&self) -> CpuStats {
        let stats = self.kernel.stats();
        stats.iter().fold(CpuStats::default(), |sum, cpu| CpuStats {
            argv_degraded: sum.argv_degraded + cpu.argv_degraded,
            paths_degraded: sum.paths_degraded + cpu.paths_degraded,
            untracked: sum.untracked + cpu.untracked,
            ..sum
        })
    }

    /// Time traced so far, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        clock::boot_ns().saturating_sub(self.started_ns)
    }

    /// Appends what there is now, at least one event; waits for it if need be.
    pub async fn next_batch(&mut self, out: &mut Vec<Event>) -> io::Result<()> {
        loop {
            if (!self.snapshot.is_empty() || self.is_worth_a_look()) && self.gather(out) {
                return Ok(());
            }
            poll_fn(|cx| self.poll_wait(cx)).await?;
        }
    }

    /// Appends what there is now, if anything, without waiting.
    pub fn gather(&mut self, out: &mut Vec<Event>) -> bool {
        self.fill();
        let had = out.len();
        out.append(&mut self.snapshot);
        self.outbox.hand_on(out);
        out.len() > had
    }

    /// Ends tracing: detaches the kernel side, then appends everything that had happened by then.
    pub fn stop(&mut self, out: &mut Vec<Event>) {
        // Until now all programs were attached. They are detached one by one, so later events would be incomplete.
        self.intake.end_ns = clock::boot_ns();
        self.kernel.detach();
        // A program that ran at the moment of detaching may still be writing its record; since Linux 7 it can be preempted
        // over that.
        for _ in 0..STOP_LOOKS {
            while self.gather(out) {}
            if self.intake.gaps.in_flight(&self.kernel.stats()) == 0 {
                break;
            }
            std::thread::sleep(STOP_PAUSE);
        }
        self.kernel.show_log();
        let now = clock::boot_ns();
        self.tell_passed_over(now);
        let late = std::mem::take(&mut self.intake.late);
        for lost in late.into_iter().chain(self.intake.gaps.tail(&self.kernel.stats())) {
            self.outbox.push(lost_event(lost, now));
            self.resync.at(now);
        }
        if self.resync.due_ns().is_some() {
            self.resync(now);
        }
        while self.gather(out) {}
        self.await_answers(out);
        self.outbox.end();
        self.outbox.hand_on(out);
    }

    /// The first line of a stream.
    pub fn hello(&self) -> Event {
        let hello = Hello {
            hooks: self.kernel.hook_names(),
            fallbacks: self.kernel.fallbacks.iter().map(ToString::to_string).collect(),
            ring_bytes: self.kernel.ring_bytes.into(),
            argv_max: self.options.argv_max.into(),
            max_memory: self.max_memory as u64,
            filter: self.filtering.as_deref().cloned(),
            ..hello_of_this_machine(HelloSource::Kernel)
        };
        let time = Timestamp(self.began_ns as i64 + clock::utc_minus_boot_ns());
        Event::new(Detail::Hello(Box::new(hello)), time)
    }

    /// A boot time in UTC.
    #[expect(clippy::unused_self, reason = "the clock may come to be the tracer's own")]
    fn time_at(&self, boot_ns: u64) -> Timestamp {
        Timestamp(boot_ns as i64 + clock::utc_minus_boot_ns())
    }

    /// Takes a batch of records from the ring and queues their events.
    fn fill(&mut self) {
        let now = clock::boot_ns();
        let offset_ns = clock::utc_minus_boot_ns();
        // A clock that is set shows in the very next event. Smaller changes are taken over seldom: they are mostly what the
        // comparison of two clocks is off by, and times are to grow with the events.
        let stepped = offset_ns.abs_diff(self.table.utc_offset()) > CLOCK_STEP_NS;
        if stepped || now.saturating_sub(self.clock_checked_ns) > CLOCK_CHECK_NS {
            self.clock_checked_ns = now;
            self.table.set_utc_offset(offset_ns);
        }
        let Taken { records, mut all } = self.take_batch();
        if records == 0 && !self.ring.is_busy() {
            self.notice_losses(now);
        }
        if now >= self.passed_over_checked_ns + if all { PASSED_OVER_NS } else { 20 * PASSED_OVER_NS } {
            self.tell_passed_over(now);
        }
        // Not while there is more to come: what the ring holds is older than what `/proc` shows.
        if all && self.resync.is_due(now) {
            self.resync(now);
            // It stands for how things were before what the ring holds by now.
            all = self.take_batch().all;
        }
        self.kernel.show_log();
        self.look_up(now);
        // Nor this: that one was waited for may stand there.
        if all {
            self.outbox.take(|out| self.table.check_zombies(now, proc::remains, out));
        }
        if let Some(refresh) = &mut self.refresh {
            if all {
                let found = refresh.take_found();
                self.outbox.take(|out| found.into_iter().for_each(|seed| self.table.refresh(seed, out)));
            }
            refresh.tick(now, &self.table);
        }
        self.outbox.take(|out| self.table.tick(now, out));
        self.outbox.tick(now);
        if self.table.take_unsettled() {
            self.settle.at(now + SETTLE_NS);
        }
        if self.settle.is_due(now) {
            self.settle(now);
        }
        if let Err(error) = self.decide_cgroups(now, false) {
            tracing::warn!("{error}");
        }
        if now >= self.rescan_at_ns && self.table.wants_cgroups() {
            self.rescan_at_ns = now + RESCAN_NS;
            look_at_cgroups(&mut self.table, &self.kernel.hierarchy);
        }
    }

    /// False while the ring was emptied just now. After a delay, e.g. by a slow reader, it is read without a wait.
    fn is_worth_a_look(&self) -> bool {
        self.emptied_ns.is_none_or(|then| clock::boot_ns() >= then + HELD_UP_NS)
    }

    /// Waits until there is something to look at, or something is due.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waited = ready!(self.poll_due(cx));
        self.emptied_ns = None;
        Poll::Ready(waited)
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(ready) = self.ring.poll_readable(cx) {
            return Poll::Ready(ready);
        }
        if let Some(Poll::Ready(answer)) = self.names.as_mut().map(|names| names.poll_reply(cx)) {
            self.answers.push(answer);
            return Poll::Ready(Ok(()));
        }
        let refresh = self.refresh.as_ref().map(Refresh::due_ns);
        let due = [self.outbox.due_ns(), self.table.due_ns(), self.settle.due_ns(), self.resync.due_ns(), refresh];
        let Some(due_ns) = due.into_iter().flatten().min() else { return Poll::Pending };
        if self.timer.as_ref().is_none_or(|(waited_for, _)| *waited_for != due_ns) {
            let left = Duration::from_nanos(due_ns.saturating_sub(clock::boot_ns()));
            self.timer = Some((due_ns, Box::pin(sleep(left))));
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        self.timer = None;
        Poll::Ready(Ok(()))
    }

    /// Takes a batch of records from the ring and queues their events.
    fn take_batch(&mut self) -> Taken {
        self.take(BATCH, self.max_memory / QUEUE_SHARE)
    }

    /// Takes all records from the ring.
    fn take_all(&mut self) {
        self.take(usize::MAX, usize::MAX);
    }

    /// Takes up to `most` records from the ring and queues their events. Stops once these take `room` bytes.
    fn take(&mut self, most: usize, room: usize) -> Taken {
        let Self { ring, emptied_ns, intake, table, outbox, resync, narrow, .. } = self;
        if outbox.bytes() >= room {
            return Taken { records: 0, all: false };
        }
        let (mut left, mut argv_bytes) = (most, 0);
        let taken = ring.drain_while(|bytes| {
            if let Some((lost, record)) = intake.take(bytes) {
                if lost.is_some() {
                    resync.at(record.header().boot_ns);
                    table.note_loss();
                }
                Narrow::meet(narrow, table, &record);
                argv_bytes += argv_bytes_of(&record);
                apply(table, outbox, lost, record);
            }
            left -= 1;
            left > 0 && argv_bytes + outbox.bytes() < room
        });
        *emptied_ns = taken.all.then(clock::boot_ns);
        taken
    }
}

/// For tests.
#[cfg(feature = "internals")]
impl Live {
    /// Records lost so far.
    pub fn lost(&self) -> u64 {
        self.intake.gaps.lost()
    }
}

/// Memory that the arguments of an exec take.
fn argv_bytes_of(record: &Record) -> usize {
    let Record::Exec(exec) = record else { return 0 };
    [&exec.image.argv, &exec.image.argv_b64].into_iter().flatten().map(|list| list.as_bytes().len()).sum()
}

/// Adds the existing cgroups to the table.
fn look_at_cgroups(table: &mut Table, hierarchy: &Hierarchy) {
    table.name_containers(runtime_state::containers(hierarchy));
    table.learn_cgroups(hierarchy.scan());
}

/// Queues the events of a record, after the losses before it.
fn apply(table: &mut Table, outbox: &mut Outbox, lost: Option<Lost>, record: Record) {
    if let Some(lost) = lost {
        outbox.push(lost_event(lost, record.header().boot_ns));
    }
    outbox.take(|out| table.apply(record, out));
}

fn lost_event(lost: Lost, boot_ns: u64) -> Event {
    let time = Timestamp(boot_ns as i64 + clock::utc_minus_boot_ns());
    let cpu = (lost.passed_over == 0).then_some(lost.cpu);
    Event { boot_ns: Some(boot_ns), cpu, ..Event::new(Detail::Lost(Box::new(lost)), time) }
}

const _: () = assert!(RING_DEFAULT_BYTES > ARGV_DEFAULT_BYTES);
