//! `tracer top` on a terminal: it comes, listens, and gives the terminal back, however it ends.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pty::OnTerminal;
use crate::{output, text, tracer};

/// Whether this machine and user can trace. If not, `tracer top` says so in one line.
pub(crate) fn can_trace() -> bool {
    if output(&["doctor"]).status.success() {
        return true;
    }
    let output = tracer(&["top", "-b", "-n1"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1), "{output:?}");
    false
}

/// The terminal is as it was: settings, main screen, cursor, and nothing on it.
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
    // What is waited for is shown only once the keys had their effect.
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
fn a_terminal_of_hardly_any_size_is_survived() {
    if !can_trace() {
        return;
    }
    for (columns, rows) in [(0, 0), (1, 1), (3, 2)] {
        let mut top = OnTerminal::start(columns, rows, &mut tracer(&["top", "-d", "0.1"]));
        // A terminal that does not know its size is taken for a usual one.
        let wanted = if columns == 0 { "all:" } else { "" };
        top.await_screen(wanted, |screen| screen.hide_cursor() && screen.contents().contains(wanted));
        top.press("?\r5q");
        ends_well(&mut top);
    }
}

#[test]
fn it_ends_by_itself_after_so_many_pictures() {
    if !can_trace() {
        return;
    }
    ends_well(&mut OnTerminal::start(80, 24, &mut tracer(&["top", "-d", "0.05", "-n", "3"])));
    let pictures = text(&output(&["top", "-b", "-d", "0.05", "-n", "3"]).stdout);
    assert_eq!(pictures.matches("tracer top - ").count(), 3, "{pictures}");
    // Without a terminal it is the same.
    assert_eq!(text(&output(&["top", "-d0.05", "-n1"]).stdout).matches("tracer top - ").count(), 1);
    let narrow = text(&output(&["top", "-b", "-d0.05", "-n1", "-w", "20"]).stdout);
    assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
}
