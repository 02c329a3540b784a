//! Chooses the cgroup hierarchy by which processes are assigned, and lists its cgroups when tracing begins.
//!
//! With v2 alone there is only one. On a hybrid system, with v1 too, container runtimes create a cgroup in each v1 hierarchy.
//! The v2 one may stay empty, so a v1 hierarchy is used. Every process is in each hierarchy.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracer_common::config::CGROUP_V2;

use super::btf::Btf;

/// The v1 controllers to try, in this order. The first ones are those that systemd and every runtime use for each unit and
/// container.
const CONTROLLERS: [&str; 5] = ["pids", "memory", "cpuset", "devices", "cpu"];

/// Largest depth of directories that are scanned. `cgroup.max.depth` has no limit by default, but a path has.
const MAX_DEPTH: usize = 64;

/// A hierarchy of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Number of the v1 controller in this kernel, or [`CGROUP_V2`].
    pub subsys: u32,
    /// Number of the hierarchy, 0 for v2.
    pub number: u32,
    /// The controller. `None` for v2.
    pub controller: Option<&'static str>,
    /// Where it is mounted.
    pub mount: Option<Mount>,
    /// Path of the cgroup that `/proc` shows as `/`. In a cgroup namespace it is not the root.
    pub base: String,
}

/// Where a hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directory.
    pub at: PathBuf,
    /// The cgroup at that directory: `/` unless only a part is mounted.
    pub root: String,
}

impl Hierarchy {
    /// Returns the hierarchy to use on the running kernel.
    pub fn choose(btf: &Btf) -> Self {
        Self::of_system(|controller| btf.enum_value("cgroup_subsys_id", &format!("{controller}_cgrp_id")))
    }

    /// The same for callers that only read `/proc`. [`Hierarchy::subsys`] is then meaningless.
    pub fn of_proc() -> Self {
        Self::of_system(|_| Some(CGROUP_V2))
    }

    fn of_system(number_of: impl Fn(&str) -> Option<u32>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (own, mounts) = (read(OWN), read(MOUNTS));
        let mut found = Self::among(&own, &mounts, number_of);
        if let Some(mount) = &mut found.mount {
            let relative = path_of(&own, found.number).unwrap_or_default();
            found.base = base(mount, relative, std::process::id());
            mount.root = resolve(&found.base, &mount.root).into_owned();
        }
        found
    }

    /// Chooses by `/proc/PID/cgroup`, which lists all hierarchies, and by `mountinfo`.
    ///
    /// `/proc/cgroups` lists controllers too, but is absent if `/proc` is mounted with `subset=pid`.
    fn among(own: &str, mounts: &str, number_of: impl Fn(&str) -> Option<u32>) -> Self {
        let v1 = CONTROLLERS.iter().find_map(|&name| Some((name, number_of_v1(own, name)?, number_of(name)?)));
        let base = String::new();
        match v1 {
            Some((name, number, subsys)) => {
                Self { subsys, number, controller: Some(name), mount: mount(mounts, Some(name)), base }
            }
            None => Self { subsys: CGROUP_V2, number: 0, controller: None, mount: mount(mounts, None), base },
        }
    }

    /// Returns the cgroup path for a text that is a cgroup path or a directory in the file system.
    ///
    /// Fails if the directory is in another hierarchy.
    pub fn path_of(&self, text: &str) -> Result<String, String> {
        self.path_among(text, &fs::read_to_string(MOUNTS).unwrap_or_default())
    }

    fn path_among(&self, text: &str, mounts: &str) -> Result<String, String> {
        let inside = |(name, mount): (String, Mount)| {
            let inside = Path::new(text).strip_prefix(&mount.at).ok()?.to_str()?.to_owned();
            Some((mount.at.as_os_str().len(), name, mount, inside))
        };
        let Some((_, name, mount, inside)) = all_mounts(mounts).filter_map(inside).max_by_key(|found| found.0) else {
            return Ok(text.to_owned());
        };
        if !self.has_name(&name) {
            return Err(format!("it is in the hierarchy of {name}, and {}", self.advice()));
        }
        let root = resolve(&self.base, &mount.root);
        Ok(format!("{}/{inside}", root.trim_end_matches('/')))
    }

    /// Returns an explanation if this hierarchy lacks a path that another one has.
    pub fn lacks(&self, path: &str) -> Option<String> {
        self.lacks_among(path, &fs::read_to_string(MOUNTS).unwrap_or_default())
    }

    fn lacks_among(&self, path: &str, mounts: &str) -> Option<String> {
        let has = |mount: &Mount| {
            let root = resolve(&self.base, &mount.root).into_owned();
            let below = path.strip_prefix(root.trim_end_matches('/'))?;
            Some(mount.at.join(below.trim_start_matches('/'))).filter(|at| at.is_dir())
        };
        if self.mount.as_ref().is_none_or(|mount| has(mount).is_some()) {
            return None;
        }
        let (name, at) = all_mounts(mounts).find_map(|(name, mount)| Some((name, has(&mount)?)))?;
        let advice = self.advice();
        Some(format!("the control group {path} is only in the hierarchy of {name} ({}), and {advice}", at.display()))
    }

    fn advice(&self) -> String {
        let at = self.mount.as_ref().map(|mount| format!(", mounted at {}", mount.at.display())).unwrap_or_default();
        format!("tracer follows that of {}{at}: name a control group there", self.name())
    }

    /// Returns true if this is the hierarchy with a name from [`all_mounts`].
    fn has_name(&self, name: &str) -> bool {
        match (self.controller, name.strip_prefix("v1 ")) {
            (Some(controller), Some(controllers)) => controllers.split(',').any(|name| name == controller),
            (None, None) => true,
            _ => false,
        }
    }

    /// Returns false in a cgroup namespace whose root cannot be found. Paths are then relative to that root.
    pub fn is_placed(&self) -> bool {
        let root = self.mount.as_ref().is_none_or(|mount| mount.root != "/" || is_root(&mount.at));
        root || !in_namespace()
    }

    /// Returns its name in messages.
    pub fn name(&self) -> String {
        self.controller.map_or_else(|| "v2".to_owned(), |name| format!("v1 {name}"))
    }

    /// Returns the path in `/proc/PID/cgroup` from the root of this hierarchy.
    pub fn path_in<'a>(&self, proc_cgroup: &'a str) -> Option<Cow<'a, str>> {
        let path = path_of(proc_cgroup, self.number)?;
        // The cgroup of a zombie may be deleted already.
        Some(resolve(&self.base, path.strip_suffix(" (deleted)").unwrap_or(path)))
    }

    /// Returns id and path of all existing cgroups.
    pub fn scan(&self) -> Vec<(u64, String)> {
        let mut out = Vec::new();
        if let Some(mount) = &self.mount {
            walk(&mount.at, mount.root.trim_end_matches('/'), 0, &mut out);
        }
        out
    }
}

/// Lists a cgroup directory and those below it. They may come and go meanwhile.
fn walk(directory: &Path, path: &str, depth: usize, out: &mut Vec<(u64, String)>) {
    let Ok(meta) = fs::metadata(directory) else { return };
    out.push((meta.ino(), if path.is_empty() { "/".to_owned() } else { path.to_owned() }));
    // A directory has two links for itself, and one for each subdirectory:
    // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/fs/kernfs/dir.c
    if meta.nlink() == 2 || depth == MAX_DEPTH {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(name) = entry.file_name().to_str()
        {
            walk(&entry.path(), &format!("{path}/{name}"), depth + 1, out);
        }
    }
}

/// The file with all hierarchies and the paths of this process in them.
const OWN: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// The initial cgroup namespace (`PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h).
const INITIAL: u64 = 0xEFFF_FFFB;

fn in_namespace() -> bool {
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|namespace| namespace.ino() != INITIAL)
}

/// Parses `/proc/PID/cgroup`: number of the hierarchy, its controllers, path (proc_cgroup_show, kernel/cgroup/cgroup.c).
fn lines(proc_cgroup: &str) -> impl Iterator<Item = (u32, &str, &str)> {
    proc_cgroup.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((number.parse().ok()?, controllers, path))
    })
}

/// What only `tracer doctor` needs.
#[cfg(feature = "cli")]
impl Hierarchy {
    /// One of each kind, not mounted anywhere: the programs are not the same for v1 and v2.
    pub fn kinds(btf: &Btf) -> [Self; 2] {
        let number_of = |controller: &&str| btf.enum_value("cgroup_subsys_id", &format!("{controller}_cgrp_id"));
        let base = String::new();
        let v2 = Self { subsys: CGROUP_V2, number: 0, controller: None, mount: None, base: base.clone() };
        let v1 = CONTROLLERS.iter().find_map(|name| Some((*name, number_of(name)?)));
        let v1 = v1.map(|(name, subsys)| Self { subsys, number: 1, controller: Some(name), mount: None, base });
        [v1.unwrap_or_else(|| v2.clone()), v2]
    }
}

fn path_of(proc_cgroup: &str, number: u32) -> Option<&str> {
    lines(proc_cgroup).find_map(|(of, _, path)| (of == number).then_some(path))
}

/// Returns the number of the v1 hierarchy with this controller.
fn number_of_v1(proc_cgroup: &str, controller: &str) -> Option<u32> {
    let has = |controllers: &str| controllers.split(',').any(|name| name == controller);
    lines(proc_cgroup).find_map(|(number, controllers, _)| (number != 0 && has(controllers)).then_some(number))
}

/// Resolves a path that `/proc` shows relative to the root of a cgroup namespace.
fn resolve<'a>(base: &str, path: &'a str) -> Cow<'a, str> {
    let base = base.trim_end_matches('/');
    if base.is_empty() && !path.starts_with("/..") {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}

/// Returns the cgroup at the root of our namespace, as a path from the mounted root.
///
/// The mount's own root is shown as `/../..`, which gives the depth of the cgroup. It is the one with this process in it.
fn base(mount: &Mount, own: &str, pid: u32) -> String {
    let depth = mount.root.split('/').filter(|part| *part == "..").count();
    if depth == 0 || mount.root != "/..".repeat(depth) {
        return String::new();
    }
    let has_us = |path: &str| {
        let procs = mount.at.join(format!("{path}{own}").trim_start_matches('/')).join("cgroup.procs");
        fs::read_to_string(procs).is_ok_and(|pids| pids.lines().any(|line| line.parse() == Ok(pid)))
    };
    let mut all = Vec::new();
    walk(&mount.at, "", 0, &mut all);
    let at_depth = |path: &&String| path.matches('/').count() == depth && path.len() > 1;
    all.iter().map(|(_, path)| path).filter(at_depth).find(|path| has_us(path)).cloned().unwrap_or_default()
}

/// Returns true for the root of a hierarchy. Only there v1 has `cgroup.sane_behavior` and v2 lacks `cgroup.events`.
fn is_root(directory: &Path) -> bool {
    directory.join("cgroup.sane_behavior").exists()
        || directory.join("cgroup.procs").exists()
            && !directory.join("cgroup.events").exists()
            && !directory.join("notify_on_release").exists()
}

/// Returns the mount of a controller: a v1 hierarchy, or v2.
pub fn of_controller(name: &str) -> Option<Mount> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (own, mounts) = (read(OWN), read(MOUNTS));
    let number = number_of_v1(&own, name);
    let mut mount = mount(&mounts, number.map(|_| name))?;
    let base = base(&mount, path_of(&own, number.unwrap_or_default()).unwrap_or_default(), std::process::id());
    mount.root = resolve(&base, &mount.root).into_owned();
    Some(mount)
}

/// Finds the mount of a v1 controller or of v2. Of several it takes the one with the largest part of the hierarchy.
fn mount(mounts: &str, controller: Option<&str>) -> Option<Mount> {
    let right = |name: &str| match (controller, name.strip_prefix("v1 ")) {
        (Some(controller), Some(controllers)) => controllers.split(',').any(|name| name == controller),
        (None, None) => true,
        _ => false,
    };
    // A root above that of our namespace is shown as `/..`.
    let hidden = |mount: &Mount| mount.root.split('/').filter(|part| !part.is_empty() && *part != "..").count();
    let right = all_mounts(mounts).filter_map(|(name, mount)| right(&name).then_some(mount));
    right.min_by_key(|mount| (hidden(mount), Reverse(mount.root.matches("..").count())))
}

/// Returns every mount of a hierarchy with the name of the hierarchy: proc_pid_mountinfo(5).
fn all_mounts(mounts: &str) -> impl Iterator<Item = (String, Mount)> {
    const NO_NAMES: [&str; 7] = ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"];
    mounts.lines().filter_map(|line| {
        let (fields, tail) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        let name = |option: &&str| !NO_NAMES.contains(option) && !option.starts_with("release_agent=");
        let name = match kind {
            "cgroup" => format!("v1 {}", options.split(',').filter(name).collect::<Vec<_>>().join(",")),
            "cgroup2" => "v2".to_owned(),
            _ => return None,
        };
        Some((name, Mount { at: unescape(at).into(), root: unescape(root) }))
    })
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"].iter().zip([" ", "\t", "\n", "\\"]).fold(
        text.to_owned(),
        |text, (from, to)| {
            if text.contains('\\') { text.replace(from, to) } else { text }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/\n3:cpuset:/\n0::/\n";
    const UNIFIED: &str = "0::/\n";
    const MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        38 31 0:35 /part /mnt/my\\040cgroups rw - cgroup cgroup rw,pids\n\
        39 31 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        40 31 0:36 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
    const PROC: &str = "9:name=systemd:/\n8:pids:/docker/a\n4:memory:/m\n0::/x (deleted)\n";

    fn number_of(controller: &str) -> Option<u32> {
        ["cpuset", "cpu", "memory", "pids"].iter().position(|name| *name == controller).map(|at| at as u32)
    }

    #[test]
    fn a_v1_hierarchy_is_used_if_there_is_one() {
        let hybrid = Hierarchy::among(HYBRID, MOUNTS, number_of);
        assert_eq!((hybrid.subsys, hybrid.number, hybrid.name().as_str()), (3, 8, "v1 pids"));
        assert_eq!(hybrid.mount, Some(Mount { at: "/sys/fs/cgroup/pids".into(), root: "/".into() }));
        assert_eq!(hybrid.path_in(PROC).as_deref(), Some("/docker/a"));
        let unified = Hierarchy::among(UNIFIED, MOUNTS, number_of);
        assert_eq!((unified.subsys, unified.number, unified.name().as_str()), (CGROUP_V2, 0, "v2"));
        assert_eq!(unified.mount.as_ref().unwrap().at, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(unified.path_in(PROC).as_deref(), Some("/x"));
    }

    #[test]
    fn a_controller_that_btf_does_not_number_is_skipped() {
        let memory = Hierarchy::among(HYBRID, "", |name| number_of(name).filter(|_| name != "pids"));
        assert_eq!((memory.controller, memory.number, memory.mount), (Some("memory"), 4, None));
    }

    #[test]
    fn a_part_of_a_hierarchy_is_better_than_none() {
        let part = mount(MOUNTS.lines().nth(1).unwrap(), Some("pids")).unwrap();
        assert_eq!(part, Mount { at: "/mnt/my cgroups".into(), root: "/part".into() });
    }

    #[test]
    fn paths_in_a_namespace_are_resolved_from_its_root() {
        for (base, path, right) in [
            ("", "/a/b", "/a/b"),
            ("/a/b", "/", "/a/b"),
            ("/a/b", "/c", "/a/b/c"),
            ("/a/b", "/../x", "/a/x"),
            ("/a/b", "/../../x/y", "/x/y"),
            ("/a/b", "/../..", "/"),
            ("", "/../x", "/x"),
        ] {
            assert_eq!(resolve(base, path), right, "{path} below {base}");
        }
    }

    #[test]
    fn the_root_of_a_namespace_is_the_one_with_this_process() {
        let place = tempfile::tempdir().unwrap();
        for (path, pids) in [("a/b/in", "8\n"), ("a/c/in", "7\n9\n"), ("d/in", "9\n")] {
            fs::create_dir_all(place.path().join(path)).unwrap();
            fs::write(place.path().join(path).join("cgroup.procs"), pids).unwrap();
        }
        let mount = |root: &str| Mount { at: place.path().into(), root: root.to_owned() };
        assert_eq!(base(&mount("/../.."), "/in", 9), "/a/c");
        assert_eq!(base(&mount("/.."), "/in", 9), "/d");
        assert_eq!(base(&mount("/"), "/in", 9), "", "the mount is no higher than the namespace");
        assert_eq!(base(&mount("/../.."), "/in", 10), "");
    }

    #[test]
    fn a_directory_of_the_hierarchy_is_a_path_in_it() {
        let hybrid = Hierarchy::among(HYBRID, MOUNTS, number_of);
        let path = |text: &str| hybrid.path_among(text, MOUNTS);
        assert_eq!(path("/docker/a"), Ok("/docker/a".to_owned()));
        assert_eq!(path("/sys/fs/cgroup/pids/docker/a"), Ok("/docker/a".to_owned()));
        assert_eq!(path("/sys/fs/cgroup/pids"), Ok("/".to_owned()));
        let error = path("/sys/fs/cgroup/unified/foo").unwrap_err();
        assert!(error.contains("of v2") && error.contains("v1 pids, mounted at /sys/fs/cgroup/pids"), "{error}");
    }

    #[test]
    fn a_path_of_another_hierarchy_is_explained() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        for path in ["pids/both", "memory/both", "memory/one"] {
            fs::create_dir_all(place.path().join(path)).unwrap();
        }
        let mounts = format!(
            "38 31 0:35 / {} rw - cgroup cgroup rw,pids\n39 31 0:36 / {} rw - cgroup cgroup rw,memory\n",
            at("pids"),
            at("memory")
        );
        let hierarchy = Hierarchy::among(HYBRID, &mounts, number_of);
        assert_eq!((hierarchy.lacks_among("/both", &mounts), hierarchy.lacks_among("/none", &mounts)), (None, None));
        let text = hierarchy.lacks_among("/one", &mounts).unwrap();
        assert!(text.contains("hierarchy of v1 memory") && text.contains("that of v1 pids"), "{text}");
    }

    #[test]
    fn each_directory_is_a_cgroup() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("cgroup.procs"), "").unwrap();
        let mount = Mount { at: place.path().into(), root: "/".into() };
        let hierarchy =
            Hierarchy { subsys: CGROUP_V2, number: 0, controller: None, mount: Some(mount), base: String::new() };
        let mut paths: Vec<String> = hierarchy.scan().into_iter().map(|(_, path)| path).collect();
        paths.sort();
        assert_eq!(paths, ["/", "/a", "/a/b"]);
    }
}
