//! Containers that are there when tracing begins and whose cgroup does not say so: from what the runtimes keep of each.
//!
//! Engines name the cgroup after the container, so only plain runc and crun (and `ctr` of containerd) need this. Whoever
//! keeps it elsewhere than these are used to is not found; what is started after tracing began is known in any case.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::lenient::lenient;

use crate::kernel::hierarchy::Hierarchy;

/// Where runtimes keep the state of their containers; `*` stands for every directory there.
const RUNC: [&str; 3] = ["/run/runc", "/run/docker/runtime-runc/*", "/run/containerd/runc/*"];
const CRUN: [&str; 1] = ["/run/crun"];

/// Larger files are none of theirs.
const MAX_BYTES: u64 = 1 << 20;

/// A container that a runtime knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its id.
    pub id: String,
    /// Its runtime.
    pub runtime: &'static str,
    /// Path of its cgroup, from the root of the hierarchy.
    pub cgroup: String,
    /// Directory of its bundle.
    pub bundle: Option<String>,
}

/// All that the runtimes know, below the root of the file system.
pub fn containers(hierarchy: &Hierarchy) -> Vec<State> {
    below(Path::new("/"), hierarchy)
}

fn below(root: &Path, hierarchy: &Hierarchy) -> Vec<State> {
    let mut out = Vec::new();
    for (runtime, file, places) in [("runc", "state.json", &RUNC[..]), ("crun", "status", &CRUN[..])] {
        for place in places.iter().flat_map(|place| directories(root, place)) {
            for container in entries(&place) {
                let state = parse(runtime, &container.join(file), hierarchy);
                let id = container.file_name().and_then(|name| name.to_str());
                out.extend(state.zip(id).map(|((cgroup, bundle), id)| State {
                    id: id.to_owned(),
                    runtime,
                    cgroup,
                    bundle,
                }));
            }
        }
    }
    out
}

fn directories(root: &Path, place: &str) -> Vec<PathBuf> {
    let place = place.trim_start_matches('/');
    match place.strip_suffix("/*") {
        Some(above) => entries(&root.join(above)),
        None => vec![root.join(place)],
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// What is used of runc's `state.json` (libcontainer/container_linux.go, `State`).
#[derive(Deserialize)]
struct Runc {
    /// Directory of the cgroup, by v1 controller; v2 has an empty name.
    cgroup_paths: std::collections::HashMap<String, Value>,
    #[serde(default, deserialize_with = "lenient")]
    config: Option<RuncConfig>,
}

#[derive(Deserialize)]
struct RuncConfig {
    /// `bundle=DIRECTORY` among them (libcontainer/specconv/spec_linux.go).
    #[serde(default, deserialize_with = "lenient")]
    labels: Option<Vec<String>>,
}

/// What is used of crun's `status` (src/libcrun/status.c).
#[derive(Deserialize)]
struct Crun {
    #[serde(rename = "cgroup-path")]
    cgroup_path: String,
    #[serde(default, deserialize_with = "lenient")]
    bundle: Option<String>,
}

fn parse(runtime: &str, file: &Path, hierarchy: &Hierarchy) -> Option<(String, Option<String>)> {
    if fs::metadata(file).ok()?.len() > MAX_BYTES {
        return None;
    }
    let text = fs::read(file).ok()?;
    if runtime == "crun" {
        return serde_json::from_slice(&text).ok().map(|crun: Crun| (crun.cgroup_path, crun.bundle));
    }
    let runc: Runc = serde_json::from_slice(&text).ok()?;
    let directory = Path::new(runc.cgroup_paths.get(hierarchy.controller.unwrap_or_default())?.as_str()?);
    let mount = hierarchy.mount.as_ref()?;
    let inside = directory.strip_prefix(&mount.at).ok()?.to_str()?;
    let labels = runc.config.and_then(|config| config.labels).unwrap_or_default();
    let bundle = labels.iter().find_map(|label| label.strip_prefix("bundle=")).map(ToOwned::to_owned);
    Some((format!("{}/{inside}", mount.root.trim_end_matches('/')), bundle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hierarchy::Mount;

    #[test]
    fn the_files_of_each_runtime_are_understood() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // As runc 1.1.5 and crun 1.8.1 write them, shortened.
        let runc = |id: &str| {
            format!(
                r#"{{"id":"{id}","init_process_pid":7,"cgroup_paths":{{"":"/sys/fs/cgroup/unified/{id}",
                "memory":"/sys/fs/cgroup/memory/part/{id}","pids":"/sys/fs/cgroup/pids/{id}"}},
                "rootless":"?","config":{{"rootless_euid":7,"labels":["bundle=/bundles/{id}"]}}}}"#
            )
        };
        write("run/runc/web/state.json", &runc("web"));
        write("run/containerd/runc/default/box/state.json", &runc("box"));
        write("run/runc/broken/state.json", "{");
        write("run/crun/db/status", r#"{"pid": 7, "cgroup-path": "/db", "scope": 7, "bundle": "/b"}"#);
        let mount = Mount { at: "/sys/fs/cgroup/pids".into(), root: "/".into() };
        let hierarchy =
            Hierarchy { subsys: 3, number: 8, controller: Some("pids"), mount: Some(mount), base: String::new() };
        let mut found: Vec<_> = below(root.path(), &hierarchy)
            .into_iter()
            .map(|state| (state.id, state.runtime, state.cgroup, state.bundle))
            .collect();
        found.sort();
        let wanted = [("box", "runc", "/bundles/box"), ("db", "crun", "/b"), ("web", "runc", "/bundles/web")];
        let wanted =
            wanted.map(|(id, runtime, bundle)| (id.to_owned(), runtime, format!("/{id}"), Some(bundle.to_owned())));
        assert_eq!(found, wanted);
    }
}
