//! Starts the command of `tracer run` held, releases it and waits for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::unistd::pipe;
use tokio::sync::watch;

use super::hold;
use super::signals::{self, Inherited, Seen, Signals};
use crate::cli::ExitCode;
use crate::sys::inherited::{self, Environment};
use crate::sys::sigwait::{self, Status};

/// A command that waits for its release.
pub(in crate::cli) struct HeldCommand {
    pid: u32,
    go: Option<OwnedFd>,
    /// The pipe to which the held process writes the error of its exec.
    refused: OwnedFd,
    seen: watch::Receiver<Seen>,
    /// Requests to end that were handled.
    handled: u32,
}

/// How the release of a command went.
pub(in crate::cli) enum Released {
    /// It was executed.
    Started,
    /// It could not be executed.
    NotStarted(Errno),
    /// It was killed while it was held.
    Killed,
}

impl HeldCommand {
    /// Starts another tracer process, which becomes the command.
    pub(in crate::cli) fn start(command: &[OsString], signals: Signals) -> anyhow::Result<Self> {
        let inherited = Inherited::take()?;
        // The child's ends have no close-on-exec flag. The child sets it.
        let (go_read, go) = pipe().context("cannot make a pipe")?;
        let (refused, refused_write) = pipe().context("cannot make a pipe")?;
        for fd in [&go, &refused] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let mut child = Command::new("/proc/self/exe");
        child
            .arg0("tracer")
            .arg(hold::NAME)
            .arg(go_read.as_raw_fd().to_string())
            .arg(refused_write.as_raw_fd().to_string())
            .args(inherited.ignored.iter().map(|signal| format!("--ignore={signal}")))
            .arg("--")
            .args(command);
        let mask = sigwait::inherited();
        let environment = Environment::if_changed();
        // With a `pre_exec` step, the library uses fork and exec. posix_spawn of glibc would leave its internal signals ignored
        // (sysdeps/unix/sysv/linux/spawni.c), and the command would inherit that.
        // SAFETY: the step only makes system calls and sets a pointer, which is safe between fork and exec.
        unsafe {
            child.pre_exec(move || {
                for descriptor in inherited::closed() {
                    libc::close(descriptor);
                }
                if let Some(environment) = &environment {
                    environment.install();
                }
                mask.set();
                Ok(())
            });
        }
        let child = child.spawn().context("cannot start a process for the command")?;
        // The thread that passes signals on waits for the child.
        let pid = child.id();
        let seen = signals.serve(pid)?;
        Ok(Self { pid, go: Some(go), refused, seen, handled: 0 })
    }

    /// Returns its pid, which the command keeps.
    pub(in crate::cli) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns its CPU time so far, in nanoseconds (first field of `/proc/PID/schedstat`). 0 if the kernel does not report it.
    pub(in crate::cli) fn cpu_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
    }

    /// Lets it execute the command.
    pub(in crate::cli) async fn release(&mut self) -> anyhow::Result<Released> {
        signals::release();
        if let Some(go) = self.go.take()
            && let Err(error) = File::from(go).write_all(b"!")
        {
            // Ctrl-C reaches both tracer and the held process.
            return match self.status().await {
                Status::Killed(_) => Ok(Released::Killed),
                _ => Err(error).context("cannot start the command: its process is gone"),
            };
        }
        let mut errno = [0; 4];
        // The other end closes when the exec succeeds.
        match File::from(self.refused.try_clone()?).read(&mut errno)? {
            4 => Ok(Released::NotStarted(Errno::from_raw(i32::from_ne_bytes(errno)))),
            _ => Ok(Released::Started),
        }
    }

    /// Completes when the command has exited. With `linger`, waits for a later signal too.
    pub(in crate::cli) async fn ended(&mut self, linger: bool) {
        // An error means that the thread has ended, which happens only at the end of the process.
        let _ = self.seen.wait_for(|seen| seen.ended.is_some() && (!linger || seen.late > 0)).await;
    }

    /// Completes when a signal asks tracer to end: after the exit of the command, or before by a signal that ends both.
    pub(in crate::cli) async fn stop_requested(&mut self) {
        let handled = self.handled;
        let _ = self.seen.wait_for(|seen| seen.requests > handled).await;
        self.handled = self.seen.borrow().requests;
    }

    async fn status(&mut self) -> Status {
        let seen = self.seen.wait_for(|seen| seen.ended.is_some()).await;
        seen.ok().and_then(|seen| seen.ended).unwrap_or(Status::Unknown)
    }

    /// Waits for the command and returns its status as a shell reports it.
    pub(in crate::cli) async fn code(&mut self) -> anyhow::Result<ExitCode> {
        match self.status().await {
            Status::Exited(code) => Ok(ExitCode::Command(code as u8)),
            Status::Killed(number) => Ok(ExitCode::Command((128 + number) as u8)),
            Status::Unknown => {
                anyhow::bail!("the exit status of the command is unknown: another thread or process waited for it")
            }
        }
    }
}
