//! Running engines: where Docker keeps its data, and the bundles of containers that other engines supervise.
//!
//! Any user can start a process that is called `dockerd`. So each is trusted only for the containers in its
//! [`EngineScope`]. An engine of root is trusted for containers of root, and an engine of a user for that user's. An
//! engine inside a container is trusted for containers below that.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::docker;
use crate::enrich::path;
use crate::event::id::ProcessId;
use crate::untrusted::{Named, Owner, Pool, Root, read};

/// Minimum time between two scans of `/proc`.
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// Command lines and environments of engines are shorter than this.
const MAX_LINE_BYTES: u64 = 256 << 10;

/// Files of engines are smaller than this: of root, and of other users.
const MAX_BYTES: u64 = 64 << 20;
const MAX_USERS_BYTES: u64 = 1 << 20;

/// Maximum number of engines per user other than root.
const MAX_PER_USER: usize = 64;

/// The containers that an engine is trusted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EngineScope {
    /// Its user, in the initial user namespace.
    pub(super) uid: u32,
    /// The cgroup of the container that the engine itself runs in.
    pub(super) within: Option<Arc<str>>,
}

impl EngineScope {
    /// Returns whether a container with this cgroup and owner is in the scope.
    pub(super) fn covers(&self, owner: u32, cgroup: &str) -> bool {
        let below = |above: &Arc<str>| cgroup.strip_prefix(&**above).is_some_and(|rest| rest.starts_with('/'));
        self.uid == owner && self.within.as_ref().is_none_or(below)
    }
}

/// A path that an engine named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnginePath {
    pub(super) path: PathBuf,
    /// The process in whose view the path is valid. None for tracer's own view.
    pub(super) view_of: Option<ProcessId>,
    pub(super) scope: EngineScope,
}

impl EnginePath {
    /// Returns whether that process still exists.
    pub(super) fn view_exists(&self) -> bool {
        self.view_of.is_none_or(|process| Root::of(process).is_some())
    }

    /// Returns a file below the path or above it, owned by the engine's user.
    pub(super) fn file(&self, path: PathBuf) -> Option<Named> {
        self.named(path, Owner::of(self.scope.uid))
    }

    /// The same with a given owner. None if the process that provides the view is gone.
    pub(super) fn named(&self, path: PathBuf, owner: Owner) -> Option<Named> {
        let max_bytes = if self.scope.uid == 0 { MAX_BYTES } else { MAX_USERS_BYTES };
        let root = match self.view_of {
            Some(process) => Some(Arc::new(Root::of(process)?)),
            None => None,
        };
        Some(Named { path, root, owner, max_bytes })
    }
}

/// What the processes of engines show.
#[derive(Debug, Default)]
pub(super) struct Engines {
    scanned: Option<Instant>,
    /// Data roots of Docker.
    pub(super) docker: Vec<EnginePath>,
    /// Bundles by container id, of containers that a containerd shim or conmon supervises.
    bundles: FxHashMap<Arc<str>, Vec<EnginePath>>,
}

impl Engines {
    /// Scans `/proc` again, unless it was just scanned. Returns true if it did.
    pub(super) fn refresh(&mut self, pool: &mut Pool) -> bool {
        if self.scanned.is_some_and(|scanned| scanned.elapsed() < SCAN_INTERVAL) {
            return false;
        }
        *self = Self::find(Path::new("/proc"), pool);
        // Users of this machine decide how long a scan takes, but not how long the pause after it is.
        self.scanned = Some(Instant::now());
        true
    }

    /// Returns the bundle of a container of this user.
    pub(super) fn bundle(&self, id: &str, owner: u32, cgroup: &str) -> Option<&EnginePath> {
        self.bundles.get(id)?.iter().find(|place| place.scope.covers(owner, cgroup))
    }

    fn find(proc: &Path, pool: &mut Pool) -> Self {
        let mut found = Self::default();
        let mut per_user: FxHashMap<u32, usize> = FxHashMap::default();
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid {
                found.add_engine(pid, &entry.path(), &mut per_user, pool);
            }
        }
        let default = EnginePath { path: docker::DATA_ROOT.into(), view_of: None, scope: EngineScope::default() };
        if !found.docker.contains(&default) {
            // Containers keep running while dockerd is down (`live-restore`).
            found.docker.push(default);
        }
        found
    }

    fn add_engine(
        &mut self,
        pid: u32,
        process: &Path,
        per_user: &mut FxHashMap<u32, usize>,
        pool: &mut Pool,
    ) -> Option<()> {
        let comm = fs::read(process.join("comm")).ok()?;
        let comm = std::str::from_utf8(&comm).ok()?.trim_end();
        // Names are cut after 15 bytes: containerd-shim-runc-v2, containerd-shim.
        if !["dockerd", "containerd-shim", "conmon"].contains(&comm) {
            return None;
        }
        let scope = scope(process)?;
        if scope.uid != 0 {
            let of_user = per_user.entry(scope.uid).or_default();
            *of_user += 1;
            if *of_user > MAX_PER_USER {
                return None;
            }
        }
        let id = crate::proc::start_of(&process.join("stat"))
            .map(|found| ProcessId::from_ticks(found.start_ticks(), pid))?;
        let Cmdline { args: line, environment } = pool.run(scope.uid, {
            let (process, of_root, is_docker) = (process.to_owned(), scope.uid == 0, comm == "dockerd");
            move || read_cmdline(&process, of_root, is_docker)
        })??;
        let line = String::from_utf8_lossy(&line);
        let argv: Vec<&str> = line.split('\0').collect();
        let value = |name: &str| argv.iter().position(|word| *word == name).and_then(|at| argv.get(at + 1)).copied();
        // In its own view: it may have separate mounts.
        let ours = scope.within.is_none() && Root::of(id).is_some_and(|root| root.is_ours());
        let view_of = if ours { None } else { Some(id) };
        let place = |path: PathBuf| EnginePath { path, view_of, scope: scope.clone() };
        match comm {
            "dockerd" => {
                let environment = String::from_utf8_lossy(&environment);
                let settings = |path: &Path| {
                    let file = place(PathBuf::new()).file(path.into())?;
                    pool.run(scope.uid, move || read(&file))?.ok()
                };
                let path = docker::data_root(&argv, &environment.split('\0').collect::<Vec<_>>(), settings);
                self.docker.push(place(path));
            }
            // A conmon that supervises a `podman exec` has the same container id, but its own bundle.
            "conmon" if argv.iter().any(|word| ["-e", "--exec"].contains(word)) => {}
            "conmon" => self.bundles.entry(value("-c")?.into()).or_default().push(place(value("-b")?.into())),
            _ => {
                let bundle = fs::read_link(process.join("cwd")).ok()?;
                self.bundles.entry(value("-id")?.into()).or_default().push(place(bundle));
            }
        }
        Some(())
    }
}

/// Returns the user and container of a process. None if its ids differ: it is about to change them.
fn scope(process: &Path) -> Option<EngineScope> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = ids.split_ascii_whitespace().map(str::parse::<u32>);
    let uid = ids.next()?.ok()?;
    if !ids.all(|id| id == Ok(uid)) {
        return None;
    }
    let cgroups = fs::read_to_string(process.join("cgroup")).ok()?;
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let within = paths.filter_map(|path| path::read(path).container).map(|container| container.cgroup).max();
    Some(EngineScope { uid, within: within.map(Into::into) })
}

struct Cmdline {
    args: Vec<u8>,
    environment: Vec<u8>,
}

/// Reads command line and environment. Both are in the memory of the process, which can be a file on a file system that
/// does not respond. Returns None for a process of root whose program other users can change.
fn read_cmdline(process: &Path, of_root: bool, environment: bool) -> Option<Cmdline> {
    if of_root {
        let exe = fs::metadata(process.join("exe")).ok()?;
        if exe.uid() != 0 || exe.mode() & 0o002 != 0 {
            return None;
        }
    }
    let read = |name: &str| {
        let mut bytes = Vec::new();
        File::open(process.join(name)).ok()?.take(MAX_LINE_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let environment = if environment { read("environ").unwrap_or_default() } else { Vec::new() };
    Some(Cmdline { args: read("cmdline")?, environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory like `/proc`, to which processes can be added.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn process(&self, pid: &str, [comm, line, cwd]: [&str; 3], uids: &str, cgroup: &str) {
            let at = self.0.path().join(pid);
            fs::create_dir_all(at.join("ns")).unwrap();
            fs::write(at.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(at.join("cmdline"), line.replace(' ', "\0")).unwrap();
            fs::write(at.join("status"), format!("Name:\t{comm}\nUid:\t{}\n", uids.replace(' ', "\t"))).unwrap();
            fs::write(at.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            fs::copy("/proc/self/stat", at.join("stat")).unwrap();
            std::os::unix::fs::symlink("/bin/sh", at.join("exe")).unwrap();
            std::os::unix::fs::symlink(cwd, at.join("cwd")).unwrap();
        }

        fn find(&self) -> Engines {
            Engines::find(self.0.path(), &mut Pool::patient())
        }
    }

    fn paths(places: &[EnginePath]) -> Vec<(&str, u32, Option<&str>)> {
        places.iter().map(|p| (p.path.to_str().unwrap(), p.scope.uid, p.scope.within.as_deref())).collect()
    }

    const ROOT: &str = "0 0 0 0";
    const USER: &str = "1000 1000 1000 1000";

    #[test]
    fn paths_are_read_from_engine_processes() {
        let proc = Proc(tempfile::tempdir().unwrap());
        proc.process("10", ["dockerd", "/usr/sbin/dockerd --data-root /data", "/"], ROOT, "/");
        let shim = "/usr/bin/containerd-shim-runc-v2 -namespace moby -id abc -address /s";
        proc.process("11", ["containerd-shim", shim, "/run/b/abc"], ROOT, "/");
        let conmon = "/usr/bin/conmon --api-version 1 -c def -u def -r /usr/bin/runc -b /st/def/userdata -n web";
        proc.process("12", ["conmon", conmon, "/"], ROOT, "/");
        let exec = "/usr/bin/conmon --api-version 1 -c def -u 77 -r /usr/bin/runc -b /st/def/userdata/77 -n web -e";
        proc.process("13", ["conmon", exec, "/"], ROOT, "/");
        proc.process("14", ["bash", "bash -c x -b y", "/"], ROOT, "/");
        let found = proc.find();
        assert_eq!(paths(&found.docker), [("/data", 0, None), (docker::DATA_ROOT, 0, None)]);
        assert_eq!(found.bundle("abc", 0, "/a").map(|place| &*place.path), Some(Path::new("/run/b/abc")));
        assert_eq!(found.bundle("def", 0, "/a").map(|place| &*place.path), Some(Path::new("/st/def/userdata")));
        assert_eq!(found.bundles.len(), 2);
    }

    #[test]
    fn an_engine_is_trusted_only_in_its_scope() {
        let proc = Proc(tempfile::tempdir().unwrap());
        let conmon = |bundle: &str| format!("conmon -c def -b {bundle}");
        proc.process("10", ["conmon", &conmon("/users"), "/"], USER, "/");
        proc.process("11", ["dockerd", "dockerd --data-root /users", "/"], USER, "/user.slice");
        let outer = format!("/docker/{}", "a".repeat(64));
        proc.process("12", ["conmon", &conmon("/inner"), "/"], ROOT, &format!("{outer}/below"));
        proc.process("13", ["conmon", &conmon("/setuid"), "/"], "1000 0 0 0", "/");
        let found = proc.find();
        let bundle = |owner, cgroup: &str| found.bundle("def", owner, cgroup).and_then(|place| place.path.to_str());
        assert_eq!(
            bundle(0, "/libpod-def"),
            None,
            "neither a user nor a container describes a container of the host's root"
        );
        assert_eq!(bundle(1000, "/user.slice/def"), Some("/users"));
        assert_eq!(bundle(1001, "/user.slice/def"), None);
        assert_eq!(bundle(0, &format!("{outer}/def")), Some("/inner"));
        assert_eq!(bundle(0, &format!("{outer}0/def")), None, "another container with a like name");
        assert_eq!(paths(&found.docker), [("/users", 1000, None), (docker::DATA_ROOT, 0, None)]);
    }

    #[test]
    fn one_user_has_a_bounded_number_of_engines() {
        let proc = Proc(tempfile::tempdir().unwrap());
        for pid in 10..300 {
            proc.process(&pid.to_string(), ["conmon", &format!("conmon -c {pid} -b /b"), "/"], USER, "/");
        }
        assert_eq!(proc.find().bundles.len(), MAX_PER_USER);
    }
}
