//! `tracer completions`: completion scripts for shells.

use std::io::Write as _;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, ExitCode, Globals};

/// Print the completion script of a shell
///
/// bash: tracer completions bash > /etc/bash_completion.d/tracer
/// zsh: tracer completions zsh > "${fpath[1]}/_tracer"
/// fish: tracer completions fish > ~/.config/fish/completions/tracer.fish
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(args: &CompletionsArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    // Some scripts would list hidden commands too.
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set());
    let mut shown = Command::new("tracer").args(all.get_arguments()).subcommands(shown);
    // clap_complete panics if it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown, "tracer", &mut script);
    globals.open()?.write_all(&script)?;
    Ok(ExitCode::Done)
}
