//! The values of filter terms, as users write them.

use globset::{Glob, GlobBuilder};

/// Process ids are smaller: `PID_MAX_LIMIT` ([include/linux/threads.h]).
///
/// [include/linux/threads.h]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/threads.h
const PID_LIMIT: u32 = 1 << 22;

/// Checks that a process can have this id.
pub fn pid(pid: u32) -> Result<u32, String> {
    if (1..PID_LIMIT).contains(&pid) {
        Ok(pid)
    } else {
        Err(format!("a process id is a number from 1 to {}", PID_LIMIT - 1))
    }
}

/// Compiles a glob for names or paths. `*` and `?` also match `/`, so `*/bin/*` finds `/usr/local/bin/x/y`. `[…]` and `{a,b}`
/// are as in a shell.
pub(super) fn compile(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// Compiles a glob, with an error for users.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    compile(pattern).map_err(|error| {
        format!("{}: globs know *, ?, [a-z] and {{a,b}}; write \\ before a character that is not special", error.kind())
    })
}

/// Checks the name or id of a container.
pub fn container(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a container has a name or an id".into()) } else { Ok(text.to_owned()) }
}

/// Compiles a glob for a unit, by default a service. The escapes of systemd (`\x2d`) match literally.
pub fn unit(text: &str) -> Result<Glob, String> {
    let name = text.rsplit('/').next().unwrap_or(text);
    let suffix = if name.contains('.') { "" } else { ".service" };
    glob(&format!("{}{suffix}", text.replace("\\x", "\\\\x")))
}

/// Checks that the path of a control group is absolute.
pub fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("the path of a control group begins with /: write it as in /proc/PID/cgroup, or the path of its directory"
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_those_the_kernel_can_assign() {
        assert_eq!([1, (1 << 22) - 1].map(pid), [Ok(1), Ok(4_194_303)]);
        assert!([0, 1 << 22].into_iter().all(|number| pid(number).is_err()));
    }

    #[test]
    fn units_are_services_unless_they_have_a_suffix() {
        let matches = |text: &str, name: &str| unit(text).unwrap().compile_matcher().is_match(name);
        assert!(matches("ssh", "ssh.service") && matches("user@*", "user@1000.service"));
        assert!(matches("session-*.scope", "session-2.scope") && !matches("ssh", "ssh.socket"));
        assert!(matches(r"foo\x2dbar.service", r"foo\x2dbar.service"), "as systemctl shows it");
        assert!(matches(r"a\x5bb\x5d", r"a\x5bb\x5d.service"), "brackets are escaped too");
        assert!(matches("app.slice/foo", "app.slice/foo.service"));
    }
}
