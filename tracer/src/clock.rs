//! The clocks of the machine. Only this module reads the time.

use nix::time::{ClockId, clock_gettime};

fn now(clock: ClockId) -> u64 {
    // These clocks exist on every kernel that tracer runs on, and the call cannot fail for them.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Returns `CLOCK_BOOTTIME` in nanoseconds, the clock of all records.
pub fn boot_ns() -> u64 {
    now(ClockId::CLOCK_BOOTTIME)
}

/// Returns UTC minus `CLOCK_BOOTTIME`, in nanoseconds.
///
/// The boot clock is read before and after UTC. Of a few such brackets the tightest is used, so that a preemption in
/// between does not matter.
pub fn utc_minus_boot_ns() -> i64 {
    let bracket = || {
        let before = boot_ns();
        let utc = now(ClockId::CLOCK_REALTIME);
        let after = boot_ns();
        (after - before, utc as i64 - (before + (after - before) / 2) as i64)
    };
    let tightest = std::iter::repeat_with(bracket).take(5).min_by_key(|&(width, _)| width);
    tightest.map_or(0, |(_, offset)| offset)
}
