//! Filters, numbers and counts each event and passes it to the consumer.

use std::future::Future;

use super::backlog::Backlog;
use super::backpressure::{self, OnSlow, Slow};
use super::consumer::Consumer;
use super::{PipelineError, Wanted};
use crate::analysis::storm::{self, Mode, Storms};
use crate::event::{Bye, Detail, Event, Kind, StormPhase};
use crate::filter::Matcher;
use crate::source::{Facts, Moment};

/// The state of a stream between its source and its consumer.
pub(super) struct Stage<'a> {
    filter: Matcher,
    storms: Option<Storms>,
    /// Rates of a storm: the usual one, and the one while the reader is behind.
    rates: Option<(u64, u64)>,
    /// Storm lines that wait to be written.
    storm_lines: Vec<Event>,
    /// The backlog of the reader, if events are dropped when it is behind.
    backlog: Option<Backlog>,
    slow: Slow,
    consumer: &'a mut dyn Consumer,
    /// Number of further events until the end.
    left: u64,
    /// See [`Wanted::until_over`].
    until_over: bool,
    seq: u64,
    bye: Bye,
}

impl<'a> Stage<'a> {
    pub(super) fn new(filter: Matcher, consumer: &'a mut dyn Consumer, wanted: &Wanted) -> Self {
        let collapse =
            (wanted.on_slow == OnSlow::Collapse).then_some(storm::Options { mode: Mode::Fold, rate: u64::MAX });
        let options = wanted.storm.or(collapse);
        Self {
            filter,
            storms: options.map(Storms::new),
            rates: collapse.and(options).map(|options| (options.rate, options.rate.min(backpressure::COLLAPSE_RATE))),
            storm_lines: Vec::new(),
            backlog: consumer.backlog().filter(|_| wanted.on_slow != OnSlow::Block),
            slow: Slow::default(),
            consumer,
            left: wanted.count.unwrap_or(u64::MAX),
            until_over: wanted.until_over,
            seq: 0,
            bye: Bye::default(),
        }
    }

    /// Writes `hello` and, if `listed`, the running processes. Empties the batch.
    pub(super) fn begin(&mut self, hello: Event, running: &mut Vec<Event>, listed: bool) -> Result<(), PipelineError> {
        self.frame(hello)?;
        self.filter.learn(running);
        if let Some(storms) = &mut self.storms {
            storms.learn(running);
        }
        self.consumer.learn(running);
        if !listed {
            running.clear();
        }
        self.pass(running)?;
        self.flush()
    }

    /// Returns false once there were enough events, or no process is left that matches by descent.
    pub(super) fn wants_more(&self) -> bool {
        self.left > 0 && !(self.until_over && self.filter.is_over())
    }

    pub(super) fn flush(&mut self) -> Result<(), PipelineError> {
        self.consumer.flush().map_err(PipelineError::Output)
    }

    /// Passes the matching events of a batch to the consumer, and empties the batch.
    pub(super) fn pass(&mut self, batch: &mut Vec<Event>) -> Result<(), PipelineError> {
        // In place: to move each event out costs as much as all checks.
        for event in batch.iter_mut() {
            if event.kind().is_framing() {
                self.pass_framing(event)?;
                continue;
            }
            event.seq = self.seq;
            self.seq += 1;
            self.bye.seen += 1;
            self.check_reader(&mut event.seq)?;
            // Events after the last wanted one are handled like events that are filtered out.
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
                self.consumer.skip(event);
                continue;
            }
            if !shown {
                continue;
            }
            if self.slow.is_behind() {
                self.slow.drop_event(event);
                continue;
            }
            self.left -= 1;
            self.count(event);
            self.consumer.take(event).map_err(PipelineError::Output)?;
        }
        batch.clear();
        Ok(())
    }

    fn count(&mut self, event: &Event) {
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
    }

    /// Passes a line in which the source counts events without a line. These are lost records and, in a recording, dropped
    /// or folded events. They leave the same gap in `seq` as events that are dropped here.
    fn pass_framing(&mut self, event: &mut Event) -> Result<(), PipelineError> {
        if let Some(lost) = event.lost() {
            self.bye.seen += lost.total;
            self.bye.lost += lost.total;
        }
        if let Some(dropped) = event.dropped() {
            self.seq += dropped.total;
            self.bye.seen += dropped.total;
            self.bye.dropped += dropped.total;
        }
        if let Some(storm) = event.storm() {
            self.seq += storm.folded;
            self.bye.seen += storm.folded;
            self.bye.folded += storm.folded;
            self.bye.storms += u64::from(storm.phase == StormPhase::Begin);
        }
        event.seq = self.seq;
        self.seq += 1;
        self.consumer.take(event).map_err(PipelineError::Output)
    }

    /// Checks whether the reader is behind. If it has caught up, a `dropped` line comes before the event, which gets the
    /// next number.
    fn check_reader(&mut self, seq: &mut u64) -> Result<(), PipelineError> {
        let Some(backlog) = &self.backlog else { return Ok(()) };
        self.slow.update(backlog.left(), backlog.capacity());
        let behind = self.slow.is_behind();
        if let (Some(storms), Some((usual, low))) = (&mut self.storms, self.rates) {
            storms.set_rate(if behind { low } else { usual });
        }
        if let Some(mut line) = self.slow.line_if_caught_up() {
            line.seq = std::mem::replace(seq, self.seq);
            self.seq += 1;
            self.consumer.take(&line).map_err(PipelineError::Output)?;
        }
        Ok(())
    }

    /// Completes when the reader has caught up after events were dropped. Without dropped events it never does.
    pub(super) fn reader_caught_up(&self) -> impl Future<Output = ()> + use<> {
        let backlog = self.backlog.as_ref().filter(|_| self.slow.has_dropped()).cloned();
        async move {
            match backlog {
                Some(backlog) => backlog.half_empty().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Writes a `dropped` line if the reader has caught up.
    pub(super) fn report_dropped(&mut self) -> Result<(), PipelineError> {
        let Some(backlog) = &self.backlog else { return Ok(()) };
        self.slow.update(backlog.left(), backlog.capacity());
        match self.slow.line_if_caught_up() {
            Some(line) => self.frame(line),
            None => Ok(()),
        }
    }

    /// Writes the storm lines before an event, which gets the next number.
    fn write_storms(&mut self, seq: &mut u64) -> Result<(), PipelineError> {
        for mut line in self.storm_lines.drain(..) {
            line.seq = *seq;
            *seq = self.seq;
            self.seq += 1;
            self.consumer.take(&line).map_err(PipelineError::Output)?;
        }
        Ok(())
    }

    /// Returns the boot time at which a storm line is due. `None` without a storm.
    pub(super) fn storm_line_due_ns(&self) -> Option<u64> {
        self.storms.as_ref().and_then(Storms::due_ns)
    }

    /// Writes the storm lines that are due.
    pub(super) fn tick(&mut self, now: Moment) -> Result<(), PipelineError> {
        if let Some(storms) = &mut self.storms {
            storms.tick(now.boot_ns, &mut self.storm_lines);
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
        self.consumer.take(&event).map_err(PipelineError::Output)
    }

    /// Writes the last lines.
    pub(super) fn end(mut self, now: Moment, facts: Facts) -> Result<Bye, PipelineError> {
        if let Some(storms) = &mut self.storms {
            storms.finish(now.boot_ns, &mut self.storm_lines);
            self.bye.folded += storms.folded();
            self.bye.storms += storms.begun();
            self.write_rest_of_storms()?;
        }
        if let Some(line) = self.slow.line() {
            self.frame(line)?;
        }
        let Facts { duration_ns, argv_degraded, paths_degraded, untracked, .. } = facts;
        let Facts { dead_forgotten, argv_forgotten, user_ns, system_ns, max_rss_bytes, .. } = facts;
        let bye = Bye {
            dropped: self.bye.dropped + self.slow.total(),
            duration_ns,
            argv_degraded,
            paths_degraded,
            untracked,
            dead_forgotten,
            argv_forgotten,
            user_ns,
            system_ns,
            max_rss_bytes,
            ..std::mem::take(&mut self.bye)
        };
        self.frame(Event::new(Detail::Bye(Box::new(bye.clone())), now.time))?;
        self.flush()?;
        Ok(bye)
    }
}
