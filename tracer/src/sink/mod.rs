//! Where events go: an [`Encoder`] turns them into bytes, a [`Writer`] gathers and writes those, an [`Output`] is the file.

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
pub use text::{Look, TextLines};
pub use writer::{DrainError, LONGEST, Writer};

use crate::event::Event;

/// Turns events into bytes, one by one.
pub trait Encoder {
    /// Appends the bytes of an event.
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()>;
}

impl<E: Encoder + ?Sized> Encoder for Box<E> {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        (**self).encode(event, out)
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line (docs/schema/v1.json).
    #[default]
    Json,
    /// Aligned columns for people.
    Text,
}

impl Format {
    /// Its encoder; `colour` is for formats meant for people.
    pub fn encoder(self, colour: bool) -> Box<dyn Encoder> {
        match self {
            Self::Json => Box::new(JsonLines),
            Self::Text => Box::new(TextLines::new(Look::of_system(colour))),
        }
    }
}
