//! `--from`: a recording instead of the live kernel. Every command takes it through the same pipeline.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::Globals;
use super::session::runtime;
use crate::event::{Bye, Event};
use crate::filter::{Filter, Matcher};
use crate::pipeline::consumer::Consumer;
use crate::pipeline::{self, Wanted};
use crate::source::EventSource;
use crate::source::recording::Recording;

/// Where events come from.
#[derive(Clone, Debug, clap::Args)]
pub struct FromArgs {
    /// Read a recording from FILE instead of tracing; - is standard input
    ///
    /// FILE has the JSON lines that `tracer stream` or `tracer run -o` wrote, plain or compressed by zstd. This needs no
    /// privileges. Filters work as they do live. A recording that is torn, because its recorder was killed, is read up to
    /// there; a `lost` line and a note on standard error say so.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    from: Option<PathBuf>,
}

impl FromArgs {
    /// The file, if one was given.
    pub fn file(&self) -> Option<&Path> {
        self.from.as_deref()
    }
}

/// Plays a source into a consumer until it ends. A signal ends tracer as it would any program: nothing is drawn yet.
pub(super) fn play(source: impl EventSource, filter: Matcher, consumer: &mut dyn Consumer) -> anyhow::Result<Bye> {
    runtime()?.block_on(async {
        let wanted = Wanted { snapshot: true, ..Wanted::default() };
        Ok(pipeline::run(source, filter, consumer, &wanted, std::future::pending(), |_| true).await?)
    })
}

/// Reads all events of a recording.
pub(super) fn each(recording: Recording, take: impl FnMut(&Event) -> io::Result<()>) -> anyhow::Result<Bye> {
    play(recording, Matcher::new(&Filter::default())?, &mut Each(take))
}

/// Opens a recording, before the output: a recording that is not there empties no file.
pub(super) fn open(file: &Path, globals: &Globals) -> anyhow::Result<Recording> {
    let same = |output: &Path| {
        let [a, b] = [file, output].map(|path| path.metadata().ok().filter(Metadata::is_file));
        a.zip(b).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
    };
    if globals.output.as_deref().is_some_and(same) {
        bail!("{} cannot be read and written at once: name another file with -o", file.display());
    }
    Ok(Recording::open(file)?)
}

/// A closure that takes events.
struct Each<F>(F);

impl<F: FnMut(&Event) -> io::Result<()>> Consumer for Each<F> {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        (self.0)(event)
    }
}
