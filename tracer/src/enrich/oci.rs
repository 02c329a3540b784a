//! Parses command lines of container runtimes: which container they are about, and where its bundle is.
//!
//! runc, crun and similar runtimes have the same commands (opencontainers/runtime-tools,
//! docs/command-line-interface.md, and extensions of runc). Engines start them. So this command line exists for every
//! container of Docker, containerd, Podman and CRI-O, before anything else does.

use crate::record::text::Arguments;

/// The runtimes by program name. Some engines have their own: `buildkit-runc`, `docker-runc`.
const RUNTIMES: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];

/// Options of the runtimes that take a value.
const WITH_VALUE: [&str; 32] = [
    "--root",
    "--log",
    "--log-format",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--bundle",
    "-b",
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--config",
    "-f",
    "--process",
    "-p",
    "--cwd",
    "--env",
    "-e",
    "--user",
    "-u",
    "--additional-gids",
    "-g",
    "--process-label",
    "--apparmor",
    "--cap",
    "-c",
    "--cgroup",
    "--platform",
    "--network",
    "--log-level",
    "-l",
    "--debug-log",
];

/// The command of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Create a container, and (`run`) start it.
    Create,
    /// Start another program in it.
    Exec,
    /// Any other command.
    Other,
}

/// Returns whether a running program can be the runtime that its command line names: other programs have other file
/// names. An unreadable path is accepted. A copy in memory is called `/memfd:runc_cloned:…`.
pub fn is_program_of(exe: Option<&str>, runtime: &str) -> bool {
    exe.is_none_or(|exe| {
        // crun and runc execute a copy of themselves without a path, so that no container can write to the program.
        exe == "/" || exe.starts_with("/memfd:") || exe.rsplit('/').next().is_some_and(|name| name.contains(runtime))
    })
}

/// A runtime's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Name of the runtime.
    pub runtime: &'static str,
    /// Its command.
    pub verb: Verb,
    /// Id of the container.
    pub id: &'a str,
    /// Directory of its bundle. None means its working directory.
    pub bundle: Option<&'a str>,
}

/// Parses a command line. Returns None if it is not that of a runtime, or not about a container.
pub fn read(argv: &Arguments) -> Option<Command<'_>> {
    let mut words = argv.iter();
    let runtime = runtime(words.next()?)?;
    let (mut verb, mut bundle) = (None, None);
    while let Some(word) = words.next() {
        if word.starts_with('-') && word.len() > 1 {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None if WITH_VALUE.contains(&word) => (word, words.next()),
                None => (word, None),
            };
            if matches!(option, "--bundle" | "-b") {
                bundle = value;
            }
            continue;
        }
        match verb {
            None => {
                verb = Some(match word {
                    "create" | "run" => Verb::Create,
                    "exec" => Verb::Exec,
                    _ => Verb::Other,
                });
            }
            Some(verb) => return (!word.is_empty()).then_some(Command { runtime, verb, id: word, bundle }),
        }
    }
    None
}

/// Returns true for `runc init`: runc runs it inside the container before it executes the program.
pub fn is_init(argv: &Arguments) -> bool {
    let mut words = argv.iter();
    let program = words.next();
    words.next() == Some("init") && program.and_then(runtime).is_some()
}

/// Returns the runtime that a program is.
fn runtime(program: &str) -> Option<&'static str> {
    let name = program.rsplit_once('/').map_or(program, |(_, name)| name);
    let is =
        |runtime: &str| name.strip_suffix(runtime).is_some_and(|before| before.is_empty() || before.ends_with('-'));
    RUNTIMES.into_iter().find(|runtime| is(runtime))
}

/// Returns true if the last part of a cgroup's path contains the id of a container: `ID`, `runc-ID.scope`, `x:runc:ID`.
pub fn is_named_after(path: &str, id: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let name = name.strip_suffix(".scope").unwrap_or(name);
    name.strip_suffix(id).is_some_and(|before| before.is_empty() || before.ends_with(['-', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<(&'static str, Verb, String, Option<String>)> {
        let argv: Arguments = text.split(' ').collect();
        read(&argv).map(|line| (line.runtime, line.verb, line.id.into(), line.bundle.map(Into::into)))
    }

    #[test]
    fn the_lines_of_engines_are_understood() {
        let rows = [
            ("runc run web", Some(("runc", Verb::Create, "web", None))),
            ("runc --root /run/r run -d -b /b web", Some(("runc", Verb::Create, "web", Some("/b")))),
            // containerd-shim-runc-v2 for Docker.
            (
                "runc --root /var/run/docker/runtime-runc/moby --log /run/x/log.json --log-format json create --bundle \
                 /run/x/abc --pid-file /run/x/abc/init.pid abc",
                Some(("runc", Verb::Create, "abc", Some("/run/x/abc"))),
            ),
            (
                "runc --root /run/r --log /l --log-format json exec --process /tmp/runc-process1 --detach --pid-file /p abc",
                Some(("runc", Verb::Exec, "abc", None)),
            ),
            ("runc --root /run/r --log /l --log-format json start abc", Some(("runc", Verb::Other, "abc", None))),
            ("runc --root /run/r delete --force abc", Some(("runc", Verb::Other, "abc", None))),
            // conmon for Podman.
            (
                "/usr/bin/crun --systemd-cgroup --root=/run/crun create --bundle /u/userdata --pid-file /u/pidfile abc",
                Some(("crun", Verb::Create, "abc", Some("/u/userdata"))),
            ),
            ("/usr/bin/crun exec -t -e A=b -u 1:1 abc sh -c true", Some(("crun", Verb::Exec, "abc", None))),
            ("/usr/bin/buildkit-runc --log /l run --bundle /b abc", Some(("runc", Verb::Create, "abc", Some("/b")))),
            ("crun --bundle=/b run web", Some(("crun", Verb::Create, "web", Some("/b")))),
            ("runc init", None),
            ("notrunc run web", None),
            ("runc", None),
            ("runc --version", None),
            ("docker run alpine", None),
            ("", None),
        ];
        for (text, wanted) in rows {
            let wanted = wanted.map(|(runtime, verb, id, bundle): (_, _, &str, Option<&str>)| {
                (runtime, verb, id.to_owned(), bundle.map(str::to_owned))
            });
            assert_eq!(line(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_program_is_the_runtime_that_its_command_line_names() {
        for exe in
            ["/usr/sbin/runc", "/opt/bin/runc.amd64", "/usr/bin/docker-runc", "/memfd:runc_cloned:/proc/self/exe"]
        {
            assert!(is_program_of(Some(exe), "runc"), "{exe}");
        }
        assert!(is_program_of(None, "runc"));
        for exe in ["/usr/bin/unshare", "/home/runc/sh", "/usr/bin/su"] {
            assert!(!is_program_of(Some(exe), "runc"), "{exe}");
        }
    }

    #[test]
    fn runc_becomes_init_before_the_program() {
        let is_init = |text: &str| is_init(&text.split(' ').collect());
        assert!(is_init("runc init") && is_init("/usr/sbin/runc init"));
        assert!(!is_init("runc run init") && !is_init("/sbin/init") && !is_init("sh init"));
    }

    #[test]
    fn cgroups_are_named_after_containers() {
        for path in ["/web", "/a/b/web", "/system.slice/runc-web.scope", "/system.slice:runc:web"] {
            assert!(is_named_after(path, "web"), "{path}");
        }
        assert!(!is_named_after("/cobweb", "web") && !is_named_after("/web/a", "web"));
    }
}
