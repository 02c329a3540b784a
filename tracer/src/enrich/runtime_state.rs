//! Reads the state files of runtimes, to find existing containers whose cgroup path does not show one.
//!
//! Engines name the cgroup after the container, so only plain runc and crun (and `ctr` of containerd) need this.
//! Containers with state in other directories are not found here. Those that start after tracing began are found in any
//! case.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::lenient::lenient;

use crate::kernel::hierarchy::Hierarchy;

/// Where runtimes keep the state of their containers. `*` stands for every directory there.
const RUNC: [&str; 3] = ["/run/runc", "/run/docker/runtime-runc/*", "/run/containerd/runc/*"];
const CRUN: [&str; 1] = ["/run/crun"];

/// Their state files are smaller than this.
const MAX_BYTES: u64 = 1 << 20;

/// The state of a container in a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeState {
    /// Its id.
    pub id: String,
    /// Its runtime.
    pub runtime: &'static str,
    /// Path of its cgroup, from the root of the hierarchy.
    pub cgroup: String,
    /// Directory of its bundle.
    pub bundle: Option<String>,
}

/// Returns all containers of the known runtimes.
pub fn containers(hierarchy: &Hierarchy) -> Vec<RuntimeState> {
    below(Path::new("/"), hierarchy)
}

fn below(root: &Path, hierarchy: &Hierarchy) -> Vec<RuntimeState> {
    let mut out = Vec::new();
    for (runtime, file, directories) in [("runc", "state.json", &RUNC[..]), ("crun", "status", &CRUN[..])] {
        for place in directories.iter().flat_map(|place| expand(root, place)) {
            for container in entries(&place) {
                let state = parse(runtime, &container.join(file), hierarchy);
                let id = container.file_name().and_then(|name| name.to_str());
                out.extend(state.zip(id).map(|((cgroup, bundle), id)| RuntimeState {
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

fn expand(root: &Path, place: &str) -> Vec<PathBuf> {
    let place = place.trim_start_matches('/');
    match place.strip_suffix("/*") {
        Some(above) => entries(&root.join(above)),
        None => vec![root.join(place)],
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The used part of runc's `state.json` (libcontainer/container_linux.go, `RuntimeState`).
#[derive(Deserialize)]
struct Runc {
    /// Directory of the cgroup by v1 controller. v2 has an empty name.
    cgroup_paths: std::collections::HashMap<String, Value>,
    #[serde(default, deserialize_with = "lenient")]
    config: Option<RuncConfig>,
}

#[derive(Deserialize)]
struct RuncConfig {
    /// Contains `bundle=DIRECTORY` (libcontainer/specconv/spec_linux.go).
    #[serde(default, deserialize_with = "lenient")]
    labels: Option<Vec<String>>,
}

/// The used part of crun's `status` (src/libcrun/status.c).
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
