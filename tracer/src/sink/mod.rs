//! Where events go: a [`Sink`] turns them into bytes, an [`Output`] is where the bytes go.

mod json;
mod open;
mod outlet;
mod output;
#[cfg(feature = "cli")]
mod text;

use std::io;

#[cfg(feature = "cli")]
use outlet::Watched;

pub use json::JsonSink;
pub use outlet::{Backlog, Outlet};
pub use output::{Existing, Output, OutputError, Target};
#[cfg(feature = "cli")]
pub use text::{Look, TextSink};

use crate::event::Event;

/// Takes events one by one. Nothing need be visible before [`Sink::flush`], which ends a batch.
pub trait Sink: Send {
    /// Takes one event.
    fn write(&mut self, event: &Event) -> io::Result<()>;
    /// Makes visible what was taken.
    fn flush(&mut self) -> io::Result<()>;
    /// What the reader of the output has not taken yet; none if what is flushed is written.
    fn backlog(&self) -> Option<Backlog> {
        None
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// One JSON object a line (docs/schema/v1.json).
    #[default]
    Json,
    /// Aligned columns for people.
    #[cfg(feature = "cli")]
    Text,
}

/// The sink that writes in a format; `colour` is for formats meant for people. It never waits for a reader: its
/// [`Backlog`] has room for `room` bytes.
#[cfg(feature = "cli")]
pub fn open(format: Format, output: Output, colour: bool, room: u64) -> io::Result<Box<dyn Sink>> {
    let outlet = Outlet::new(output, room)?;
    let backlog = outlet.backlog();
    Ok(match format {
        Format::Json => Box::new(Watched { sink: JsonSink::new(outlet), backlog }),
        Format::Text => Box::new(Watched { sink: TextSink::new(outlet, Look::of_system(colour)), backlog }),
    })
}
