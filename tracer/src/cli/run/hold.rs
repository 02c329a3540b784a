//! `tracer __hold`: the process that becomes CMD of `tracer run`, held until it is traced.
//!
//! tracer starts itself once more instead of forking by hand: a process with threads cannot safely do more
//! after fork than exec. What CMD is to inherit (descriptors, working directory, environment, signal
//! dispositions) is inherited by way of this one.

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

/// Name of the hidden subcommand.
pub(in crate::cli) const NAME: &str = "__hold";

/// As a shell: it was found, and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// As a shell: it was not found.
const NOT_FOUND: u8 = 127;

/// What it is started with.
#[derive(Clone, Debug, Args)]
#[command(name = NAME, hide = true)]
pub(in crate::cli) struct HoldArgs {
    /// Descriptor on which a byte comes when CMD may go
    go: RawFd,
    /// Descriptor for the reason why CMD could not be executed
    refused: RawFd,
    /// A signal that CMD is to ignore
    #[arg(long, value_name = "N")]
    ignore: Vec<i32>,
    /// CMD and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Waits, then becomes CMD.
pub(in crate::cli) fn execute(args: HoldArgs) -> anyhow::Result<ExitCode> {
    // SAFETY: tracer made both descriptors for this process, and nothing else here knows them.
    let (go, refused) = unsafe { (OwnedFd::from_raw_fd(args.go), OwnedFd::from_raw_fd(args.refused)) };
    for fd in [&go, &refused] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    if File::from(go).read(&mut [0])? == 0 {
        // tracer could not start tracing, and has said so.
        return Ok(ExitCode::Failure);
    }
    // Rust's start-up code ignores it (library/std/src/sys/pal/unix/mod.rs, `init`), whatever was inherited.
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    for number in args.ignore {
        // SAFETY: as above.
        unsafe { signal(Signal::try_from(number)?, SigHandler::SigIgn) }?;
    }
    for descriptor in inherited::closed() {
        // It was closed for tracer, and Rust's start-up code has opened /dev/null there.
        // SAFETY: nothing that is made later uses it.
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

/// The status with which a shell would end.
pub(in crate::cli) fn status_of(errno: Errno) -> u8 {
    if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE }
}
