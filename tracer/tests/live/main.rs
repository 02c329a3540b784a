//! The live-kernel tests: what tracer says against what the kernel did.
//!
//! One binary holds both sides. Called as a test it runs `tracer` around a *deed*: itself again, as
//! `live --deed NAME TRUTH`, which does one hard thing (a leader thread that exits first, an exec from a memfd, a
//! daemon that loses its parent) and writes down what `wait4`, `getppid` and `/proc` told it. The test then
//! compares that truth with tracer's lines. So the binary also works alone, as the payload of a virtual machine.
//!
//! Environment: `TRACER_BIN` names the tracer to test, `TRACER_SEED` the only seeds of the oracle run, with
//! commas between them; with `TRACER_TEST_TIMES` each test says how long it took.
//! `TRACER_STORM_SECONDS` says how long each saturating storm is to last, `TRACER_STORM_RING` with which `--ring-size`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cases;
mod deeds;
#[path = "../pty/mod.rs"]
mod pty;
mod support;

use std::process::ExitCode;

use nix::libc;

use self::support::{Case, kernel_version};

fn main() -> ExitCode {
    if let Some(status) = deeds::dispatch() {
        return status;
    }
    stop_ignoring();
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Two at a time keeps both sides of a handshake running on the smallest machine. One at a time on Linux 7: while another
    // tracer that starts is in bpf(2), the kernel may pass over an exec or a death (told as lost, and told so in README.md).
    arguments.test_threads.get_or_insert(if kernel_version() < (7, 0) { 2 } else { 1 });
    let selected = |name: &str| {
        let matches = |pattern: &String| if arguments.exact { name == pattern } else { name.contains(pattern) };
        !arguments.list && arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
    };
    // What the machine lacks is only looked for where it matters: some of it takes time.
    let mut cases = cases::all();
    // Those that want the machine for themselves last, one after the other: in between, each would let half of it idle.
    cases.sort_by_key(Case::is_alone);
    let trials = cases
        .into_iter()
        .map(|case| {
            let unmet = if selected(case.name()) { case.unmet() } else { None };
            if let Some(reason) = &unmet {
                eprintln!("{}: skipped, {reason}", case.name());
            }
            case.into_trial(unmet)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whoever started the tests may ignore signals (nohup, a job in the background of a script), and the deeds would inherit that.
fn stop_ignoring() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the default action is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
