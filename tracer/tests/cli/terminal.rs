//! What is shown on a terminal: widths, colours, and the live tree.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use unicode_width::UnicodeWidthStr as _;

use crate::tree::Family;
use crate::{output, text, tracer};

/// A new terminal. No command inherits its own side of it: when a test ends, so does what still runs on the terminal.
pub(crate) fn pty(columns: u16, rows: u16) -> OpenptyResult {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    pty
}

/// What a command shows on a terminal of some size.
fn on_terminal(columns: u16, rows: u16, command: &mut Command) -> String {
    let pty = pty(columns, rows);
    let mut child = command.stdout(pty.slave).spawn().unwrap();
    // Our copy of the terminal's side has to be closed, or reading would never end.
    command.stdout(Stdio::null());
    let shown = read_all(pty.master);
    assert!(child.wait().unwrap().success());
    shown.replace("\r\n", "\n")
}

/// Reads a terminal until nobody has it open any more, which is told as an error.
fn read_all(master: OwnedFd) -> String {
    let mut master = File::from(master);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = master.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn lines_are_cut_to_the_terminal_unless_its_width_is_not_known() {
    let family = Family::new();
    let tree = |options: &[&str]| tracer(&[&["tree", "-a", &family.pid()], options].concat());
    let whole = text(&tree(&[]).output().unwrap().stdout);
    let cut = on_terminal(16, 24, &mut tree(&[]));
    assert!(cut.lines().all(|line| line.width() <= 16) && cut.contains("sh -c 'sleep 10…"), "{cut}");
    assert_eq!(on_terminal(16, 24, &mut tree(&["-l"])), whole);
    assert_eq!(on_terminal(0, 0, &mut tree(&[])), whole, "a terminal of zero width");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let family = Family::new();
    let tree = |options: &[&str]| tracer(&[&["tree", "-H", &family.pid(), &family.pid()], options].concat());
    let colourful = |shown: &str| shown.contains('\x1b');
    let plain = |command: &mut Command| text(&command.output().unwrap().stdout);
    assert!(!colourful(&plain(&mut tree(&[]))));
    assert!(colourful(&plain(&mut tree(&["--color", "always"]))));
    assert!(colourful(&on_terminal(80, 24, &mut tree(&[]))));
    assert!(!colourful(&on_terminal(80, 24, &mut tree(&["--color=never"]))));
    assert!(!colourful(&on_terminal(80, 24, tree(&[]).env("NO_COLOR", "1"))));
    assert!(colourful(&on_terminal(80, 24, tree(&[]).env("NO_COLOR", ""))), "an empty NO_COLOR does not count");
    assert!(!colourful(&on_terminal(80, 24, tree(&[]).env("TERM", "dumb"))));
}

#[test]
fn watching_gives_the_terminal_back() {
    let works = output(&["doctor"]).status.success();
    let pty = pty(40, 10);
    let terminal = File::from(pty.slave);
    let settings = || nix::sys::termios::tcgetattr(&terminal).unwrap();
    let before = settings();
    let mut command = tracer(&["tree", "--watch", "-p"]);
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    if !works {
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1), "{output:?}");
        return;
    }
    let mut master = File::from(pty.master);
    let mut shown = Vec::new();
    let mut chunk = [0; 4096];
    while !shown.windows(9).any(|bytes| bytes == b"processes") {
        let n = master.read(&mut chunk).unwrap();
        shown.extend_from_slice(&chunk[..n]);
    }
    assert_ne!(settings().local_flags, before.local_flags, "keys are taken one by one");
    master.write_all(b"q").unwrap();
    // What is still drawn has to be read, or drawing would stop.
    drop(std::thread::spawn(move || while matches!(master.read(&mut chunk), Ok(1..)) {}));
    assert!(child.wait().unwrap().success());
    assert_eq!(settings(), before);
}
