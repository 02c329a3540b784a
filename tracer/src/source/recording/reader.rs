//! Opens a recording and decodes its lines, on a separate thread: a pipe that stalls does not delay the handling of signals.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::RecordingError;
use super::lines::{Line, Lines, MAX_LINE};
use crate::event::{Event, SCHEMA_VERSION};

/// Events and bytes of text after which a batch is handed over, and batches that may wait: this bounds the memory.
const BATCH_EVENTS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
const BATCHES: usize = 4;

/// First bytes of a zstd frame, and of one that holds no data (RFC 8878, 3.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// What the thread hands over.
#[derive(Debug)]
pub(super) enum Batch {
    /// Events.
    Events(Vec<Event>),
    /// The end. `torn` if it is in the middle of a line, whose number it is.
    End {
        /// Number of the line that is not whole.
        torn: Option<u64>,
    },
}

pub(super) type Batches = mpsc::Receiver<Result<Batch, RecordingError>>;

/// What is read.
#[derive(Debug)]
pub(super) enum Raw {
    /// Standard input.
    Stdin,
    /// A file that is open.
    File(File),
}

/// Opens a file, or standard input for `-`.
pub(super) fn open(file: &Path, name: &str) -> Result<Raw, RecordingError> {
    if file == Path::new("-") {
        return Ok(Raw::Stdin);
    }
    let wrap = |error| RecordingError::Open { name: name.to_owned(), error };
    let file = File::open(file).map_err(wrap)?;
    if file.metadata().map_err(wrap)?.is_dir() {
        return Err(wrap(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Raw::File(file))
}

/// Begins to read.
pub(super) fn start(raw: Raw, name: &str) -> Result<Batches, RecordingError> {
    let raw: Box<dyn Read + Send> = match raw {
        Raw::Stdin => Box::new(io::stdin()),
        Raw::File(file) => Box::new(file),
    };
    let (batches, received) = mpsc::channel(BATCHES);
    let name = name.to_owned();
    let reader = thread::Builder::new().name("tracer-reader".into());
    let failed = RecordingError::Read { name: name.clone(), error: io::ErrorKind::Other.into() };
    let started = reader.spawn(move || {
        let result = decompressed(raw)
            .map_err(|error| RecordingError::Read { name: name.clone(), error })
            .and_then(|input| read(&mut Lines::new(input), &name, &batches));
        if let Err(error) = result {
            // It fails when the rest is not wanted.
            let _ = batches.blocking_send(Err(error));
        }
    });
    started.map_err(|_| failed)?;
    Ok(received)
}

/// What zstd compressed is decompressed.
fn decompressed(raw: Box<dyn Read + Send>) -> io::Result<Box<dyn BufRead>> {
    let mut raw = BufReader::with_capacity(BATCH_BYTES, raw);
    // One read may return a part: a pipe gives what there is.
    let mut magic = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut magic)?;
    let compressed = magic == ZSTD_MAGIC || magic.get(1..) == Some(&ZSTD_SKIPPABLE) && magic[0] & 0xf0 == 0x50;
    let whole = BufReader::with_capacity(BATCH_BYTES, io::Cursor::new(magic).chain(raw));
    if compressed {
        let decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
        return Ok(Box::new(BufReader::with_capacity(BATCH_BYTES, decoder)));
    }
    Ok(Box::new(whole))
}

fn read(
    lines: &mut Lines<Box<dyn BufRead>>,
    name: &str,
    batches: &mpsc::Sender<Result<Batch, RecordingError>>,
) -> Result<(), RecordingError> {
    let (mut events, mut bytes, mut any) = (Vec::new(), 0, false);
    let torn = loop {
        let line = lines.next().map_err(|error| RecordingError::Read { name: name.to_owned(), error })?;
        let (text, whole) = match line {
            Line::Whole(text) => (text, true),
            Line::Rest(text) => (text, false),
            Line::TooLong => {
                return Err(RecordingError::TooLong { name: name.to_owned(), line: lines.number, mib: MAX_LINE >> 20 });
            }
            Line::End => break lines.torn.then_some(lines.number + 1),
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        bytes += text.len();
        match decode(text) {
            Ok(event) => events.push(event),
            // A line that was cut ends the recording, if there is a recording.
            Err(Refusal::Malformed(_)) if !whole && any => break Some(lines.number),
            Err(refusal) => {
                // What came before is handed over first.
                if any && !events.is_empty() {
                    let _ = batches.blocking_send(Ok(Batch::Events(events)));
                }
                return Err(refusal.of(name, lines.number, any));
            }
        }
        any = true;
        if events.len() == BATCH_EVENTS || bytes >= BATCH_BYTES {
            bytes = 0;
            if batches.blocking_send(Ok(Batch::Events(std::mem::take(&mut events)))).is_err() {
                return Ok(());
            }
        }
    };
    if !any {
        let name = name.to_owned();
        return Err(if lines.torn { RecordingError::Cut { name } } else { RecordingError::Empty { name } });
    }
    // These fail when the rest is not wanted.
    let _ = batches.blocking_send(Ok(Batch::Events(events)));
    let _ = batches.blocking_send(Ok(Batch::End { torn }));
    Ok(())
}

/// Why a line is refused.
enum Refusal {
    Malformed(serde_json::Error),
    Newer(u32),
}

impl Refusal {
    fn of(self, name: &str, line: u64, any: bool) -> RecordingError {
        let name = name.to_owned();
        match self {
            Self::Newer(version) => RecordingError::Newer { name, line, version, known: SCHEMA_VERSION },
            Self::Malformed(error) if any => RecordingError::Malformed { name, line, error },
            Self::Malformed(error) => RecordingError::NoRecording { name, line, error },
        }
    }
}

fn decode(text: &[u8]) -> Result<Event, Refusal> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let newer = |v: u32| (v > SCHEMA_VERSION).then_some(Refusal::Newer(v));
    match serde_json::from_slice::<Event>(text) {
        Ok(event) => newer(event.v).map_or(Ok(event), Err),
        Err(error) => {
            let version = serde_json::from_slice::<Version>(text).ok().and_then(|version| newer(version.v));
            Err(version.unwrap_or(Refusal::Malformed(error)))
        }
    }
}
