//! The live-kernel tests: they compare tracer's output with what the kernel did.
//!
//! One binary holds both sides. As a test it runs `tracer` around a *deed*: itself again, as `live --deed NAME
//! TRUTH`. The deed does one hard thing, for example: the leader thread exits first, a process execs from a memfd, a
//! daemon loses its parent. It writes what `wait4`, `getppid` and `/proc` reported to the truth file. The test then
//! compares that truth with tracer's lines. So the binary also works alone, as the payload of a virtual machine.
//!
//! Environment:
//!
//! - `TRACER_BIN`: the tracer to test
//! - `TRACER_SEED`: the only seeds of the oracle run, separated by commas
//! - `TRACER_TEST_TIMES`: each test prints how long it took
//! - `TRACER_STORM_SECONDS`: how long each saturating storm lasts
//! - `TRACER_STORM_RING`: the `--ring-size` of the saturating storms
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
    // Two at a time keep both sides of a handshake running on the smallest machine. On Linux 7 only one: while
    // another tracer starts and is in bpf(2), the kernel may skip an exec or an exit. That is reported as lost, and
    // documented in docs/limits.md.
    arguments.test_threads.get_or_insert(if kernel_version() < (7, 0) { 2 } else { 1 });
    let selected = |name: &str| {
        let matches = |pattern: &String| if arguments.exact { name == pattern } else { name.contains(pattern) };
        !arguments.list && arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
    };
    // Check what the machine lacks only for the selected cases, because some checks take time.
    let mut cases = cases::all();
    // Cases that need the machine alone come last. In between, each would leave half of it idle.
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

/// Resets signals that the parent of the tests may ignore (nohup, a background job of a script). The deeds would
/// inherit that.
fn stop_ignoring() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the default action is not a function of this process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
