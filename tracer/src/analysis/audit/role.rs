//! Roles in the start of a container, and commands that ask for one.

pub use crate::analysis::role::{Role, of, program};
use crate::record::text::Arguments;

/// Those of them that have it done by a daemon.
const OF_DAEMONS: [&str; 6] = ["docker", "podman-remote", "nerdctl", "ctr", "crictl", "docker-compose"];

/// What a client is told to do so that a container starts.
const VERBS: [&str; 7] = ["run", "start", "restart", "up", "runp", "play", "kube"];

/// True for a client that asks for the start of a container (or of several).
pub fn asks_for_start(argv: &Arguments) -> bool {
    of(argv) == Some(Role::Client) && argv.iter().skip(1).any(|word| VERBS.contains(&word))
}

/// True for a command that has containers started, by itself or by a daemon.
pub fn starts_containers(argv: &Arguments) -> bool {
    matches!(of(argv), Some(Role::Client | Role::Runtime))
}

/// True for a command whose containers are the children of a daemon.
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
    fn who_asks_for_a_start() {
        assert!(asks_for_start(&words("docker run web")) && asks_for_start(&words("docker compose up")));
        assert!(!asks_for_start(&words("docker ps")) && !asks_for_start(&words("sh run")));
        assert!(needs_daemon(&words("docker run")) && needs_daemon(&words("podman --remote run")));
        assert!(!needs_daemon(&words("podman run")) && !needs_daemon(&words("runc run a")));
        assert!(!needs_daemon(&Arguments::default()));
        assert!(starts_containers(&words("podman run")) && !starts_containers(&words("make")));
    }
}
