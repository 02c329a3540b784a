//! Where events go. An [`Encoder`] turns them into bytes, a [`Writer`] buffers the bytes, and an [`Output`] is the file.

mod json;
mod open;
mod outlet;
mod output;
mod text;
mod writer;

use std::io;

pub use json::JsonLines;
pub use outlet::Outlet;
pub use output::{Existing, Output, OutputError, Target};
pub use text::TextLines;
pub use writer::{DrainError, LONGEST, Writer};

use crate::event::Event;
#[cfg(feature = "cli")]
use crate::view::style::TextStyle;

/// Turns events into bytes.
pub trait Encoder {
    /// Appends the bytes of an event.
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()>;
}

impl<E: Encoder + ?Sized> Encoder for Box<E> {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        (**self).encode(event, out)
    }
}

/// The format of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line (docs/schema/v1.json)
    #[default]
    Json,
    /// Aligned columns for people
    Text,
}

impl Format {
    /// Returns the encoder. Only formats for people use `colour`.
    pub fn encoder(self, colour: bool) -> Box<dyn Encoder> {
        match self {
            Self::Json => Box::new(JsonLines),
            Self::Text => Box::new(TextLines::new(TextStyle::of_system(), colour)),
        }
    }
}
