//! A terminal for a command, and what is shown on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};

use super::process::{BOUND, Guarded};

/// A new terminal. No command inherits its own side of it: when a test ends, so does what still runs on the terminal.
pub(crate) fn pty(columns: u16, rows: u16) -> OpenptyResult {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("a terminal");
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
    }
    pty
}

/// A command with a terminal of its own.
pub(crate) struct OnTerminal {
    tracer: Guarded,
    master: File,
    /// All of it so far, without what moves and colours.
    shown: String,
    /// The start of a sequence whose end has not come yet.
    begun: Vec<u8>,
}

impl OnTerminal {
    /// Starts it with its input, output and complaints there.
    pub(crate) fn start(columns: u16, rows: u16, command: &mut Command) -> Self {
        let pty = pty(columns, rows);
        let end = || Stdio::from(pty.slave.try_clone().expect("another descriptor of it"));
        command.stdin(end()).stdout(end()).stderr(end()).env_remove("COLUMNS").env_remove("LINES");
        command.env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        let tracer = Guarded::spawn(command);
        // The command keeps its ends open as long as it lives.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { tracer, master: File::from(pty.master), shown: String::new(), begun: Vec::new() }
    }

    /// Reads until a text is shown, within bounds. What was shown before counts.
    pub(crate) fn await_text(&mut self, wanted: &str) {
        let end = Instant::now() + BOUND;
        while !self.shown.contains(wanted) {
            let some = self.read(end);
            assert!(some, "{wanted:?} is not shown within {BOUND:?}, but {}", self.shown);
        }
    }

    /// Reads what comes next; false if nothing comes, or nobody has the terminal open any more.
    fn read(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let mut readable = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let ready =
            poll(&mut readable, PollTimeout::try_from(left).expect("less than a month")).expect("one descriptor");
        let mut chunk = [0; 4096];
        // The end of a terminal nobody writes to any more is an error, not an end of file.
        let Some(n @ 1..) = (ready > 0).then(|| self.master.read(&mut chunk).unwrap_or(0)) else { return false };
        self.begun.extend_from_slice(&chunk[..n]);
        let (plain, rest) = without_sequences(&self.begun);
        self.shown.push_str(&plain);
        self.begun = rest;
        true
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Reads to the end, and gives the status and all that was shown.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + BOUND;
        while self.read(end) {}
        (self.tracer.wait(BOUND).code(), self.shown)
    }
}

/// A text without control sequences, and what may be the beginning of one more, or of a character.
fn without_sequences(bytes: &[u8]) -> (String, Vec<u8>) {
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != 0x1b {
            plain.push(byte);
            at += 1;
            continue;
        }
        // CSI: parameters, then a letter. Others are of two bytes.
        let length = match bytes.get(at + 1) {
            Some(b'[') => bytes[at + 2..].iter().position(|byte| (0x40..0x7f).contains(byte)).map(|last| last + 3),
            Some(_) => Some(2),
            None => None,
        };
        let Some(length) = length else { break };
        at += length;
    }
    let rest = match std::str::from_utf8(&plain) {
        Err(error) if error.error_len().is_none() => plain.split_off(error.valid_up_to()),
        _ => Vec::new(),
    };
    (String::from_utf8_lossy(&plain).into_owned(), [&rest, &bytes[at..]].concat())
}
