//! Events from a file.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;

use crate::event::Event;

/// Reads events from a file, line by line.
pub(super) fn read(file: &Path, mut take: impl FnMut(&Event) -> io::Result<()>) -> anyhow::Result<()> {
    let named = || file.display().to_string();
    let reader: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot open {}", named()))?)
    };
    for (number, text) in BufReader::new(reader).lines().enumerate() {
        let text = text.with_context(|| format!("cannot read {}", named()))?;
        if text.is_empty() {
            continue;
        }
        let event: Event = serde_json::from_str(&text).with_context(|| {
            format!("line {} of {} is no event, as `tracer stream` writes them", number + 1, named())
        })?;
        take(&event)?;
    }
    Ok(())
}
