//! The command of `tracer run`, from tracer's side: started held, released, waited for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};

use super::{ExitCode, hold};

/// A command that waits to be released.
pub(super) struct Held {
    child: Child,
    pid: u32,
    go: Option<OwnedFd>,
    told: OwnedFd,
    status: Option<ExitStatus>,
    signals: Signals,
}

/// Signals that are meant for the command. A terminal sends SIGINT and SIGQUIT to it as well; the others it gets from us.
///
/// None for one that is ignored (as under nohup, or in the background of a script): it stays so, for the command too.
struct Signals {
    interrupt: Option<Caught>,
    quit: Option<Caught>,
    terminate: Option<Caught>,
    hangup: Option<Caught>,
}

/// Catches a signal from now on, unless it is ignored.
fn catch(which: Signal) -> anyhow::Result<Option<Caught>> {
    // SAFETY: without a new action it only writes the old one, a plain structure that may be all zero before.
    let ignored = unsafe {
        let mut old: nix::libc::sigaction = std::mem::zeroed();
        nix::libc::sigaction(which as i32, std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == nix::libc::SIG_IGN
    };
    if ignored { Ok(None) } else { Ok(Some(signal(SignalKind::from_raw(which as i32))?)) }
}

/// Done when it comes; never, if it is ignored.
async fn next(caught: &mut Option<Caught>) {
    match caught {
        Some(caught) => drop(caught.recv().await),
        None => std::future::pending().await,
    }
}

impl Held {
    /// Starts tracer once more, as what will become the command.
    pub(super) fn start(command: &[OsString]) -> anyhow::Result<Self> {
        // From here on they are caught; a new program begins with their defaults.
        let signals = Signals {
            interrupt: catch(Signal::SIGINT)?,
            quit: catch(Signal::SIGQUIT)?,
            terminate: catch(Signal::SIGTERM)?,
            hangup: catch(Signal::SIGHUP)?,
        };
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
            .arg("--")
            .args(command);
        // A step of our own, even an empty one, makes the library fork and exec; by posix_spawn, glibc would leave its
        // internal signals ignored (sysdeps/unix/sysv/linux/spawni.c), and the command would inherit that.
        // SAFETY: it does nothing.
        unsafe { child.pre_exec(|| Ok(())) };
        let child = child.spawn().context("cannot start a process for the command")?;
        let pid = child.id().context("the process for the command ended at once")?;
        Ok(Self { child, pid, go: Some(go), told, status: None, signals })
    }

    /// Its pid; the same before and after it became the command.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time it has used so far, in nanoseconds (first field of `/proc/PID/schedstat`); 0 if the kernel does not tell.
    pub(super) fn cpu_ns(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
    }

    /// Lets it become the command. Tells why it could not.
    pub(super) fn release(&mut self) -> anyhow::Result<Option<Errno>> {
        if let Some(go) = self.go.take() {
            File::from(go).write_all(b"!").context("the held command is gone")?;
        }
        let mut errno = [0; 4];
        // The other end closes when the exec succeeds.
        match File::from(self.told.try_clone()?).read(&mut errno)? {
            4 => Ok(Some(Errno::from_raw(i32::from_ne_bytes(errno)))),
            _ => Ok(None),
        }
    }

    /// Done when the command has ended; with `linger` only when a signal says so after that. Signals that
    /// come before are passed on to the command.
    pub(super) async fn ended(&mut self, linger: bool) {
        let Self { child, pid, status, signals, .. } = self;
        let pass_on = |which| {
            // It may just have ended; then there is nobody to tell.
            let _ = kill(Pid::from_raw(*pid as i32), which);
        };
        loop {
            let over = status.is_some();
            let which = tokio::select! {
                ended = child.wait(), if !over => {
                    *status = ended.ok();
                    if !linger || status.is_none() {
                        return;
                    }
                    continue;
                }
                () = next(&mut signals.interrupt) => None,
                () = next(&mut signals.quit) => None,
                () = next(&mut signals.terminate) => Some(Signal::SIGTERM),
                () = next(&mut signals.hangup) => Some(Signal::SIGHUP),
            };
            match which {
                _ if over => return,
                Some(which) => pass_on(which),
                None => {}
            }
        }
    }

    /// What tracer ends with: the command's own status, as a shell tells it. Waits for it.
    pub(super) async fn code(&mut self) -> anyhow::Result<ExitCode> {
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait().await.context("cannot wait for the command")?,
        };
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or_default();
        Ok(ExitCode::Command(code as u8))
    }
}
