//! The values of filter terms, as users write them.

use globset::{Glob, GlobBuilder};

/// Process ids are smaller: `PID_MAX_LIMIT` ([include/linux/threads.h]).
///
/// [include/linux/threads.h]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/threads.h
const PID_LIMIT: u32 = 1 << 22;

/// A process id that can exist.
pub fn pid(pid: u32) -> Result<u32, String> {
    if (1..PID_LIMIT).contains(&pid) {
        Ok(pid)
    } else {
        Err(format!("a process id is a number from 1 to {}", PID_LIMIT - 1))
    }
}

/// A pattern for names or paths: `*` and `?` also match `/`, so that `*/bin/*` finds `/usr/local/bin/x/y`;
/// `[…]` and `{a,b}` are as in a shell.
pub(super) fn compile(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// The same, with an error for users.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    compile(pattern).map_err(|error| {
        format!("{}: globs know *, ?, [a-z], {{a,b}}, and \\ before what is meant as it is", error.kind())
    })
}

/// A container.
pub fn container(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a container has a name or an id".into()) } else { Ok(text.to_owned()) }
}

/// A unit, of the kind service unless it names another. systemd's escapes (`\x2d`) stand for themselves.
pub fn unit(text: &str) -> Result<Glob, String> {
    let name = text.rsplit('/').next().unwrap_or(text);
    let kind = if name.contains('.') { "" } else { ".service" };
    glob(&format!("{}{kind}", text.replace("\\x", "\\\\x")))
}

/// A path that may be that of a control group.
pub fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("the path of a control group begins with /: as in /proc/PID/cgroup, or that of its directory".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_those_the_kernel_can_give() {
        assert_eq!([1, (1 << 22) - 1].map(pid), [Ok(1), Ok(4_194_303)]);
        assert!([0, 1 << 22].into_iter().all(|number| pid(number).is_err()));
    }

    #[test]
    fn units_are_services_unless_they_say_more() {
        let matches = |text: &str, name: &str| unit(text).unwrap().compile_matcher().is_match(name);
        assert!(matches("ssh", "ssh.service") && matches("user@*", "user@1000.service"));
        assert!(matches("session-*.scope", "session-2.scope") && !matches("ssh", "ssh.socket"));
        assert!(matches(r"foo\x2dbar.service", r"foo\x2dbar.service"), "as systemctl shows it");
        assert!(matches(r"a\x5bb\x5d", r"a\x5bb\x5d.service"), "brackets are escaped too");
        assert!(matches("app.slice/foo", "app.slice/foo.service"));
    }
}
