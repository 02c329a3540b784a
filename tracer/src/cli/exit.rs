//! The one place that decides how tracer ends, and what it says then.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory};

use super::{Cli, screen};
use crate::pipeline::PipelineError;
use crate::sink::{DrainError, OutputError};
use crate::view::escape;

/// How tracer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: done, also when ended by SIGHUP, SIGINT or SIGTERM, or because the reader is gone.
    Done,
    /// 1: it could not do what was asked; one line on standard error says why, and the remedy.
    Failure,
    /// 2: it was not asked in a way it understands.
    Usage,
    /// 1: a comparison was made, and something differs, as with `diff`.
    Differs,
    /// 2: no comparison could be made, as with `diff`; one line on standard error says why.
    Trouble,
    /// `tracer run`: whatever its command ended with.
    Command(u8),
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        match code {
            ExitCode::Done => Self::SUCCESS,
            ExitCode::Failure | ExitCode::Differs => Self::FAILURE,
            ExitCode::Usage | ExitCode::Trouble => Self::from(2),
            ExitCode::Command(status) => Self::from(status),
        }
    }
}

/// Options that are right one by one, and wrong together.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    command: &'static str,
    message: String,
}

impl UsageError {
    /// About a subcommand.
    pub fn new(command: &'static str, message: impl Into<String>) -> Self {
        Self { command, message: message.into() }
    }
}

/// Says what there is to say about a result, and gives the status to end with.
pub(super) fn conclude(result: anyhow::Result<ExitCode>, colour: ColorChoice) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_closed_pipe(&error) {
        return ExitCode::Done;
    }
    if let Some(usage) = error.downcast_ref::<UsageError>() {
        let mut cli = Cli::command().color(colour);
        cli.build();
        let command = cli.find_subcommand_mut(usage.command);
        let error = command.map(|command| command.error(ErrorKind::ValueValidation, &usage.message));
        // Nothing is left to be done if standard error cannot be written.
        let _ = error.map(|error| error.print());
        return ExitCode::Usage;
    }
    say(&error);
    ExitCode::Failure
}

/// Ends the process because an allocation of a given size failed. Allocates nothing.
pub fn out_of_memory(bytes: usize) -> ! {
    // Giving the terminal back might need memory, too: then this is called once more.
    static BEGUN: AtomicBool = AtomicBool::new(false);
    if !BEGUN.swap(true, Ordering::Relaxed) {
        screen::restore_now();
    }
    let mut text = [0; 160];
    let mut rest = &mut text[..];
    // It fails only if the text is too long.
    let _ = writeln!(
        rest,
        "tracer: no memory for {bytes} more bytes: raise the limit (`ulimit -v`, memory.max), or lower --max-memory and --ring-size"
    );
    let left = rest.len();
    let _ = nix::unistd::write(io::stderr().as_fd(), &text[..text.len() - left]);
    // SAFETY: it takes an integer and does not return. Destructors might allocate.
    unsafe { nix::libc::_exit(1) }
}

/// A comparison that could not be made ends otherwise than one that found a difference.
pub(super) fn of_comparison(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        say(&error);
        ExitCode::Trouble
    })
}

fn say(error: &anyhow::Error) {
    // Not `eprintln!`, which panics when standard error cannot be written.
    let _ = writeln!(io::stderr(), "tracer: {}", line(error));
}

/// An error and its causes in one line that is safe for a terminal. What a cause says is left out where it was said already.
fn line(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    escape::text(&told).into_owned()
}

/// What came of it; none if only nobody reads our output any more.
pub(super) fn unless_closed_pipe<T>(result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match result {
        Err(error) if is_closed_pipe(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// True when the error is that nobody reads our output any more.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let of_output = |error: &io::Error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<OutputError>());
        inner.is_some_and(OutputError::is_closed_pipe)
    };
    error.chain().any(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(PipelineError::Output(error)), _) | (_, Some(DrainError::Output(error))) => of_output(error),
        _ => cause.downcast_ref::<io::Error>().is_some_and(of_output),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;
    use crate::sink::Output;

    #[test]
    fn causes_stand_in_one_line_and_do_not_reach_the_terminal_raw() {
        let error = Err::<(), _>(anyhow!("no \x1b[31mway\nat all")).context("cannot do it").unwrap_err();
        assert_eq!(line(&error), r"cannot do it: no \x1b[31mway\nat all");
    }

    #[test]
    fn only_a_closed_pipe_of_the_output_is_an_ordinary_end() {
        let other = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!is_closed_pipe(&other));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Output::from(writer);
        let mut closed = || output.write(b"x").unwrap_err();
        let [direct, piped] = std::array::from_fn(|_| closed());
        assert!(is_closed_pipe(&anyhow::Error::from(direct).context("while writing")));
        assert!(is_closed_pipe(&anyhow::Error::from(PipelineError::Output(piped))));
    }
}
