//! The version of the running kernel, and what follows from it.

/// First major version that skips preempted programs (`nonpreemptible.rs`).
const SKIPS_PREEMPTED_SINCE: u32 = 7;

/// Returns true if the running kernel skips programs that are preempted.
pub(crate) fn skips_preempted() -> bool {
    release().is_some_and(|(major, _)| major >= SKIPS_PREEMPTED_SINCE)
}

/// Returns the first two numbers of the version. `None` if they cannot be parsed.
pub(super) fn release() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut numbers = name.release().to_str()?.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
