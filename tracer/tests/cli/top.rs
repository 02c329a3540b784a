//! `tracer top` on a terminal: it starts, takes keys, and restores the terminal, however it exits.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pty::OnTerminal;
use crate::{output, text, tracer};

/// Returns true if this machine and user can trace. If not, `tracer top` reports that in one line.
pub(crate) fn can_trace() -> bool {
    if output(&["doctor"]).status.success() {
        return true;
    }
    let output = tracer(&["top", "-b", "-n1"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1), "{output:?}");
    false
}

/// Asserts that the terminal is restored: settings, main screen, cursor, and empty.
pub(crate) fn ends_well(command: &mut OnTerminal) {
    assert_eq!((command.ends(), &*command.text()), (Some(0), ""));
    assert!(command.is_as_before(), "the settings of the terminal are as they were");
    assert!(command.ever_left_the_main_screen() && !command.screen().alternate_screen(), "the main screen is back");
    assert!(!command.screen().hide_cursor(), "the cursor is back");
}

#[test]
fn keys_change_what_is_shown_and_q_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    let mut top = OnTerminal::start(100, 30, &mut tracer(&["top", "-d", "0.1"]));
    top.await_text("all:");
    assert!(!top.is_as_before(), "keys are taken one by one");
    // The expected text is shown only once the keys had their effect.
    for (keys, wanted) in [
        ("?", "any other key closes it"),
        ("x3", ", by command"),
        ("\\zzz\r", ", only zzz"),
        ("Z", ", paused"),
        ("\x1b[17~", "failures a second"),
        ("\r/nobody", "Search: nobody_"),
        ("\ru", "> (all users)"),
    ] {
        top.press(keys);
        top.await_text(wanted);
    }
    top.press("\rq");
    ends_well(&mut top);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut top = OnTerminal::start(80, 24, &mut tracer(&["top", "-d", "0.1"]));
        top.await_text("all:");
        kill(Pid::from_raw(top.pid() as i32), signal).unwrap();
        ends_well(&mut top);
    }
}

#[test]
fn a_tiny_terminal_is_survived() {
    if !can_trace() {
        return;
    }
    for (columns, rows) in [(0, 0), (1, 1), (3, 2)] {
        let mut top = OnTerminal::start(columns, rows, &mut tracer(&["top", "-d", "0.1"]));
        // A terminal that does not know its size is treated as one of the usual size.
        let wanted = if columns == 0 { "all:" } else { "" };
        top.await_screen(wanted, |screen| screen.hide_cursor() && screen.contents().contains(wanted));
        top.press("?\r5q");
        ends_well(&mut top);
    }
}

#[test]
fn it_exits_after_a_given_number_of_frames() {
    if !can_trace() {
        return;
    }
    ends_well(&mut OnTerminal::start(80, 24, &mut tracer(&["top", "-d", "0.05", "-n", "3"])));
    let frames = text(&output(&["top", "-b", "-d", "0.05", "-n", "3"]).stdout);
    assert_eq!(frames.matches("tracer top - ").count(), 3, "{frames}");
    // The same without a terminal.
    assert_eq!(text(&output(&["top", "-d0.05", "-n1"]).stdout).matches("tracer top - ").count(), 1);
    let narrow = text(&output(&["top", "-b", "-d0.05", "-n1", "-w", "20"]).stdout);
    assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
}
