//! `tracer top` on a terminal: it comes, listens, and gives the terminal back, however it ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use crate::terminal::pty;
use crate::{output, text, tracer};

/// What is not shown by then will not be.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command with a terminal of its own.
pub(crate) struct OnTerminal {
    child: Child,
    master: File,
    terminal: File,
    before: Termios,
    shown: Vec<u8>,
}

impl OnTerminal {
    pub(crate) fn start(columns: u16, rows: u16, command: &mut Command) -> Self {
        let pty = pty(columns, rows);
        let terminal = File::from(pty.slave);
        let before = tcgetattr(&terminal).unwrap();
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { child, master: File::from(pty.master), terminal, before, shown: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Reads until a word is written on the terminal; what was there before does not count. Only what differs is
    /// written, and spaces seldom do: so it has to be one word, on a place where there was nothing.
    pub(crate) fn await_text(&mut self, wanted: &str) {
        let (mut chunk, began) = ([0; 4096], Instant::now());
        while !self.shown.windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes()) {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let mut readable = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let some = poll(&mut readable, PollTimeout::try_from(left).unwrap()).unwrap();
            assert!(some > 0, "{wanted:?} is not shown, but {:?}", String::from_utf8_lossy(&self.shown));
            let n = self.master.read(&mut chunk).unwrap();
            self.shown.extend_from_slice(&chunk[..n]);
        }
        self.shown.clear();
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys, has the screen drawn anew, and waits for a word on it.
    pub(crate) fn press_for(&mut self, keys: &str, wanted: &str) {
        self.press(keys);
        self.press("\x0c");
        self.await_text(wanted);
    }

    /// It ends well, and the terminal is as it was: settings, main screen, cursor.
    pub(crate) fn ends_well(self) {
        let rest = self.ends_plainly();
        let at = |wanted: &[u8]| rest.windows(wanted.len()).rposition(|bytes| bytes == wanted);
        assert!(at(b"\x1b[?1049l").is_some(), "the main screen is back: {:?}", String::from_utf8_lossy(&rest));
        assert!(at(b"\x1b[?25h") > at(b"\x1b[?25l"), "the cursor is back");
    }

    /// It ends well, and the settings of the terminal are as they were. Gives what it still showed.
    pub(crate) fn ends_plainly(mut self) -> Vec<u8> {
        let mut master = self.master.try_clone().unwrap();
        // What is still drawn has to be read, or drawing would stop.
        let reader = std::thread::spawn(move || {
            let (mut rest, mut chunk) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = master.read(&mut chunk) {
                rest.extend_from_slice(&chunk[..n]);
            }
            rest
        });
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before);
        // Reading ends once nobody has the terminal open.
        drop(self.terminal);
        reader.join().unwrap()
    }
}

/// Whether this machine and user can trace. If not, `tracer top` says so in one line.
pub(crate) fn can_trace() -> bool {
    if output(&["doctor"]).status.success() {
        return true;
    }
    let output = tracer(&["top", "-b", "-n1"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1), "{output:?}");
    false
}

#[test]
fn keys_change_what_is_shown_and_q_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    let mut top = OnTerminal::start(100, 30, &mut tracer(&["top", "-d", "0.1"]));
    top.await_text("all:");
    assert_ne!(tcgetattr(&top.terminal).unwrap().local_flags, top.before.local_flags, "keys are taken one by one");
    top.press_for("?", "closes");
    top.press_for("x3", "command");
    top.press_for("\\zzz\r", "only");
    top.press_for("Z", "paused");
    top.press_for("\x1b[17~", "failures");
    top.press_for("\r/nobody", "Search:");
    top.press_for("\ru", "users)");
    top.press("\r");
    top.press("q");
    top.ends_well();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut top = OnTerminal::start(80, 24, &mut tracer(&["top", "-d", "0.1"]));
        top.await_text("all:");
        kill(Pid::from_raw(top.pid()), signal).unwrap();
        top.ends_well();
    }
}

#[test]
fn a_terminal_of_hardly_any_size_is_survived() {
    if !can_trace() {
        return;
    }
    for (columns, rows) in [(0, 0), (1, 1), (3, 2)] {
        let mut top = OnTerminal::start(columns, rows, &mut tracer(&["top", "-d", "0.1"]));
        // A terminal that does not know its size is taken for a usual one.
        top.await_text(if columns == 0 { "all:" } else { "\x1b[?25l" });
        top.press("?\r5q");
        top.press("q");
        top.ends_well();
    }
}

#[test]
fn it_ends_by_itself_after_so_many_pictures() {
    if !can_trace() {
        return;
    }
    OnTerminal::start(80, 24, &mut tracer(&["top", "-d", "0.05", "-n", "3"])).ends_well();
    let pictures = text(&output(&["top", "-b", "-d", "0.05", "-n", "3"]).stdout);
    assert_eq!(pictures.matches("tracer top - ").count(), 3, "{pictures}");
    // Without a terminal it is the same.
    assert_eq!(text(&output(&["top", "-d0.05", "-n1"]).stdout).matches("tracer top - ").count(), 1);
    let narrow = text(&output(&["top", "-b", "-d0.05", "-n1", "-w", "20"]).stdout);
    assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
}
