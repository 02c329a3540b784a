//! Where events go: a [`Sink`] turns them into bytes, an [`Output`] is where the bytes go.

mod json;
mod output;
mod text;

use std::io;

use clap::ValueEnum;

pub use json::JsonSink;
pub use output::{Output, OutputError, Target};
pub use text::{Look, TextSink};

use crate::event::Event;

/// Takes events one by one. Nothing need be visible before [`Sink::flush`], which ends a batch.
pub trait Sink: Send {
    /// Takes one event.
    fn write(&mut self, event: &Event) -> io::Result<()>;
    /// Makes visible what was taken.
    fn flush(&mut self) -> io::Result<()>;
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line (docs/schema/v1.json).
    #[default]
    Json,
    /// Aligned columns for people.
    Text,
}

/// The sink that writes in a format; `colour` is for formats meant for people.
pub fn open(format: Format, output: Output, colour: bool) -> Box<dyn Sink> {
    match format {
        Format::Json => Box::new(JsonSink::new(output)),
        Format::Text => Box::new(TextSink::new(output, Look::of_system(colour))),
    }
}
