//! `tracer completions`: for the shell.

use std::io::Write as _;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, ExitCode, Globals};

/// Print completions for a shell
///
/// bash: tracer completions bash > /etc/bash_completion.d/tracer
/// zsh: tracer completions zsh > "${fpath[1]}/_tracer"
/// fish: tracer completions fish > ~/.config/fish/completions/tracer.fish
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(super) fn execute(args: &CompletionsArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    // clap_complete panics when it cannot write: memory can always be written.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tracer", &mut script);
    globals.open()?.write_all(&script)?;
    Ok(ExitCode::Done)
}
