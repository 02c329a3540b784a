//! The command of `tracer run`, from tracer's side: started held, released, waited for.

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

/// A command that waits to be released.
pub(in crate::cli) struct Held {
    pid: u32,
    go: Option<OwnedFd>,
    /// Where the held process writes why it could not become the command.
    refused: OwnedFd,
    seen: watch::Receiver<Seen>,
    /// Requests to end that were obeyed.
    obeyed: u32,
}

/// How the release of a command went.
pub(in crate::cli) enum Released {
    /// It runs, or has run.
    Started,
    /// It could not be executed.
    NotStarted(Errno),
    /// It was killed while it was held.
    Killed,
}

impl Held {
    /// Starts tracer once more, as what will become the command.
    pub(in crate::cli) fn start(command: &[OsString], signals: Signals) -> anyhow::Result<Self> {
        let inherited = Inherited::take()?;
        // The ends that the child takes along are without close-on-exec; it sets that itself.
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
        // With a step like this the library forks and execs. By posix_spawn, glibc would leave its internal signals ignored
        // (sysdeps/unix/sysv/linux/spawni.c), and the command would inherit that.
        // SAFETY: system calls and a pointer only, which is safe between fork and exec.
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
        // It is waited for by the thread that passes signals on.
        let pid = child.id();
        let seen = signals.serve(pid)?;
        Ok(Self { pid, go: Some(go), refused, seen, obeyed: 0 })
    }

    /// Its pid; the same before and after it became the command.
    pub(in crate::cli) fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time it has used so far, in nanoseconds (first field of `/proc/PID/schedstat`); 0 if the kernel does not say.
    pub(in crate::cli) fn cpu_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
    }

    /// Lets it become the command.
    pub(in crate::cli) async fn release(&mut self) -> anyhow::Result<Released> {
        signals::release();
        if let Some(go) = self.go.take()
            && let Err(error) = File::from(go).write_all(b"!")
        {
            // Ctrl-C reaches it as well as tracer.
            return match self.status().await {
                Status::Killed(_) => Ok(Released::Killed),
                _ => Err(error).context("the held command is gone"),
            };
        }
        let mut errno = [0; 4];
        // The other end closes when the exec succeeds.
        match File::from(self.refused.try_clone()?).read(&mut errno)? {
            4 => Ok(Released::NotStarted(Errno::from_raw(i32::from_ne_bytes(errno)))),
            _ => Ok(Released::Started),
        }
    }

    /// Done when the command has ended; with `linger` only when a signal says so after that.
    pub(in crate::cli) async fn ended(&mut self, linger: bool) {
        // It fails only once the thread has ended, and that ends with the process.
        let _ = self.seen.wait_for(|seen| seen.ended.is_some() && (!linger || seen.late > 0)).await;
    }

    /// Done when a signal has asked tracer to end: now that the command has ended, or before by one that ends both.
    pub(in crate::cli) async fn told_to_end(&mut self) {
        let obeyed = self.obeyed;
        let _ = self.seen.wait_for(|seen| seen.requests > obeyed).await;
        self.obeyed = self.seen.borrow().requests;
    }

    async fn status(&mut self) -> Status {
        let seen = self.seen.wait_for(|seen| seen.ended.is_some()).await;
        seen.ok().and_then(|seen| seen.ended).unwrap_or(Status::Unknown)
    }

    /// What tracer ends with: the command's own status, as a shell reports it. Waits for it.
    pub(in crate::cli) async fn code(&mut self) -> anyhow::Result<ExitCode> {
        match self.status().await {
            Status::Exited(code) => Ok(ExitCode::Command(code as u8)),
            Status::Killed(number) => Ok(ExitCode::Command((128 + number) as u8)),
            Status::Unknown => {
                anyhow::bail!("the status of the command is lost: another thread or process waited for it")
            }
        }
    }
}
