//! Who is who in the start of a container, by the name of the program.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enrich::oci;
use crate::record::text::Arguments;

/// What a process does in the start of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks for the container: `docker run`.
    Client,
    /// The engine's daemon that has it made. It runs already: it is there from what it does first.
    Daemon,
    /// Stays with the container: containerd's shim, conmon.
    Shim,
    /// Makes the container: `runc create`, `runc run`.
    Runtime,
    /// A stage of what becomes the container's first process.
    Init,
    /// Lets the entrypoint go: `runc start`.
    Start,
    /// The container's first process, from the exec of its entrypoint on: now the container is ready.
    Entrypoint,
    /// The first process that the entrypoint makes.
    FirstChild,
    /// Stands in the line between two others, and is known for nothing.
    Helper,
}

impl Role {
    /// The name it has in JSON, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Daemon => "daemon",
            Self::Shim => "shim",
            Self::Runtime => "runtime",
            Self::Init => "init",
            Self::Start => "start",
            Self::Entrypoint => "entrypoint",
            Self::FirstChild => "first child",
            Self::Helper => "helper",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Programs that people ask for containers with. What runs containers without a daemon is one too.
const CLIENTS: [&str; 11] = [
    "docker",
    "podman",
    "podman-remote",
    "nerdctl",
    "ctr",
    "crictl",
    "docker-compose",
    "buildah",
    "systemd-nspawn",
    "lxc-start",
    "lxc-execute",
];

const DAEMONS: [&str; 4] = ["dockerd", "containerd", "crio", "docker-containerd"];

/// The name of a program.
pub fn program(argv0: &str) -> &str {
    argv0.rsplit_once('/').map_or(argv0, |(_, name)| name)
}

/// What a command line is known for; none for that of anything else.
pub fn of(argv: &Arguments) -> Option<Role> {
    let name = program(argv.first()?);
    if oci::is_init(argv) {
        Some(Role::Init)
    } else if oci::read(argv).is_some() {
        Some(Role::Runtime)
    } else if DAEMONS.contains(&name) || is_service(name, argv) {
        Some(Role::Daemon)
    } else if name.starts_with("containerd-shim") || name == "conmon" || name == "conmonrs" {
        Some(Role::Shim)
    } else {
        CLIENTS.contains(&name).then_some(Role::Client)
    }
}

/// `podman system service`, which does for others what it is asked.
fn is_service(name: &str, argv: &Arguments) -> bool {
    name == "podman" && argv.iter().zip(argv.iter().skip(1)).any(|two| two == ("system", "service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Arguments {
        text.split(' ').collect()
    }

    #[test]
    fn programs_are_known_by_their_names() {
        for (text, role) in [
            ("docker --host unix:///s run web", Some(Role::Client)),
            ("/usr/bin/podman run web", Some(Role::Client)),
            ("podman system service --time=0", Some(Role::Daemon)),
            ("/usr/bin/dockerd -H fd://", Some(Role::Daemon)),
            ("containerd --config /c", Some(Role::Daemon)),
            ("/usr/bin/containerd-shim-runc-v2 -namespace moby -id abc start", Some(Role::Shim)),
            ("/usr/bin/conmon --api-version 1 -c abc", Some(Role::Shim)),
            ("runc --root /r create --bundle /b abc", Some(Role::Runtime)),
            ("/usr/bin/runc init", Some(Role::Init)),
            ("libnetwork-setkey -exec-root=/x abc", None),
            ("runc --version", None),
            ("/bin/sh -c docker", None),
            ("", None),
        ] {
            assert_eq!(of(&words(text)), role, "{text}");
        }
        assert_eq!(of(&Arguments::default()), None);
    }
}
