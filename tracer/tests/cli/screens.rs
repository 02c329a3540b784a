//! Behaviour of all live screens: signals, Ctrl-Z, terminals that go away or cannot show a screen.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pty::OnTerminal;
use crate::top::{can_trace, ends_well};
use crate::{complaint, output, text, tracer};

/// The screens, and a text on each.
const SCREENS: [(&[&str], &str); 3] = [
    (&["top", "-d", "0.1"], "all:"),
    (&["tree", "--watch"], "processes"),
    (&["containers", "-d", "0.1"], "containers"),
];

/// Starts it in a separate process group, so that Ctrl-Z does not stop the test.
fn screen(arguments: &[&str]) -> Command {
    let mut command = tracer(arguments);
    command.process_group(0);
    command
}

fn start(arguments: &[&str], wanted: &str) -> OnTerminal {
    let mut screen = OnTerminal::start(100, 30, &mut screen(arguments));
    screen.await_screen(wanted, |screen| screen.alternate_screen() && screen.contents().contains(wanted));
    screen
}

fn send(screen: &OnTerminal, signal: Signal) {
    kill(Pid::from_raw(screen.pid() as i32), signal).unwrap();
}

#[test]
fn every_signal_that_ends_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    for (arguments, wanted) in SCREENS {
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            let mut screen = start(arguments, wanted);
            send(&screen, signal);
            ends_well(&mut screen);
        }
    }
}

#[test]
fn a_stop_gives_the_terminal_back_until_it_goes_on() {
    if !can_trace() {
        return;
    }
    for (arguments, wanted) in SCREENS {
        let mut screen = start(arguments, wanted);
        for by_key in [true, false] {
            if by_key {
                screen.press("\x1a");
            } else {
                send(&screen, Signal::SIGTSTP);
            }
            screen.await_screen("the main screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
            screen.await_stopped(true);
            assert!(screen.is_as_before(), "{arguments:?}: the settings are those of the shell");
            send(&screen, Signal::SIGCONT);
            screen.await_screen(wanted, |screen| {
                screen.alternate_screen() && screen.hide_cursor() && screen.contents().contains(wanted)
            });
            screen.await_stopped(false);
        }
        // A stop without a hint on the screen.
        send(&screen, Signal::SIGSTOP);
        screen.await_stopped(true);
        send(&screen, Signal::SIGCONT);
        screen.await_stopped(false);
        screen.press("q");
        ends_well(&mut screen);
    }
}

#[test]
fn a_terminal_that_goes_away_ends_it_even_if_hangups_are_ignored() {
    if !can_trace() {
        return;
    }
    for (arguments, wanted) in SCREENS {
        for ignored in [true, false] {
            let mut command = screen(arguments);
            // SAFETY: it sets a disposition, which is safe between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    libc::signal(libc::SIGHUP, if ignored { libc::SIG_IGN } else { libc::SIG_DFL });
                    Ok(())
                });
            }
            let mut screen = OnTerminal::start(100, 30, &mut command);
            screen.await_text(wanted);
            screen.hang_up();
            assert!(screen.ends_alone().is_some(), "{arguments:?}: by itself");
        }
    }
}

#[test]
fn a_terminal_that_cannot_show_a_screen_gets_text_or_a_reason() {
    let mut command = tracer(&["tree", "--watch"]);
    let mut terminal = OnTerminal::start(80, 24, command.env("TERM", "dumb"));
    assert_eq!(terminal.ends(), Some(2), "{}", terminal.text());
    assert!(terminal.text().contains("TERM") && terminal.text().contains("tracer tree"), "{}", terminal.text());
    assert!(complaint(&mut tracer(&["tree", "--watch"]), 2).contains("needs a terminal"));
    if !can_trace() {
        return;
    }
    for arguments in [&["top", "-n1", "-d0.05"][..], &["containers", "-n1", "-d0.05"]] {
        let mut terminal = OnTerminal::start(80, 24, tracer(arguments).env("TERM", "dumb"));
        assert_eq!(terminal.ends(), Some(0), "{}", terminal.text());
        let written = text(terminal.written());
        assert!(!written.contains('\x1b') && !terminal.ever_left_the_main_screen(), "{written:?}");
        assert_eq!(output(arguments).status.code(), Some(0));
    }
}
