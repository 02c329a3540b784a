//! Names of signals.

use std::sync::{Arc, LazyLock};

use nix::sys::signal::Signal;

/// Highest signal number (`_NSIG`).
const LAST: u32 = 64;
/// First real-time signal for programs: glibc reserves 32 and 33.
const RTMIN: u32 = 34;
const RTMIN_1: u32 = RTMIN + 1;
/// Below this, real-time signals are counted from `SIGRTMIN`. From here on they are counted back from `SIGRTMAX`, as
/// `kill -l` does.
const RT_UPPER: u32 = 50;

static NAMES: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| (0..=LAST).map(|n| make_name(n).into()).collect());

fn make_name(number: u32) -> String {
    match number {
        RTMIN => "SIGRTMIN".to_owned(),
        LAST => "SIGRTMAX".to_owned(),
        RTMIN_1..RT_UPPER => format!("SIGRTMIN+{}", number - RTMIN),
        RT_UPPER..LAST => format!("SIGRTMAX-{}", LAST - number),
        _ => Signal::try_from(number as i32).map_or_else(|_| format!("SIG{number}"), |s| s.as_str().to_owned()),
    }
}

/// Returns the name of a signal as in `kill -l`, with `SIG`: `SIGKILL`, `SIGRTMIN+3`. `SIG33` for a signal without a name.
pub fn name(number: u32) -> Arc<str> {
    NAMES.get(number as usize).map_or_else(|| make_name(number).into(), Arc::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_kill_lists_them() {
        for (number, expected) in [
            (1, "SIGHUP"),
            (9, "SIGKILL"),
            (11, "SIGSEGV"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (33, "SIG33"),
            (34, "SIGRTMIN"),
            (37, "SIGRTMIN+3"),
            (49, "SIGRTMIN+15"),
            (50, "SIGRTMAX-14"),
            (64, "SIGRTMAX"),
            (0, "SIG0"),
            (127, "SIG127"),
        ] {
            assert_eq!(&*name(number), expected);
        }
    }
}
