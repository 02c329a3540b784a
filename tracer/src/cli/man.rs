//! `tracer man`: man pages.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, ExitCode, Globals, UsageError};

/// Print a man page, or write all pages to a directory
///
/// tracer man run | man -l -
/// tracer man --dir /usr/local/share/man/man1
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ManArgs {
    /// The command that the page describes (default: tracer itself)
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write tracer.1, tracer-stream.1 and all other pages to DIR
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(super) fn execute(args: &ManArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let pages = pages();
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for page in &pages {
            let file = dir.join(format!("{}.1", page.get_name()));
            fs::write(&file, render(page)?).with_context(|| format!("cannot write {}", file.display()))?;
        }
        return Ok(ExitCode::Done);
    }
    let name = args.command.as_ref().map_or_else(|| "tracer".to_owned(), |command| format!("tracer-{command}"));
    let page = pages.iter().find(|page| page.get_name() == name);
    let page = page.ok_or_else(|| {
        UsageError::new("man", format!("there is no page {name}: `tracer --help` lists the commands"))
    })?;
    globals.open()?.write_all(&render(page)?)?;
    Ok(ExitCode::Done)
}

/// Returns a command for each page: `tracer`, then `tracer-COMMAND` for each subcommand that is not hidden.
fn pages() -> Vec<Command> {
    let main = Cli::command();
    let shown = main.get_subcommands().filter(|command| !command.is_hide_set());
    let subcommands = shown.map(|command| {
        let name = format!("tracer-{}", command.get_name());
        // clap adds the global options to subcommands only when it parses.
        command.clone().name(name).version(env!("CARGO_PKG_VERSION")).args(main.get_arguments())
    });
    let subcommands: Vec<Command> = subcommands.collect();
    std::iter::once(main).chain(subcommands).collect()
}

fn render(page: &Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(page.clone()).render(&mut text)?;
    Ok(text)
}
