//! `tracer schema`: the contract of the JSON lines.

use std::io::Write as _;

use clap::Args;

use super::{ExitCode, Globals};
use crate::schema;

/// Print the JSON Schema of the JSON lines
///
/// Every line that `tracer stream` writes is valid against it. A key never changes its meaning within a version; new
/// ones may come.
#[derive(Clone, Debug, Args)]
pub(super) struct SchemaArgs {}

pub(super) fn execute(_: &SchemaArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    globals.open()?.write_all(schema::text().as_bytes())?;
    Ok(ExitCode::Done)
}
