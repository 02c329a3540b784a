//! The command line without privileges: help, wrong usage, outputs that fail, and the tree of the running processes.

#![expect(clippy::unwrap_used, reason = "a test")]

mod containers;
mod features;
mod from;
mod outputs;
#[path = "../pty/mod.rs"]
mod pty;
mod screens;
mod terminal;
mod top;
mod tree;
mod usage;

use std::process::{Command, Output, Stdio};

pub(crate) fn tracer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracer"));
    for name in ["COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(arguments).env("LANG", "C.UTF-8").env("TERM", "xterm").stdin(Stdio::null());
    command
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    tracer(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the standard output of a command that must succeed with an empty standard error.
pub(crate) fn printed(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    text(&output.stdout)
}

/// Returns the standard error of a command that must fail with this status and an empty standard output.
pub(crate) fn complaint(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(status), String::new()), "{command:?}");
    text(&output.stderr)
}
