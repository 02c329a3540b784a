//! Reads Docker's file about a container: `<data root>/containers/<id>/config.v2.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::files::name;
use crate::enrich::info::Info;
use crate::enrich::lenient::lenient;

/// The default data root.
pub(super) const DATA_ROOT: &str = "/var/lib/docker";
/// The default settings file.
const CONFIG_FILE: &str = "/etc/docker/daemon.json";

#[derive(Deserialize)]
struct Settings {
    /// `graph` until 17.05.
    #[serde(default, rename = "data-root", alias = "graph", deserialize_with = "lenient")]
    data_root: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "lenient")]
    image: Option<Arc<str>>,
}

/// Returns the data root of a daemon from its command line, environment and settings. `read` reads a file in the
/// daemon's view.
pub(super) fn data_root(argv: &[&str], environment: &[&str], read: impl FnOnce(&Path) -> Option<Vec<u8>>) -> PathBuf {
    let given = value(argv, &["--data-root", "-g", "--graph"]).map(PathBuf::from);
    let variable = |name: &str| {
        let value = environment.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let below_home = |name: &str, usual: &str| variable(name).or_else(|| Some(variable("HOME")?.join(usual)));
    // This is how dockerd itself detects that it is rootless: by a variable of RootlessKit
    // (https://github.com/moby/moby/blob/v28.2.2/pkg/rootless/rootless.go, cmd/dockerd/config_unix.go).
    let rootless = variable("ROOTLESSKIT_STATE_DIR").is_some();
    let settings = || {
        let usual = if rootless {
            below_home("XDG_CONFIG_HOME", ".config").map(|home| home.join("docker/daemon.json"))
        } else {
            Some(CONFIG_FILE.into())
        };
        let file = value(argv, &["--config-file"]).map(PathBuf::from).or(usual)?;
        serde_json::from_slice::<Settings>(&read(&file)?).ok()?.data_root
    };
    let own = || below_home("XDG_DATA_HOME", ".local/share").filter(|_| rootless).map(|home| home.join("docker"));
    given.or_else(settings).or_else(own).unwrap_or_else(|| DATA_ROOT.into())
}

/// Returns the value of an option.
fn value<'a>(argv: &[&'a str], names: &[&str]) -> Option<&'a str> {
    argv.iter().enumerate().find_map(|(at, word)| {
        if names.contains(word) {
            return argv.get(at + 1).copied();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then_some(value)
    })
}

/// Takes name and image of a container from Docker's file. Returns false if the file has no name (yet).
pub(super) fn container(json: &[u8], info: &mut Info) -> bool {
    let Ok(container) = serde_json::from_str::<Container>(&String::from_utf8_lossy(json)) else { return false };
    let called = container.name.as_deref().map(|name| name.trim_start_matches('/').into());
    let Some(called) = name(called) else { return false };
    info.name = Some(called);
    info.image = container.config.and_then(|config| name(config.image)).or(info.image.take());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../../tests/files/docker.config.v2.json");

    #[test]
    fn the_file_names_container_and_image() {
        let mut info = Info::default();
        assert!(container(FILE, &mut info));
        assert_eq!((info.name.as_deref(), info.image.as_deref()), (Some("dweb"), Some("tracer-test")));
        assert!(!container(&FILE[..100], &mut Info::default()));
        assert!(!container(b"{}", &mut Info::default()));
    }

    /// A member of an unexpected type does not affect others.
    #[test]
    fn an_unexpected_member_does_not_affect_others() {
        let mut info = Info::default();
        let strange = br#"{"Name": "/web", "Config": {"Image": 7, "Env": 8}, "State": "?"}"#;
        assert!(container(strange, &mut info));
        assert_eq!((info.name.as_deref(), info.image), (Some("web"), None));
        let mut info = Info::default();
        assert!(container(b"{\"Name\": \"/w\xffb\", \"Config\": 7}", &mut info));
        assert_eq!(info.name.as_deref(), Some("w\u{fffd}b"));
    }

    fn below(root: &Path) -> impl FnOnce(&Path) -> Option<Vec<u8>> {
        |path| std::fs::read(root.join(path.strip_prefix("/").unwrap())).ok()
    }

    #[test]
    fn the_data_root_is_read_from_the_daemons_settings() {
        let root = tempfile::tempdir().unwrap();
        let of = |line: &str| data_root(&line.split(' ').collect::<Vec<_>>(), &["HOME=/root"], below(root.path()));
        assert_eq!(of("dockerd -H fd://"), Path::new(DATA_ROOT));
        assert_eq!(of("dockerd --data-root /d -H fd://"), Path::new("/d"));
        assert_eq!(of("dockerd --data-root=/d"), Path::new("/d"));
        std::fs::create_dir_all(root.path().join("etc/docker")).unwrap();
        std::fs::write(root.path().join("etc/docker/daemon.json"), r#"{"data-root": "/srv/docker"}"#).unwrap();
        assert_eq!(of("dockerd"), Path::new("/srv/docker"));
        std::fs::write(root.path().join("other.json"), r#"{"graph": "/old", "debug": true}"#).unwrap();
        assert_eq!(of("dockerd --config-file /other.json"), Path::new("/old"));
    }

    #[test]
    fn the_rootless_data_root_is_in_the_users_home() {
        let root = tempfile::tempdir().unwrap();
        // The settings of root's daemon do not apply to a user's.
        std::fs::create_dir_all(root.path().join("etc/docker")).unwrap();
        std::fs::write(root.path().join("etc/docker/daemon.json"), r#"{"data-root": "/srv/docker"}"#).unwrap();
        let of = |line: &str, more: &str| {
            let environment = format!("ROOTLESSKIT_STATE_DIR=/run/user/1000/dockerd-rootless HOME=/home/ann {more}");
            let environment: Vec<&str> = environment.split_whitespace().collect();
            data_root(&line.split(' ').collect::<Vec<_>>(), &environment, below(root.path()))
        };
        assert_eq!(of("dockerd", ""), Path::new("/home/ann/.local/share/docker"));
        assert_eq!(of("dockerd", "XDG_DATA_HOME=/data/ann"), Path::new("/data/ann/docker"));
        assert_eq!(of("dockerd --data-root /d", "XDG_DATA_HOME=/data/ann"), Path::new("/d"));
        let settings = root.path().join("home/ann/.config/docker");
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::write(settings.join("daemon.json"), r#"{"data-root": "/big/ann"}"#).unwrap();
        assert_eq!(of("dockerd", ""), Path::new("/big/ann"));
        assert_eq!(of("dockerd", "XDG_CONFIG_HOME=/etc/ann"), Path::new("/home/ann/.local/share/docker"));
    }
}
