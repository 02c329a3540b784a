//! Decides the exit status of tracer, and prints its errors.

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
    /// 0: done, also after SIGHUP, SIGINT or SIGTERM, or when the reader closed the output.
    Done,
    /// 1: failed. One line on standard error names the cause and the remedy.
    Failure,
    /// 2: wrong usage.
    Usage,
    /// 1: a comparison found a difference, as with `diff`.
    Differs,
    /// 2: a comparison failed, as with `diff`. One line on standard error names the cause.
    Trouble,
    /// The status of the command of `tracer run`.
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

/// Options that are valid separately, but not together.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    command: &'static str,
    message: String,
}

impl UsageError {
    /// Creates an error of a subcommand.
    pub fn new(command: &'static str, message: impl Into<String>) -> Self {
        Self { command, message: message.into() }
    }
}

/// Prints the error of a result, and returns the exit status.
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
        // There is no remedy if standard error cannot be written.
        let _ = error.map(|error| error.print());
        return ExitCode::Usage;
    }
    print(&error);
    ExitCode::Failure
}

/// Ends the process because an allocation of a given size failed. Allocates nothing.
pub fn out_of_memory(bytes: usize) -> ! {
    // Restoring the terminal may need memory, too. Then this function is called again.
    static BEGUN: AtomicBool = AtomicBool::new(false);
    if !BEGUN.swap(true, Ordering::Relaxed) {
        screen::restore_now();
    }
    let mut text = [0; 160];
    let mut rest = &mut text[..];
    // It fails only if the text does not fit.
    let _ = writeln!(
        rest,
        "tracer: cannot allocate {bytes} bytes: raise the limit (`ulimit -v`, memory.max), or lower --max-memory and --ring-size"
    );
    let left = rest.len();
    let _ = nix::unistd::write(io::stderr().as_fd(), &text[..text.len() - left]);
    // Without destructors, which may allocate.
    // SAFETY: it takes an integer and does not return.
    unsafe { nix::libc::_exit(1) }
}

/// Returns the exit status of a comparison. A failure differs from a difference.
pub(super) fn of_comparison(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        print(&error);
        ExitCode::Trouble
    })
}

/// Prints an error to standard error.
fn print(error: &anyhow::Error) {
    // Not `eprintln!`, which panics when standard error cannot be written.
    let _ = writeln!(io::stderr(), "tracer: {}", line(error));
}

/// Returns an error and its causes as one line, escaped for a terminal. Repeated causes are left out.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    escape::text(&line).into_owned()
}

/// Returns the value of a result, or `None` if the only error is that the reader closed the output.
pub(super) fn unless_closed_pipe<T>(result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match result {
        Err(error) if is_closed_pipe(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns whether the error is that the reader closed the output.
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
    fn causes_are_on_one_line_and_escaped() {
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
