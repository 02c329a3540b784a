//! `tracer schema`: prints the JSON Schema of the output.

use std::io::Write as _;

use clap::Args;

use super::{ExitCode, Globals};
use crate::event::schema;

/// Print the JSON Schema of the JSON lines
///
/// Every line that `tracer stream` writes is valid against it. A key keeps its meaning within a version. A version may get new
/// keys.
#[derive(Clone, Debug, Args)]
pub(super) struct SchemaArgs {
    /// Print the schema of `tracer containers --audit --json` instead
    #[arg(long)]
    audit: bool,

    /// Print the schema of `tracer containers --diff --json` instead
    #[arg(long, conflicts_with = "audit")]
    diff: bool,

    /// Print the schema of `tracer containers --json` instead
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
