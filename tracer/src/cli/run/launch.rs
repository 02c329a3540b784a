//! The command of `tracer run`, from tracer's side: started held, released, waited for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};
use tokio::process::{Child, Command};

use super::hold;
use super::signals::{Inherited, Signals};
use crate::cli::ExitCode;

/// A command that waits to be released.
pub(in crate::cli) struct Held {
    child: Child,
    pid: u32,
    go: Option<OwnedFd>,
    told: OwnedFd,
    status: Option<ExitStatus>,
    signals: Signals,
    /// A signal came by which tracer, too, was told to end.
    told_to_end: bool,
}

/// What became of a command that was let go.
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
    pub(in crate::cli) fn start(command: &[OsString]) -> anyhow::Result<Self> {
        // From here on they are caught; a new program begins with their defaults.
        let signals = Signals::catch()?;
        let inherited = Inherited::take()?;
        // The ends that the child takes along are without close-on-exec; it sets that itself.
        let (go_read, go) = pipe().context("cannot make a pipe")?;
        let (told, told_write) = pipe().context("cannot make a pipe")?;
        for fd in [&go, &told] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let mut child = Command::new("/proc/self/exe");
        child
            .arg0("tracer")
            .arg(hold::NAME)
            .arg(go_read.as_raw_fd().to_string())
            .arg(told_write.as_raw_fd().to_string())
            .args(inherited.ignored.iter().map(|signal| format!("--ignore={signal}")))
            .arg("--")
            .args(command);
        // A step of our own, even an empty one, makes the library fork and exec; by posix_spawn, glibc would leave its
        // internal signals ignored (sysdeps/unix/sysv/linux/spawni.c), and the command would inherit that.
        // SAFETY: it does nothing.
        unsafe { child.pre_exec(|| Ok(())) };
        let child = child.spawn().context("cannot start a process for the command")?;
        let pid = child.id().context("the process for the command ended at once")?;
        Ok(Self { child, pid, go: Some(go), told, status: None, signals, told_to_end: false })
    }

    /// Its pid; the same before and after it became the command.
    pub(in crate::cli) fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time it has used so far, in nanoseconds (first field of `/proc/PID/schedstat`); 0 if the kernel does not tell.
    pub(in crate::cli) fn cpu_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
    }

    /// Lets it become the command.
    pub(in crate::cli) async fn release(&mut self) -> anyhow::Result<Released> {
        // What came while it was held: it may have been too young to get its own.
        while let Ok((which, _)) = tokio::time::timeout(Duration::from_millis(1), self.signals.next()).await {
            let _ = kill(Pid::from_raw(self.pid as i32), which);
            self.told_to_end = true;
        }
        if let Some(go) = self.go.take()
            && let Err(error) = File::from(go).write_all(b"!")
        {
            // Ctrl-C reaches it as well as tracer.
            let status = self.child.wait().await.context("cannot wait for the command")?;
            self.status = Some(status);
            return match status.signal() {
                Some(_) => Ok(Released::Killed),
                None => Err(error).context("the held command is gone"),
            };
        }
        let mut errno = [0; 4];
        // The other end closes when the exec succeeds.
        match File::from(self.told.try_clone()?).read(&mut errno)? {
            4 => Ok(Released::NotStarted(Errno::from_raw(i32::from_ne_bytes(errno)))),
            _ => Ok(Released::Started),
        }
    }

    /// Done when the command has ended; with `linger` only when a signal says so after that. Signals that
    /// come before are passed on to the command.
    pub(in crate::cli) async fn ended(&mut self, linger: bool) {
        let Self { child, pid, status, signals, told_to_end, .. } = self;
        loop {
            let over = status.is_some();
            if over && !linger {
                return;
            }
            let (which, has_it) = tokio::select! {
                ended = child.wait(), if !over => {
                    *status = ended.ok();
                    if status.is_none() {
                        return;
                    }
                    continue;
                }
                came = signals.next() => came,
            };
            let ends = matches!(which, Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM);
            if over && ends {
                return;
            }
            *told_to_end |= matches!(which, Signal::SIGHUP | Signal::SIGTERM);
            if !over && !has_it {
                // It may just have ended; then there is nobody to tell.
                let _ = kill(Pid::from_raw(*pid as i32), which);
            }
        }
    }

    /// Done when a signal has told tracer to end: now that the command has ended, or before by one that ends both.
    pub(in crate::cli) async fn told_to_end(&mut self) {
        if !std::mem::take(&mut self.told_to_end) {
            self.ended(true).await;
        }
    }

    /// What tracer ends with: the command's own status, as a shell tells it. Waits for it.
    pub(in crate::cli) async fn code(&mut self) -> anyhow::Result<ExitCode> {
        self.ended(false).await;
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait().await.context("cannot wait for the command")?,
        };
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or_default();
        Ok(ExitCode::Command(code as u8))
    }
}
