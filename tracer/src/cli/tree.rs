//! `tracer tree`: the process tree, as pstree would draw it.

use clap::Args;

use super::{ExitCode, Globals};

/// Show the process tree, now or live
#[derive(Clone, Debug, Args)]
pub struct TreeArgs {}

pub(super) fn execute(_args: TreeArgs, _globals: &Globals) -> anyhow::Result<ExitCode> {
    anyhow::bail!("tree is not built yet: wait for it");
}
