//! Roles in the start of a container, and commands that ask for one.

pub use crate::analysis::role::{Role, of, program};
use crate::record::text::Arguments;

/// The clients that pass the request to a daemon.
const OF_DAEMONS: [&str; 6] = ["docker", "podman-remote", "nerdctl", "ctr", "crictl", "docker-compose"];

/// The subcommands of clients that start a container.
const VERBS: [&str; 7] = ["run", "start", "restart", "up", "runp", "play", "kube"];

/// Returns true for a client that requests the start of one or more containers.
pub fn requests_start(argv: &Arguments) -> bool {
    of(argv) == Some(Role::Client) && argv.iter().skip(1).any(|word| VERBS.contains(&word))
}

/// Returns true for a command that starts containers, by itself or through a daemon.
pub fn starts_containers(argv: &Arguments) -> bool {
    matches!(of(argv), Some(Role::Client | Role::Runtime))
}

/// Returns true for a command whose containers are children of a daemon.
pub fn needs_daemon(argv: &Arguments) -> bool {
    let Some(argv0) = argv.first() else { return false };
    let remote = || argv.iter().any(|word| matches!(word, "--remote" | "-r" | "--url" | "--connection"));
    let name = program(argv0);
    OF_DAEMONS.contains(&name) || name == "podman" && remote()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Arguments {
        text.split(' ').collect()
    }

    #[test]
    fn clients_that_request_a_start() {
        assert!(requests_start(&words("docker run web")) && requests_start(&words("docker compose up")));
        assert!(!requests_start(&words("docker ps")) && !requests_start(&words("sh run")));
        assert!(needs_daemon(&words("docker run")) && needs_daemon(&words("podman --remote run")));
        assert!(!needs_daemon(&words("podman run")) && !needs_daemon(&words("runc run a")));
        assert!(!needs_daemon(&Arguments::default()));
        assert!(starts_containers(&words("podman run")) && !starts_containers(&words("make")));
    }
}
