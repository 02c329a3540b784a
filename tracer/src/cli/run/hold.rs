//! `tracer __hold`: the process that becomes CMD of `tracer run`, held until it is traced.
//!
//! tracer executes itself instead of only forking, because after a fork a process with threads can safely do little more
//! than exec. CMD inherits descriptors, working directory, environment and signal dispositions through this process.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;

use clap::Args;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::cli::ExitCode;
use crate::sys::inherited::{self, Environment};
use crate::sys::sigwait;

/// The name of the hidden subcommand.
pub(in crate::cli) const NAME: &str = "__hold";

/// The exit status of a shell if a command was found but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The exit status of a shell if a command was not found.
const NOT_FOUND: u8 = 127;

/// The arguments that tracer passes to this process.
#[derive(Clone, Debug, Args)]
#[command(name = NAME, hide = true)]
pub(in crate::cli) struct HoldArgs {
    /// Descriptor to read a byte from before CMD is executed
    go: RawFd,
    /// Descriptor to write the error of the exec to
    refused: RawFd,
    /// A signal that CMD ignores
    #[arg(long, value_name = "N")]
    ignore: Vec<i32>,
    /// CMD and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Waits for the release, then executes CMD.
pub(in crate::cli) fn execute(args: HoldArgs) -> anyhow::Result<ExitCode> {
    // SAFETY: tracer made both descriptors for this process, and nothing else in it owns them.
    let (go, refused) = unsafe { (OwnedFd::from_raw_fd(args.go), OwnedFd::from_raw_fd(args.refused)) };
    for fd in [&go, &refused] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    if File::from(go).read(&mut [0])? == 0 {
        // tracer could not start to trace, and has reported that.
        return Ok(ExitCode::Failure);
    }
    // Rust's start-up code ignores SIGPIPE (library/std/src/sys/pal/unix/mod.rs, `init`), whatever was inherited.
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    for number in args.ignore {
        // SAFETY: as above.
        unsafe { signal(Signal::try_from(number)?, SigHandler::SigIgn) }?;
    }
    for descriptor in inherited::closed() {
        // The descriptor was closed in tracer. Rust's start-up code has opened /dev/null in its place.
        // SAFETY: nothing opened later uses the descriptor.
        unsafe { libc::close(descriptor) };
    }
    sigwait::inherited().set();
    let environment = Environment::if_changed();
    if let Some(environment) = &environment {
        // SAFETY: this process has one thread, and the next call is the exec.
        unsafe { environment.install() };
    }
    let words: Vec<CString> =
        args.command.into_iter().map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>()?;
    let Err(errno) = nix::unistd::execvp(&words[0], &words);
    File::from(refused).write_all(&(errno as i32).to_ne_bytes())?;
    Ok(ExitCode::Command(status_of(errno)))
}

/// Returns the exit status that a shell would end with.
pub(in crate::cli) fn status_of(errno: Errno) -> u8 {
    if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE }
}
