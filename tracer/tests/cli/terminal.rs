//! Output on a terminal: widths, colours, and the live tree.

use std::process::Command;

use unicode_width::UnicodeWidthStr as _;

use crate::pty::OnTerminal;
use crate::top::{can_trace, ends_well};
use crate::tree::Family;
use crate::{text, tracer};

/// Returns the output of a command on a terminal of a given size.
fn on_terminal(columns: u16, rows: u16, command: &mut Command) -> String {
    let mut on_terminal = OnTerminal::start(columns, rows, command);
    assert_eq!(on_terminal.ends(), Some(0));
    text(on_terminal.written()).replace("\r\n", "\n")
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
fn colours_are_for_terminals_or_on_request() {
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
    if !can_trace() {
        return;
    }
    let mut tree = OnTerminal::start(40, 10, &mut tracer(&["tree", "--watch", "-p"]));
    tree.await_text("processes");
    assert!(!tree.is_as_before(), "keys are taken one by one");
    tree.press("q");
    ends_well(&mut tree);
}
