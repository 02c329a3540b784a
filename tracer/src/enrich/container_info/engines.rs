//! Engines that run now: where Docker keeps its data, and where the bundles of containers are that others watch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::docker;
use super::files::read;

/// `/proc` is not looked through more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the processes of engines tell.
#[derive(Debug, Default)]
pub(super) struct Engines {
    looked: Option<Instant>,
    /// Data roots of Docker.
    pub(super) docker: Vec<PathBuf>,
    /// Bundles by id, of containers that a shim of containerd or conmon watches.
    pub(super) bundles: FxHashMap<Arc<str>, PathBuf>,
}

impl Engines {
    /// Looks again, unless that was just done. True if it was done now.
    pub(super) fn refresh(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return false;
        }
        *self = Self::find(Path::new("/proc"));
        true
    }

    fn find(proc: &Path) -> Self {
        let mut found = Self { looked: Some(Instant::now()), ..Self::default() };
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit())) {
                found.look_at(&entry.path());
            }
        }
        let default = PathBuf::from(docker::DATA_ROOT);
        if !found.docker.contains(&default) {
            // Containers live on while dockerd is away (`live-restore`).
            found.docker.push(default);
        }
        found
    }

    fn look_at(&mut self, process: &Path) -> Option<()> {
        let comm = fs::read_to_string(process.join("comm")).ok()?;
        // Names end after 15 bytes: containerd-shim-runc-v2, containerd-shim.
        if !["dockerd", "containerd-shim", "conmon"].contains(&comm.trim_end()) {
            return None;
        }
        let line = read(&process.join("cmdline"))?;
        let line = String::from_utf8_lossy(&line);
        let argv: Vec<&str> = line.split('\0').collect();
        let value = |name: &str| argv.iter().position(|word| *word == name).and_then(|at| argv.get(at + 1)).copied();
        // As it sees it: it may have mounts of its own.
        let root = process.join("root");
        match comm.trim_end() {
            "dockerd" => {
                let environment = read(&process.join("environ")).unwrap_or_default();
                let environment = String::from_utf8_lossy(&environment);
                let data = docker::data_root(&argv, &environment.split('\0').collect::<Vec<_>>(), &root);
                let seen = docker::inside(&root, &data);
                self.docker.push(if data.join("containers").is_dir() { data } else { seen });
            }
            // One that watches a `podman exec` has the container's id too, and a bundle of its own.
            "conmon" if argv.iter().any(|word| ["-e", "--exec"].contains(word)) => {}
            "conmon" => {
                self.bundles.insert(value("-c")?.into(), value("-b")?.into());
            }
            _ => {
                self.bundles.insert(value("-id")?.into(), fs::read_link(process.join("cwd")).ok()?);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_of_engines_tell_where_things_are() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: &str, comm: &str, line: &str, cwd: &str| {
            let at = proc.path().join(pid);
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(at.join("cmdline"), line.replace(' ', "\0")).unwrap();
            std::os::unix::fs::symlink(cwd, at.join("cwd")).unwrap();
            std::os::unix::fs::symlink("/", at.join("root")).unwrap();
        };
        let data = proc.path().join("data");
        fs::create_dir_all(data.join("containers")).unwrap();
        process("10", "dockerd", &format!("/usr/sbin/dockerd --data-root {}", data.display()), "/");
        process(
            "11",
            "containerd-shim",
            "/usr/bin/containerd-shim-runc-v2 -namespace moby -id abc -address /s",
            "/run/b/abc",
        );
        process(
            "12",
            "conmon",
            "/usr/bin/conmon --api-version 1 -c def -u def -r /usr/bin/runc -b /st/def/userdata -n web",
            "/",
        );
        process(
            "13",
            "conmon",
            "/usr/bin/conmon --api-version 1 -c def -u 77 -r /usr/bin/runc -b /st/def/userdata/77 -n web -e",
            "/",
        );
        process("14", "bash", "bash -c x -b y", "/");
        let found = Engines::find(proc.path());
        assert_eq!(found.docker, [data, docker::DATA_ROOT.into()]);
        assert_eq!(found.bundles.get("abc").map(PathBuf::as_path), Some(Path::new("/run/b/abc")));
        assert_eq!(found.bundles.get("def").map(PathBuf::as_path), Some(Path::new("/st/def/userdata")));
        assert_eq!(found.bundles.len(), 2);
    }
}
