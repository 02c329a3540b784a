//! The role of a process in the start of a container, by the name of its program.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enrich::oci;
use crate::record::text::Arguments;

/// What a process does in the start of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Requests the container: `docker run`.
    Client,
    /// The engine's daemon. It runs already, so its step begins with its first action for this container.
    Daemon,
    /// Stays with the container: containerd's shim, conmon.
    Shim,
    /// Creates the container: `runc create`, `runc run`.
    Runtime,
    /// A stage before the entrypoint of the container's first process.
    Init,
    /// Releases the entrypoint: `runc start`.
    Start,
    /// The container's first process after the exec of its entrypoint. Now the container is ready.
    Entrypoint,
    /// The first process that the entrypoint forks.
    FirstChild,
    /// An unknown program between two other steps.
    Helper,
}

impl Role {
    /// Returns its JSON name, with a space between words.
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

/// Programs with which people request containers, including those that run containers without a daemon.
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

/// Returns the name of a program without its directory.
pub fn program(argv0: &str) -> &str {
    argv0.rsplit_once('/').map_or(argv0, |(_, name)| name)
}

/// Returns the role of a command line, or `None` if it has none.
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

/// Returns true for `podman system service`, which serves requests like a daemon.
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
