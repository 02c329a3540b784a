//! Reads the values of options: process ids, users, globs, paths and times.

use std::time::Duration;

use crate::filter::parse;
use crate::kernel::hierarchy::Hierarchy;
use crate::sys::passwd;

/// Reads a process id.
pub(in crate::cli) fn pid(text: &str) -> Result<u32, String> {
    // Text that is no number is out of range too.
    parse::pid(text.parse().unwrap_or_default())
}

/// Reads a user's name or number.
pub(super) fn user(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        // -1 means "no user" to the kernel.
        Ok(u32::MAX) => Err("the kernel uses this number for \"no user\"".into()),
        Ok(uid) => Ok(uid),
        Err(_) => passwd::uid_of(text).map_err(|error| error.to_string()),
    }
}

/// Reads the path of a control group in its hierarchy, or of its directory in the file system.
pub(super) fn cgroup(text: &str) -> Result<String, String> {
    Hierarchy::of_proc().path_of(&parse::absolute(text)?)
}

/// Reads a time longer than zero.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("the time must be longer than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}: write e.g. 500ms, 10s, 5m or 1h30m")),
    }
}

/// Reads the time between two frames. A number without a unit is in seconds.
pub(in crate::cli) fn delay(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.or_else(|| humantime::parse_duration(text).ok()) {
        Some(delay) if delay >= Duration::from_millis(10) => Ok(delay),
        Some(_) => Err("the time must be at least 10ms".into()),
        None => Err("write seconds, e.g. 2 or 0.5, or a time with a unit, e.g. 500ms".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_those_the_kernel_can_assign() {
        assert_eq!(pid("1"), Ok(1));
        assert_eq!(pid("4194303"), Ok(4_194_303));
        for text in ["0", "-1", "4194304", "self", ""] {
            assert!(pid(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn control_groups_are_paths_of_their_hierarchy() {
        assert_eq!(cgroup("/system.slice"), Ok("/system.slice".to_owned()));
        assert!(cgroup("system.slice").is_err());
    }

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(user("root"), Ok(0));
        assert_eq!(user("4711"), Ok(4711));
        assert!(user("no such user").is_err());
        assert!(user("4294967295").is_err());
    }
}
