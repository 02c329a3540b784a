//! A recording as a [`EventSource`]: JSON lines of schema 1 in a file or on standard input, plain or compressed by zstd.

mod lines;
mod reader;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

use self::reader::{Batch, Batches, Raw};
use super::{EventSource, Facts, Flow, Moment, Opening, SourceError};
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Filtering, Hello, HelloSource, Kind, Lost, LostReason};

/// Most processes that are taken as running already. Further ones are ordinary events.
const MAX_RUNNING: usize = 1 << 18;

/// How to make a recording, for errors.
const HOW: &str = "make one with `tracer stream -o FILE` or `tracer run -o FILE -- CMD`";

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot open {name}: {error}: {HOW}")]
    Open { name: String, error: io::Error },
    #[error("cannot read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is empty, so it is no recording: {HOW}")]
    Empty { name: String },
    #[error("{name} is cut before its first event ends: {HOW}")]
    Cut { name: String },
    #[error("{name} is no recording: line {line} is no event ({error}): {HOW}")]
    NoRecording { name: String, line: u64, error: serde_json::Error },
    #[error("line {line} of {name} is no event ({error}): leave the line out, or record again")]
    Malformed { name: String, line: u64, error: serde_json::Error },
    #[error(
        "line {line} of {name} has schema version {version}, and this tracer knows versions up to {known}: use the tracer \
         that made it, or a later one"
    )]
    Newer { name: String, line: u64, version: u32, known: u32 },
    #[error("line {line} of {name} is longer than {mib} MiB: no event is")]
    TooLong { name: String, line: u64, mib: usize },
    #[error("{name} has events of another boot or machine after its `bye`: read one recording at a time")]
    AnotherBoot { name: String },
}

/// Reads a recording from its beginning to its end.
#[derive(Debug)]
pub struct Recording {
    name: String,
    /// Until the reading begins. The thread that reads starts no earlier: by then, signals are blocked for it.
    raw: Option<Raw>,
    batches: Option<Batches>,
    /// Events that were read and not handed out yet.
    waiting: Vec<Event>,
    ended: bool,
    hello: Option<Box<Hello>>,
    filtering: Option<Filtering>,
    /// True if the last framing line was `bye`.
    closed: bool,
    began: Option<Timestamp>,
    now: Moment,
    /// UTC less boot time, by the last event that has both.
    offset_ns: Option<i64>,
    facts: Option<Facts>,
}

impl Recording {
    /// Opens a file, or standard input for `-`.
    pub fn open(file: &Path) -> Result<Self, RecordingError> {
        let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        Ok(Self {
            raw: Some(reader::open(file, &name)?),
            batches: None,
            name,
            waiting: Vec::new(),
            ended: false,
            hello: None,
            filtering: None,
            closed: false,
            began: None,
            now: Moment::default(),
            offset_ns: None,
            facts: None,
        })
    }

    /// Options that filter its events, for `hello`.
    #[must_use]
    pub fn filtering(mut self, filtering: Option<Filtering>) -> Self {
        self.filtering = filtering;
        self
    }

    /// Waits for the next events and appends them to those that wait. False at the end.
    async fn read(&mut self) -> Result<bool, SourceError> {
        if self.ended {
            return Ok(false);
        }
        if let Some(raw) = self.raw.take() {
            self.batches = Some(reader::start(raw, &self.name)?);
        }
        let Some(batches) = &mut self.batches else { return Ok(false) };
        match batches.recv().await.transpose()? {
            Some(Batch::Events(events)) => {
                for event in events {
                    self.take(event)?;
                }
                Ok(true)
            }
            Some(Batch::End { torn }) => {
                self.end(torn);
                Ok(!self.waiting.is_empty())
            }
            None => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), RecordingError> {
        self.now.time = event.time;
        match (event.boot_ns, self.offset_ns) {
            (Some(boot_ns), _) => {
                self.now.boot_ns = self.now.boot_ns.max(boot_ns);
                self.offset_ns = Some(event.time.0.saturating_sub_unsigned(boot_ns));
            }
            (None, Some(offset)) => {
                let boot_ns = u64::try_from(event.time.0.saturating_sub(offset)).unwrap_or_default();
                self.now.boot_ns = self.now.boot_ns.max(boot_ns);
            }
            (None, None) => {}
        }
        self.began.get_or_insert(event.time);
        match event.detail {
            Detail::Hello(hello) => {
                self.closed = false;
                let same = |first: &Hello| first.boot_id == hello.boot_id && first.host == hello.host;
                if self.hello.as_deref().is_some_and(|first| !same(first)) {
                    return Err(RecordingError::AnotherBoot { name: self.name.clone() });
                }
                // A later one begins the next part of the same recording.
                self.hello.get_or_insert(hello);
            }
            Detail::Bye(bye) => {
                self.closed = true;
                let facts = self.facts.get_or_insert_default();
                facts.duration_ns += bye.duration_ns;
                facts.argv_degraded += bye.argv_degraded;
                facts.paths_degraded += bye.paths_degraded;
                facts.untracked += bye.untracked;
                facts.dead_forgotten += bye.dead_forgotten;
                facts.argv_forgotten += bye.argv_forgotten;
                facts.user_ns += bye.user_ns;
                facts.system_ns += bye.system_ns;
                facts.max_rss_bytes = facts.max_rss_bytes.max(bye.max_rss_bytes);
            }
            _ => self.waiting.push(event),
        }
        Ok(())
    }

    /// The end of the input. One that is not the end of a recording is reported: as a line and on standard error.
    fn end(&mut self, torn: Option<u64>) {
        self.ended = true;
        if let Some(line) = torn {
            tracing::warn!("{} ends in the middle of line {line}: the lines before it were read", self.name);
        } else if self.hello.is_some() && !self.closed {
            tracing::warn!("{} ends without `bye`: its recorder still writes, or was killed", self.name);
        } else {
            return;
        }
        let boot_ns = self.offset_ns.map(|_| self.now.boot_ns);
        let total = u64::from(torn.is_some());
        let lost = Lost { reason: LostReason::Recording, total, after_boot_ns: boot_ns, ..Lost::default() };
        let mut event = Event::new(Detail::Lost(Box::new(lost)), self.now.time);
        event.boot_ns = boot_ns;
        self.waiting.push(event);
    }

    fn opening_hello(&self) -> Event {
        let mut hello = self.hello.clone().unwrap_or_default();
        hello.source = Some(HelloSource::Recording);
        if let Some(filtering) = &self.filtering {
            let recorded = hello.filter.get_or_insert_default();
            let new: Vec<String> =
                filtering.user.iter().filter(|name| !recorded.user.contains(name)).cloned().collect();
            recorded.user.extend(new);
        }
        Event::new(Detail::Hello(hello), self.began.unwrap_or_default())
    }
}

/// Whether a line belongs to the processes that were running when the recording began.
fn is_of_beginning(event: &Event) -> bool {
    match event.kind() {
        Kind::Process => event.boot_ns.is_none(),
        Kind::ContainerInfo => true,
        _ => false,
    }
}

impl EventSource for Recording {
    async fn open(&mut self) -> Result<Opening, SourceError> {
        let beginning = loop {
            let length = self.waiting.iter().take(MAX_RUNNING).take_while(|event| is_of_beginning(event)).count();
            if length < self.waiting.len() || length == MAX_RUNNING || !self.read().await? {
                break length;
            }
        };
        let rest = self.waiting.split_off(beginning);
        let running = std::mem::replace(&mut self.waiting, rest);
        Ok(Opening { hello: self.opening_hello(), running })
    }

    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Flow, SourceError> {
        if self.waiting.is_empty() {
            while self.read().await? && self.waiting.is_empty() {}
        }
        out.append(&mut self.waiting);
        Ok(if self.ended { Flow::Ended } else { Flow::More })
    }

    fn stop(&mut self, _out: &mut Vec<Event>) -> Result<(), SourceError> {
        // The thread ends when nobody takes its next batch.
        if let Some(batches) = &mut self.batches {
            batches.close();
        }
        Ok(())
    }

    fn now(&self) -> Moment {
        self.now
    }

    fn time_until(&self, _boot_ns: u64) -> Option<Duration> {
        None
    }

    fn facts(&self) -> Facts {
        let traced = self.began.map_or(0, |began| self.now.time.0.saturating_sub(began.0));
        self.facts.unwrap_or(Facts { duration_ns: u64::try_from(traced).unwrap_or_default(), ..Facts::default() })
    }
}
