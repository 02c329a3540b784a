//! `tracer schema`: the contract of the JSON lines.

use std::io::Write as _;

use clap::Args;

use super::{ExitCode, Globals};
use crate::event::schema;

/// Print the JSON Schema of the JSON lines
///
/// Every line that `tracer stream` writes is valid against it. A key never changes its meaning within a version; new
/// ones may come.
#[derive(Clone, Debug, Args)]
pub(super) struct SchemaArgs {
    /// That of what `tracer containers --audit --json` writes instead
    #[arg(long)]
    audit: bool,

    /// That of what `tracer containers --diff --json` writes instead
    #[arg(long, conflicts_with = "audit")]
    diff: bool,

    /// That of what `tracer containers --json` writes instead
    #[arg(long, conflicts_with_all = ["audit", "diff"])]
    containers: bool,
}

pub(super) fn execute(args: &SchemaArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let text = match args {
        SchemaArgs { audit: true, .. } => schema::start_text(),
        SchemaArgs { diff: true, .. } => schema::diff_text(),
        SchemaArgs { containers: true, .. } => schema::container_text(),
        _ => schema::text(),
    };
    globals.open()?.write_all(text.as_bytes())?;
    Ok(ExitCode::Done)
}
