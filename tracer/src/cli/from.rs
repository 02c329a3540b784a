//! `--from`: reads a recording instead of the live kernel, through the same pipeline.

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
    /// FILE has the JSON lines that `tracer stream` or `tracer run -o` wrote, plain or compressed with zstd. This needs no
    /// privileges. Filters work as in a live trace. If the recorder was killed, the recording may end in the middle of a line.
    /// tracer reads it up to there. A `lost` line and a message on standard error report that.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    from: Option<PathBuf>,
}

impl FromArgs {
    /// Returns the file.
    pub fn file(&self) -> Option<&Path> {
        self.from.as_deref()
    }
}

/// Feeds a source to a consumer until it ends. Signals have their default effect, because nothing is drawn yet.
pub(super) fn play(source: impl EventSource, filter: Matcher, consumer: &mut dyn Consumer) -> anyhow::Result<Bye> {
    runtime()?.block_on(async {
        let wanted = Wanted { snapshot: true, ..Wanted::default() };
        Ok(pipeline::run(source, filter, consumer, &wanted, std::future::pending(), |_| true).await?)
    })
}

/// Calls a function with each event of a recording.
pub(super) fn each(recording: Recording, take: impl FnMut(&Event) -> io::Result<()>) -> anyhow::Result<Bye> {
    play(recording, Matcher::new(&Filter::default())?, &mut Each(take))
}

/// Opens a recording. Call it before the output is opened, so that a missing recording empties no file.
pub(super) fn open(file: &Path, globals: &Globals) -> anyhow::Result<Recording> {
    let same = |output: &Path| {
        let [a, b] = [file, output].map(|path| path.metadata().ok().filter(Metadata::is_file));
        a.zip(b).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
    };
    if globals.path().is_some_and(same) {
        bail!("cannot read and write {} at once: name another file with -o", file.display());
    }
    Ok(Recording::open(file)?)
}

/// Calls a function with each event.
struct Each<F>(F);

impl<F: FnMut(&Event) -> io::Result<()>> Consumer for Each<F> {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        (self.0)(event)
    }
}
