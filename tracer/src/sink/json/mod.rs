//! Encodes events as JSON, one object a line.

mod line;

use std::io;

use super::Encoder;
use crate::event::Event;

/// Encodes schema 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLines;

impl Encoder for JsonLines {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        line::write(out, event)?;
        out.push(b'\n');
        Ok(())
    }
}
