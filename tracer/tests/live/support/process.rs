//! Child processes with time limits. A test that hangs reports which process hangs.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::proc;

/// Time limit for everything here, unless a case sets another. `TRACER_TEST_BOUND`, in seconds, sets it at build time
/// for machines that emulate every instruction.
pub(crate) const BOUND: Duration = Duration::from_secs(match option_env!("TRACER_TEST_BOUND") {
    Some(seconds) => match u64::from_str_radix(seconds, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("TRACER_TEST_BOUND is a number of seconds"),
    },
    None => 40,
});

/// Factor for the time that things take where the clock runs on while the emulator has no CPU. CPU time that is used
/// on purpose grows with it, so the bounds on it stay equally narrow.
pub(crate) const SLOWNESS: u32 = if option_env!("TRACER_TEST_BOUND").is_some() { 5 } else { 1 };

/// Copies a program that will be executed. A separate process does it. If this process wrote the file, a child that
/// another test forks at that moment would hold it open too. Until that child execs, executing the file fails with
/// `ETXTBSY`.
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = Command::new("cp").args([from, to]).status().expect("cp is installed");
    assert!(copied.success(), "{} was not copied to {}", from.display(), to.display());
}

/// Writes a script that will be executed, as [`copy_program`] does.
pub(crate) fn write_script(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a new file");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("our own file");
    copy_program(&draft, path);
}

/// A child that is killed if it is still running when the test ends.
pub(crate) struct Guarded {
    child: Child,
    status: Option<ExitStatus>,
}

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, status: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("it was not reaped yet");
    }

    /// Waits for its exit, or panics with a description of what hangs.
    pub(crate) fn wait(&mut self, bound: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let ended = ends_within(self.pid(), bound);
        assert!(ended, "process {} did not end within {bound:?}:\n{}", self.pid(), proc::process_tree(self.pid()));
        let status = self.child.wait().expect("our own child");
        self.status = Some(status);
        status
    }

    /// Returns true until it has exited.
    pub(crate) fn runs(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child");
        }
        self.status.is_none()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.runs() {
            // Both fail only if it has exited in the meantime.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a process has exited, without reaping it.
fn ends_within(pid: u32, bound: Duration) -> bool {
    // SAFETY: pidfd_open takes two integers and returns a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let end = Instant::now() + bound;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, on this stack.
        let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) };
        if ready == 1 {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) pid: u32,
}

impl Finished {
    /// Returns the exit code. Death by a signal fails the test.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("it was killed: {self:?}"))
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("stdout is UTF-8")
    }

    /// Asserts that it failed at run time as documented: status 1 and one line on stderr.
    pub(crate) fn assert_one_line_failure(&self) -> &str {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line says what failed and the remedy: {}", self.stderr);
        lines[0]
    }
}

/// Runs a command to its exit, with a time limit. Its output goes to files, so it cannot block on a pipe.
pub(crate) fn run_bounded(command: &mut Command, bound: Duration) -> Finished {
    let directory = TempDir::new().expect("a temporary directory");
    let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = Guarded::spawn(command);
    let status = child.wait(bound);
    Finished {
        status,
        stdout: fs::read(&out).unwrap(),
        stderr: String::from_utf8_lossy(&fs::read(&err).unwrap()).into_owned(),
        pid: child.pid(),
    }
}
