//! What Docker keeps of its containers: `<data root>/containers/<id>/config.v2.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::files::read;
use crate::enrich::info::Info;

/// Where it is unless dockerd was told otherwise.
pub(super) const DATA_ROOT: &str = "/var/lib/docker";
/// Its settings, unless it was told otherwise.
const CONFIG_FILE: &str = "/etc/docker/daemon.json";

#[derive(Deserialize)]
struct Settings {
    /// `graph` until 17.05.
    #[serde(rename = "data-root", alias = "graph")]
    data_root: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    name: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: Option<Arc<str>>,
}

/// The data root of a daemon, by its command line and settings; `root` is the file system as it sees it.
pub(super) fn data_root(argv: &[&str], root: &Path) -> PathBuf {
    let given = value(argv, &["--data-root", "-g", "--graph"]).map(PathBuf::from);
    let settings = || {
        let file = value(argv, &["--config-file"]).unwrap_or(CONFIG_FILE);
        serde_json::from_slice::<Settings>(&read(&inside(root, Path::new(file)))?).ok()?.data_root
    };
    given.or_else(settings).unwrap_or_else(|| DATA_ROOT.into())
}

/// The value of an option.
fn value<'a>(argv: &[&'a str], names: &[&str]) -> Option<&'a str> {
    argv.iter().enumerate().find_map(|(at, word)| {
        if names.contains(word) {
            return argv.get(at + 1).copied();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then_some(value)
    })
}

/// An absolute path, below another root.
pub(super) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Takes what Docker says of a container: name and image. False if it does not know it (yet).
pub(super) fn container(json: &[u8], info: &mut Info) -> bool {
    let Ok(container) = serde_json::from_slice::<Container>(json) else { return false };
    let Some(name) = container.name.as_deref().map(|name| name.trim_start_matches('/')) else { return false };
    if name.is_empty() {
        return false;
    }
    info.name = Some(name.into());
    info.image = container.config.and_then(|config| config.image).or(info.image.take());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/files/docker.config.v2.json");

    #[test]
    fn its_file_names_container_and_image() {
        let mut info = Info::default();
        assert!(container(FILE, &mut info));
        assert_eq!((info.name.as_deref(), info.image.as_deref()), (Some("dweb"), Some("tracer-test")));
        assert!(!container(&FILE[..100], &mut Info::default()));
        assert!(!container(b"{}", &mut Info::default()));
    }

    #[test]
    fn the_data_root_is_where_the_daemon_was_told() {
        let root = tempfile::tempdir().unwrap();
        let of = |line: &str| data_root(&line.split(' ').collect::<Vec<_>>(), root.path());
        assert_eq!(of("dockerd -H fd://"), Path::new(DATA_ROOT));
        assert_eq!(of("dockerd --data-root /d -H fd://"), Path::new("/d"));
        assert_eq!(of("dockerd --data-root=/d"), Path::new("/d"));
        std::fs::create_dir_all(root.path().join("etc/docker")).unwrap();
        std::fs::write(root.path().join("etc/docker/daemon.json"), r#"{"data-root": "/srv/docker"}"#).unwrap();
        assert_eq!(of("dockerd"), Path::new("/srv/docker"));
        std::fs::write(root.path().join("other.json"), r#"{"graph": "/old", "debug": true}"#).unwrap();
        assert_eq!(of("dockerd --config-file /other.json"), Path::new("/old"));
    }
}
