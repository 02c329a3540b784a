//! A command with a separate terminal, and the content of that terminal. Shared by the tests of the command line and
//! the live tests.

#![allow(dead_code, clippy::expect_used, reason = "a test; each of the two needs a part of it")]

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{Termios, tcgetattr};
use vt100::{Parser, Screen};

/// Time limit for a text to appear and a command to exit. It is long enough even where every instruction is emulated.
const BOUND: Duration = Duration::from_secs(if option_env!("TRACER_TEST_BOUND").is_some() { 300 } else { 60 });

/// Size of the screen of a terminal that does not know its size.
const UNKNOWN: (NonZeroU16, NonZeroU16) = (NonZeroU16::new(512).unwrap(), NonZeroU16::new(64).unwrap());

/// A command with a separate terminal. It is killed if it is still running when the test ends.
pub(crate) struct OnTerminal {
    child: Child,
    /// Our side of the terminal: what is written here is typed, what is read here is displayed.
    master: PtyMaster,
    before: Termios,
    emulator: Parser,
    /// All output so far, unprocessed.
    written: Vec<u8>,
    /// True if it ever used the alternate screen.
    left_main: bool,
}

impl OnTerminal {
    /// Starts a command whose standard input, output and error are a terminal. A terminal of size 0 does not know its
    /// size.
    pub(crate) fn start(columns: u16, rows: u16, command: &mut Command) -> Self {
        // No command inherits either side, so everything on the terminal ends with the test.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("our own terminal");
        let slave = open(&*ptsname_r(&master).expect("its name"), flags, Mode::empty()).expect("its other side");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads a `struct winsize` of this stack.
        let sized = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(sized, 0, "{}", std::io::Error::last_os_error());
        let before = tcgetattr(&slave).expect("settings");
        let side = || Stdio::from(slave.try_clone().expect("another descriptor of it"));
        command.stdin(side()).stdout(side()).stderr(side()).env_remove("COLUMNS").env_remove("LINES");
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // The terminal ends once no process has the command's side open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let columns = NonZeroU16::new(columns).unwrap_or(UNKNOWN.0);
        let rows = NonZeroU16::new(rows).unwrap_or(UNKNOWN.1);
        let emulator = Parser::new(rows, columns, 0);
        Self { child, master, before, emulator, written: Vec::new(), left_main: false }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the current screen.
    pub(crate) fn screen(&self) -> &Screen {
        self.emulator.screen()
    }

    /// Returns the current text of the screen.
    pub(crate) fn text(&self) -> String {
        self.screen().contents()
    }

    /// Returns all output so far, unprocessed.
    pub(crate) fn written(&self) -> &[u8] {
        &self.written
    }

    pub(crate) const fn ever_left_the_main_screen(&self) -> bool {
        self.left_main
    }

    /// Returns true if its settings are the original ones.
    pub(crate) fn is_as_before(&self) -> bool {
        tcgetattr(&self.master).expect("settings") == self.before
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Waits until the screen shows a text.
    pub(crate) fn await_text(&mut self, wanted: &str) {
        self.await_screen(wanted, |screen| screen.contents().contains(wanted));
    }

    /// Waits until the screen meets a condition.
    pub(crate) fn await_screen(&mut self, what: &str, is: impl Fn(&Screen) -> bool) {
        let end = Instant::now() + BOUND;
        while !is(self.screen()) {
            assert!(self.show(end), "it exited without {what:?}:\n{}", self.text());
        }
    }

    /// Displays all output until no process has the terminal open. Returns the exit code; None if it was a signal.
    pub(crate) fn ends(&mut self) -> Option<i32> {
        let end = Instant::now() + BOUND;
        while self.show(end) {}
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code();
            }
            assert!(Instant::now() < end, "it still runs without a terminal after {BOUND:?}:\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes our side of the terminal, as when a window is closed or a connection is lost.
    pub(crate) fn hang_up(&mut self) {
        self.master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("another terminal");
    }

    /// Waits for the exit of a command whose terminal is gone. Returns the exit code; None if it was a signal.
    pub(crate) fn ends_alone(&mut self) -> Option<i32> {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code();
            }
            assert!(Instant::now() < end, "it still runs without a terminal after {BOUND:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the command is stopped, or continues.
    pub(crate) fn await_stopped(&mut self, stopped: bool) {
        let end = Instant::now() + BOUND;
        let stat = format!("/proc/{}/stat", self.pid());
        let state = || std::fs::read_to_string(&stat).ok()?.rsplit_once(") ")?.1.chars().next();
        while state().is_some_and(|state| state == 'T') != stopped {
            assert!(Instant::now() < end, "not stopped: {stopped}, within {BOUND:?}: {:?}", state());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Displays the next output. Returns false if no process has the terminal open any more.
    fn show(&mut self, end: Instant) -> bool {
        let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now())).expect("less than a month");
        let mut readable = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let some = poll(&mut readable, left).expect("one descriptor") > 0;
        assert!(some, "nothing more within {BOUND:?}:\n{}", self.text());
        let mut chunk = [0; 4096];
        let n = match self.master.read(&mut chunk) {
            // The end of a terminal to which no process can write any more.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => 0,
            read => read.expect("it is readable"),
        };
        for byte in &chunk[..n] {
            self.emulator.process(&[*byte]);
            self.left_main |= self.screen().alternate_screen();
        }
        self.written.extend_from_slice(&chunk[..n]);
        n > 0
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
