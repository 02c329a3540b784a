//! One JSON object a line.

mod line;

use std::io::{self, Write};

use super::Sink;
use crate::event::Event;

/// Bytes that are gathered before they are written.
const CHUNK: usize = 128 * 1024;

/// Writes schema 1. Lines are gathered whole, so a write ends where a line ends: whoever follows the output,
/// or finds it after a crash, sees whole lines.
#[derive(Debug)]
pub struct JsonSink<W> {
    lines: Vec<u8>,
    output: W,
}

impl<W: Write> JsonSink<W> {
    /// Onto an output, which need not be buffered.
    pub fn new(output: W) -> Self {
        Self { lines: Vec::with_capacity(2 * CHUNK), output }
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.output.write_all(&self.lines);
        // What could not be written is not written again: the caller ends, and says why.
        self.lines.clear();
        written
    }
}

impl<W: Write + Send> Sink for JsonSink<W> {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        line::write(&mut self.lines, event)?;
        self.lines.push(b'\n');
        if self.lines.len() >= CHUNK { self.drain() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.drain()?;
        }
        self.output.flush()
    }
}
