//! Engines that run now: where Docker keeps its data, and where the bundles of containers are that others watch.
//!
//! Any user can start a process that is called `dockerd`. So each is believed only about the containers in its [`Realm`]:
//! an engine of root about those of root, an engine of a user about that user's, an engine inside a container about those
//! below that container.

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

/// `/proc` is searched no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Command lines and environments of engines are shorter.
const MAX_LINE_BYTES: u64 = 256 << 10;

/// Larger files are none of an engine's: of root, and of another user.
const MAX_BYTES: u64 = 64 << 20;
const MAX_USERS_BYTES: u64 = 1 << 20;

/// As many processes of one user other than root are believed to be engines.
const MAX_OF_USER: usize = 64;

/// Which containers an engine knows about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Realm {
    /// Its user, as the initial user namespace numbers it.
    pub(super) uid: u32,
    /// It runs inside a container itself, which has this control group.
    pub(super) within: Option<Arc<str>>,
}

impl Realm {
    /// Whether a container with this control group, which belongs to this user, is one of its.
    pub(super) fn covers(&self, owner: u32, cgroup: &str) -> bool {
        let below = |above: &Arc<str>| cgroup.strip_prefix(&**above).is_some_and(|rest| rest.starts_with('/'));
        self.uid == owner && self.within.as_ref().is_none_or(below)
    }
}

/// Where a path is that an engine named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The process that sees it there; none if tracer itself does.
    pub(super) seen_by: Option<ProcessId>,
    pub(super) realm: Realm,
}

impl Place {
    /// Whether the process is there that sees it.
    pub(super) fn is_seen(&self) -> bool {
        self.seen_by.is_none_or(|process| Root::of(process).is_some())
    }

    /// A file below it, or above.
    pub(super) fn file(&self, path: PathBuf) -> Option<Named> {
        self.named(path, Owner::of(self.realm.uid))
    }

    /// The same, with an owner given. None if the process that sees it is gone.
    pub(super) fn named(&self, path: PathBuf, owner: Owner) -> Option<Named> {
        let max_bytes = if self.realm.uid == 0 { MAX_BYTES } else { MAX_USERS_BYTES };
        let root = match self.seen_by {
            Some(process) => Some(Arc::new(Root::of(process)?)),
            None => None,
        };
        Some(Named { path, root, owner, max_bytes })
    }
}

/// What the processes of engines show.
#[derive(Debug, Default)]
pub(super) struct Engines {
    looked: Option<Instant>,
    /// Data roots of Docker.
    pub(super) docker: Vec<Place>,
    /// Bundles by id, of containers that a shim of containerd or conmon watches.
    bundles: FxHashMap<Arc<str>, Vec<Place>>,
}

impl Engines {
    /// Looks again, unless that was just done. True if it was done now.
    pub(super) fn refresh(&mut self, pool: &mut Pool) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return false;
        }
        *self = Self::find(Path::new("/proc"), pool);
        // How long it takes is up to the users of this machine; the pause after it is not.
        self.looked = Some(Instant::now());
        true
    }

    /// The bundle of a container that belongs to this user.
    pub(super) fn bundle(&self, id: &str, owner: u32, cgroup: &str) -> Option<&Place> {
        self.bundles.get(id)?.iter().find(|place| place.realm.covers(owner, cgroup))
    }

    fn find(proc: &Path, pool: &mut Pool) -> Self {
        let mut found = Self::default();
        let mut of_users: FxHashMap<u32, usize> = FxHashMap::default();
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid {
                found.look_at(pid, &entry.path(), &mut of_users, pool);
            }
        }
        let default = Place { path: docker::DATA_ROOT.into(), seen_by: None, realm: Realm::default() };
        if !found.docker.contains(&default) {
            // Containers live on while dockerd is away (`live-restore`).
            found.docker.push(default);
        }
        found
    }

    fn look_at(
        &mut self,
        pid: u32,
        process: &Path,
        of_users: &mut FxHashMap<u32, usize>,
        pool: &mut Pool,
    ) -> Option<()> {
        let comm = fs::read(process.join("comm")).ok()?;
        let comm = std::str::from_utf8(&comm).ok()?.trim_end();
        // Names end after 15 bytes: containerd-shim-runc-v2, containerd-shim.
        if !["dockerd", "containerd-shim", "conmon"].contains(&comm) {
            return None;
        }
        let realm = realm(process)?;
        if realm.uid != 0 {
            let of_user = of_users.entry(realm.uid).or_default();
            *of_user += 1;
            if *of_user > MAX_OF_USER {
                return None;
            }
        }
        let id = crate::proc::start_of(&process.join("stat"))
            .map(|found| ProcessId::from_ticks(found.start_ticks(), pid))?;
        let Shown { line, environment } = pool.run(realm.uid, {
            let (process, of_root, is_docker) = (process.to_owned(), realm.uid == 0, comm == "dockerd");
            move || shown(&process, of_root, is_docker)
        })??;
        let line = String::from_utf8_lossy(&line);
        let argv: Vec<&str> = line.split('\0').collect();
        let value = |name: &str| argv.iter().position(|word| *word == name).and_then(|at| argv.get(at + 1)).copied();
        // As it sees it: it may have mounts of its own.
        let ours = realm.within.is_none() && Root::of(id).is_some_and(|root| root.is_ours());
        let seen_by = if ours { None } else { Some(id) };
        let place = |path: PathBuf| Place { path, seen_by, realm: realm.clone() };
        match comm {
            "dockerd" => {
                let environment = String::from_utf8_lossy(&environment);
                let settings = |path: &Path| {
                    let file = place(PathBuf::new()).file(path.into())?;
                    pool.run(realm.uid, move || read(&file))?.ok()
                };
                let path = docker::data_root(&argv, &environment.split('\0').collect::<Vec<_>>(), settings);
                self.docker.push(place(path));
            }
            // One that watches a `podman exec` has the container's id too, and a bundle of its own.
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

/// Whose a process is, and in which container. None if it has ids of several users: one that is about to change them.
fn realm(process: &Path) -> Option<Realm> {
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
    Some(Realm { uid, within: within.map(Into::into) })
}

struct Shown {
    line: Vec<u8>,
    environment: Vec<u8>,
}

/// Command line and environment. Both lie in the memory of the process, which can be a file on a file system that does not
/// answer. Of a process of root that runs what another user can change, nothing.
fn shown(process: &Path, of_root: bool, environment: bool) -> Option<Shown> {
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
    Some(Shown { line: read("cmdline")?, environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory like `/proc`, and how a process gets into it.
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

    fn paths(places: &[Place]) -> Vec<(&str, u32, Option<&str>)> {
        places.iter().map(|p| (p.path.to_str().unwrap(), p.realm.uid, p.realm.within.as_deref())).collect()
    }

    const ROOT: &str = "0 0 0 0";
    const USER: &str = "1000 1000 1000 1000";

    #[test]
    fn the_processes_of_engines_show_where_things_are() {
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
    fn an_engine_is_believed_in_its_own_realm_only() {
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
        assert_eq!(proc.find().bundles.len(), MAX_OF_USER);
    }
}
