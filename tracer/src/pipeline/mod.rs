//! Joins the stages and owns shutdown: source → filter → sink, from `hello` to `bye`.

pub mod backpressure;

use std::future::Future;
use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tracer_common::stats::CpuStats;

use crate::analysis::storm::{self, Mode, Storms};
use crate::clock;
use crate::event::{Bye, Detail, Event, Kind};
use crate::filter::Filter;
use crate::kernel::error::LoadError;
use crate::sink::{Backlog, Sink};
use crate::source::live::Tracer;
use crate::table::TableStats;
use backpressure::{OnSlow, Slow};

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The output.
    #[error(transparent)]
    Output(io::Error),
    /// The ring.
    #[error("cannot wait for events: {0}")]
    Wait(#[source] io::Error),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] LoadError),
}

/// What is wanted of a stream.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Whether what ran already is listed.
    pub snapshot: bool,
    /// After how many events it ends.
    pub count: Option<u64>,
    /// What makes a storm, if that is asked for.
    pub storm: Option<storm::Options>,
    /// What is done when the reader of the output is slow.
    pub on_slow: OnSlow,
    /// Whether it ends when no process is left that the filter follows by descent.
    pub until_over: bool,
}

/// Writes events to the sink until `shutdown` is done (or enough were written), then drains what had happened by
/// then. `go_on` is asked after each batch. What a slow reader has not taken in the end is the caller's to wait for
/// ([`Sink::backlog`]).
pub async fn run(
    mut tracer: Tracer,
    filter: Filter,
    sink: &mut dyn Sink,
    wanted: &Wanted,
    shutdown: impl Future<Output = ()>,
    mut go_on: impl FnMut(&Tracer) -> bool,
) -> Result<Bye, PipelineError> {
    let left = wanted.count.unwrap_or(u64::MAX);
    let collapse = (wanted.on_slow == OnSlow::Collapse).then_some(storm::Options { mode: Mode::Fold, rate: u64::MAX });
    let options = wanted.storm.or(collapse);
    let waits = wanted.on_slow == OnSlow::Block;
    let mut stage = Stage {
        filter,
        storms: options.map(Storms::new),
        rates: collapse.and(options).map(|options| (options.rate, options.rate.min(backpressure::COLLAPSE_RATE))),
        storm_lines: Vec::new(),
        backlog: sink.backlog().filter(|_| !waits),
        slow: Slow::default(),
        sink,
        left,
        seq: 0,
        bye: Bye::default(),
    };
    let hello = tracer.hello();
    stage.frame(hello)?;
    let mut batch = tracer.take_snapshot();
    stage.filter.learn(&batch);
    if let Some(storms) = &mut stage.storms {
        storms.learn(&batch);
    }
    if !wanted.snapshot {
        batch.clear();
    }
    stage.pass(&mut batch)?;
    stage.sink.flush().map_err(PipelineError::Output)?;

    let backlog = stage.sink.backlog();
    // A reader that is behind is waited for, unless events are to be left out instead.
    let awaited = backlog.as_ref().filter(|_| waits);
    let mut shutdown = std::pin::pin!(shutdown);
    while stage.left > 0 && go_on(&tracer) && !(wanted.until_over && stage.filter.is_over()) {
        let due = stage.storm_line_is_due();
        let caught_up = stage.reader_caught_up();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = failed(backlog.as_ref()) => {}
            // What the ring cannot hold while the reader is waited for is lost, and told.
            result = async { room(awaited).await; tracer.next_batch(&mut batch).await } => {
                result.map_err(PipelineError::Wait)?;
            }
            // Only when there is nothing to read: events bring their own time.
            () = async { room(awaited).await; due.await } => stage.tick()?,
            () = caught_up => stage.tell_left_out()?,
        }
        if let Some(backlog) = &backlog {
            backlog.error().map_err(PipelineError::Output)?;
        }
        stage.pass(&mut batch)?;
        stage.sink.flush().map_err(PipelineError::Output)?;
    }
    tracer.stop(&mut batch)?;
    stage.pass(&mut batch)?;
    stage.end(&tracer)
}

/// Done when more may be written: at once where there is no reader.
async fn room(backlog: Option<&Backlog>) {
    if let Some(backlog) = backlog {
        backlog.room().await;
    }
}

/// Done when the output has failed though nothing was written just now.
async fn failed(backlog: Option<&Backlog>) {
    match backlog {
        Some(backlog) => backlog.failed().await,
        None => std::future::pending().await,
    }
}

/// Numbers, filters, counts and writes.
struct Stage<'a> {
    filter: Filter,
    storms: Option<Storms>,
    /// Rates that make a storm: as a rule, and while the reader is behind.
    rates: Option<(u64, u64)>,
    /// Lines of storms that are to be written.
    storm_lines: Vec<Event>,
    /// What the reader has not taken yet, if it is not waited for.
    backlog: Option<Backlog>,
    slow: Slow,
    sink: &'a mut dyn Sink,
    /// How many more process events are wanted.
    left: u64,
    seq: u64,
    bye: Bye,
}

impl Stage<'_> {
    /// Passes on what the filter admits of a batch, and empties it.
    fn pass(&mut self, batch: &mut Vec<Event>) -> Result<(), PipelineError> {
        // Where they lie: moving each out costs as much as looking at it.
        for event in batch.iter_mut() {
            event.seq = self.seq;
            self.seq += 1;
            if let Some(lost) = event.lost() {
                self.bye.seen += lost.total;
                self.bye.lost += lost.total;
                self.sink.write(event).map_err(PipelineError::Output)?;
                continue;
            }
            self.bye.seen += 1;
            self.look_at_reader(&mut event.seq)?;
            // What comes after the last one wanted is left out like what a filter leaves out.
            let wanted = self.filter.admits(event) && self.left > 0;
            let shown = match &mut self.storms {
                Some(storms) => storms.take(event, wanted, &mut self.storm_lines),
                None => true,
            };
            if !self.storm_lines.is_empty() {
                self.write_storms(&mut event.seq)?;
            }
            if !wanted {
                self.bye.filtered += 1;
                continue;
            }
            if !shown {
                continue;
            }
            if self.slow.is_behind() {
                self.slow.leave_out(event);
                continue;
            }
            self.left -= 1;
            self.bye.emitted += 1;
            match event.kind() {
                Kind::Process => self.bye.processes += 1,
                Kind::Fork => self.bye.forks += 1,
                Kind::Exec => self.bye.execs += 1,
                Kind::Exit => self.bye.exits += 1,
                Kind::ExecFailed => self.bye.exec_failures += 1,
                Kind::Reap => self.bye.reaps += 1,
                _ => {}
            }
            self.bye.inferred += u64::from(event.is_inferred());
            self.sink.write(event).map_err(PipelineError::Output)?;
        }
        batch.clear();
        Ok(())
    }

    /// Sees whether the reader is behind. If it no longer is, what was left out is told before the event, which takes
    /// the number after that.
    fn look_at_reader(&mut self, seq: &mut u64) -> Result<(), PipelineError> {
        let Some(backlog) = &self.backlog else { return Ok(()) };
        self.slow.look(backlog.left(), backlog.room_bytes());
        let behind = self.slow.is_behind();
        if let (Some(storms), Some((usual, low))) = (&mut self.storms, self.rates) {
            storms.set_rate(if behind { low } else { usual });
        }
        if let Some(mut line) = self.slow.line_if_caught_up() {
            line.seq = std::mem::replace(seq, self.seq);
            self.seq += 1;
            self.sink.write(&line).map_err(PipelineError::Output)?;
        }
        Ok(())
    }

    /// Done when a reader for whom events were left out has caught up, though nothing happens; never while none were.
    fn reader_caught_up(&self) -> impl Future<Output = ()> + use<> {
        let backlog = self.backlog.as_ref().filter(|_| self.slow.has_left_out()).cloned();
        async move {
            match backlog {
                Some(backlog) => backlog.half_empty().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Tells what was left out, if the reader is no longer behind.
    fn tell_left_out(&mut self) -> Result<(), PipelineError> {
        let Some(backlog) = &self.backlog else { return Ok(()) };
        self.slow.look(backlog.left(), backlog.room_bytes());
        match self.slow.line_if_caught_up() {
            Some(line) => self.frame(line),
            None => Ok(()),
        }
    }

    /// Writes the lines of storms that stand before an event, which takes the number after theirs.
    fn write_storms(&mut self, seq: &mut u64) -> Result<(), PipelineError> {
        for mut line in self.storm_lines.drain(..) {
            line.seq = *seq;
            *seq = self.seq;
            self.seq += 1;
            self.sink.write(&line).map_err(PipelineError::Output)?;
        }
        Ok(())
    }

    /// Done when a storm has a line to be written though nothing happens; never while there is no storm.
    fn storm_line_is_due(&self) -> impl Future<Output = ()> + use<> {
        let due_ns = self.storms.as_ref().and_then(Storms::due_ns);
        async move {
            match due_ns {
                Some(due_ns) => {
                    tokio::time::sleep(Duration::from_nanos(due_ns.saturating_sub(clock::boot_ns()))).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Writes what storms have to tell by now.
    fn tick(&mut self) -> Result<(), PipelineError> {
        if let Some(storms) = &mut self.storms {
            storms.tick(clock::boot_ns(), &mut self.storm_lines);
        }
        self.write_rest_of_storms()
    }

    fn write_rest_of_storms(&mut self) -> Result<(), PipelineError> {
        for line in std::mem::take(&mut self.storm_lines) {
            self.frame(line)?;
        }
        Ok(())
    }

    /// Writes a line that frames the stream.
    fn frame(&mut self, mut event: Event) -> Result<(), PipelineError> {
        event.seq = self.seq;
        self.seq += 1;
        self.sink.write(&event).map_err(PipelineError::Output)
    }

    fn end(mut self, tracer: &Tracer) -> Result<Bye, PipelineError> {
        if let Some(storms) = &mut self.storms {
            storms.finish(clock::boot_ns(), &mut self.storm_lines);
            (self.bye.folded, self.bye.storms) = (storms.folded(), storms.begun());
            self.write_rest_of_storms()?;
        }
        if let Some(line) = self.slow.line() {
            self.frame(line)?;
        }
        self.bye.dropped = self.slow.total();
        let mut bye = std::mem::take(&mut self.bye);
        bye.duration_ns = tracer.duration_ns();
        let CpuStats { argv_degraded, paths_degraded, untracked, .. } = tracer.shortfalls();
        (bye.argv_degraded, bye.paths_degraded, bye.untracked) = (argv_degraded, paths_degraded, untracked);
        let TableStats { dead_forgotten, argv_forgotten, .. } = tracer.table().stats();
        (bye.dead_forgotten, bye.argv_forgotten) = (dead_forgotten, argv_forgotten);
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            bye.user_ns = usage.user_time().num_nanoseconds() as u64;
            bye.system_ns = usage.system_time().num_nanoseconds() as u64;
            bye.max_rss_bytes = usage.max_rss() as u64 * 1024;
        }
        self.frame(Event::new(Detail::Bye(Box::new(bye.clone())), tracer.now()))?;
        self.sink.flush().map_err(PipelineError::Output)?;
        Ok(bye)
    }
}
