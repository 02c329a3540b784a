//! Which hierarchy of control groups tells whose process it is, and what is in it when tracing begins.
//!
//! With v2 alone there is but one. Where v1 is in use too ("hybrid"), container runtimes make a cgroup in each v1 hierarchy, and
//! that of v2 may stay empty; so one of v1 is taken. Every process is somewhere in each.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracer_common::config::CGROUP_V2;

use super::btf::Btf;

/// The v1 controllers that are asked, in this order: those that systemd and every runtime use for each unit and container
/// come first.
const CONTROLLERS: [&str; 5] = ["pids", "memory", "cpuset", "devices", "cpu"];

/// Deeper directories are not looked into: the kernel itself does not make more by default
/// (`cgroup.max.depth` has no limit, but a path has).
const MAX_DEPTH: usize = 64;

/// A hierarchy of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Number of the v1 controller in this kernel, or [`CGROUP_V2`].
    pub subsys: u32,
    /// Its own number, 0 for v2.
    pub number: u32,
    /// The controller; none for v2.
    pub controller: Option<&'static str>,
    /// Where it is mounted, and which of its directories is there.
    pub mount: Option<Mount>,
}

/// Where a hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directory.
    pub at: PathBuf,
    /// The cgroup that is seen there; `/` unless only a part is mounted.
    pub root: String,
}

impl Hierarchy {
    /// That of the running kernel.
    pub fn choose(btf: &Btf) -> Self {
        Self::of_system(|controller| btf.enum_value("cgroup_subsys_id", &format!("{controller}_cgrp_id")))
    }

    /// The same for one who only asks `/proc`: [`Hierarchy::subsys`] means nothing.
    pub fn of_proc() -> Self {
        Self::of_system(|_| Some(CGROUP_V2))
    }

    /// One of each kind, not mounted anywhere: the programs are not the same for v1 and v2.
    pub fn kinds(btf: &Btf) -> [Self; 2] {
        let number_of = |controller: &&str| btf.enum_value("cgroup_subsys_id", &format!("{controller}_cgrp_id"));
        let v2 = Self { subsys: CGROUP_V2, number: 0, controller: None, mount: None };
        let v1 = CONTROLLERS.iter().find_map(|name| Some((*name, number_of(name)?)));
        let v1 = v1.map(|(name, subsys)| Self { subsys, number: 1, controller: Some(name), mount: None });
        [v1.unwrap_or_else(|| v2.clone()), v2]
    }

    fn of_system(number_of: impl Fn(&str) -> Option<u32>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::among(&read("/proc/cgroups"), &read("/proc/self/mountinfo"), number_of)
    }

    fn among(controllers: &str, mounts: &str, number_of: impl Fn(&str) -> Option<u32>) -> Self {
        // name, hierarchy (0: v2, or none), number of cgroups, enabled (kernel/cgroup/cgroup-v1.c, proc_cgroupstats_show).
        let of_v1 = |name: &str| {
            let mut fields = controllers.lines().map(str::split_ascii_whitespace);
            let mut line = fields.find_map(|mut line| (line.next()? == name).then_some(line))?;
            line.next()?.parse::<u32>().ok().filter(|&number| number != 0)
        };
        let v1 = CONTROLLERS.iter().find_map(|&name| Some((name, of_v1(name)?, number_of(name)?)));
        match v1 {
            Some((name, number, subsys)) => {
                Self { subsys, number, controller: Some(name), mount: mount(mounts, Some(name)) }
            }
            None => Self { subsys: CGROUP_V2, number: 0, controller: None, mount: mount(mounts, None) },
        }
    }

    /// How it is called where it is told of.
    pub fn name(&self) -> String {
        self.controller.map_or_else(|| "v2".to_owned(), |name| format!("v1 {name}"))
    }

    /// The path in `/proc/PID/cgroup`.
    pub fn path_in<'a>(&self, proc_cgroup: &'a str) -> Option<&'a str> {
        let path = proc_cgroup.lines().find_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (_, path) = rest.split_once(':')?;
            (number.parse() == Ok(self.number)).then_some(path)
        })?;
        // A zombie's may be gone already.
        Some(path.strip_suffix(" (deleted)").unwrap_or(path))
    }

    /// All cgroups that are there: id and path.
    pub fn scan(&self) -> Vec<(u64, String)> {
        let mut out = Vec::new();
        if let Some(mount) = &self.mount {
            walk(&mount.at, mount.root.trim_end_matches('/'), 0, &mut out);
        }
        out
    }
}

/// The directories below one that is itself a cgroup. They come and go while this looks.
fn walk(directory: &Path, path: &str, depth: usize, out: &mut Vec<(u64, String)>) {
    let Ok(meta) = fs::metadata(directory) else { return };
    out.push((meta.ino(), if path.is_empty() { "/".to_owned() } else { path.to_owned() }));
    // Two links for the directory itself, one more for each in it (fs/kernfs/dir.c).
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

/// Where the memory controller is, by `mountinfo` and `/proc/cgroups`: a v1 hierarchy, or v2.
pub fn memory(mounts: &str, controllers: &str) -> Option<Mount> {
    let hierarchy = controllers
        .lines()
        .map(str::split_ascii_whitespace)
        .find_map(|mut line| (line.next()? == "memory").then(|| line.next())?);
    mount(mounts, hierarchy.filter(|&number| number != "0").map(|_| "memory"))
}

/// Finds the mount of a v1 controller, or of v2, the one that shows most of it: proc_pid_mountinfo(5).
fn mount(mounts: &str, controller: Option<&str>) -> Option<Mount> {
    let fits = |line: &str| {
        let (fields, tail) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        let right = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
            None => kind == "cgroup2",
        };
        right.then(|| Mount { at: unescape(at).into(), root: unescape(root) })
    };
    mounts.lines().filter_map(fits).min_by_key(|mount| mount.root.len())
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

    const HYBRID: &str =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t27\t1\npids\t8\t1\t1\n";
    const UNIFIED: &str =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t90\t1\nmemory\t0\t90\t1\npids\t0\t90\t1\n";
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
    fn a_v1_hierarchy_is_taken_where_there_is_one() {
        let hybrid = Hierarchy::among(HYBRID, MOUNTS, number_of);
        assert_eq!((hybrid.subsys, hybrid.number, hybrid.name().as_str()), (3, 8, "v1 pids"));
        assert_eq!(hybrid.mount, Some(Mount { at: "/sys/fs/cgroup/pids".into(), root: "/".into() }));
        assert_eq!(hybrid.path_in(PROC), Some("/docker/a"));
        let unified = Hierarchy::among(UNIFIED, MOUNTS, number_of);
        assert_eq!((unified.subsys, unified.number, unified.name().as_str()), (CGROUP_V2, 0, "v2"));
        assert_eq!(unified.mount.as_ref().unwrap().at, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(unified.path_in(PROC), Some("/x"));
    }

    #[test]
    fn a_controller_that_btf_does_not_number_is_passed_over() {
        let memory = Hierarchy::among(HYBRID, "", |name| number_of(name).filter(|_| name != "pids"));
        assert_eq!((memory.controller, memory.number, memory.mount), (Some("memory"), 4, None));
    }

    #[test]
    fn a_part_of_a_hierarchy_is_better_than_none() {
        let part = mount(MOUNTS.lines().nth(1).unwrap(), Some("pids")).unwrap();
        assert_eq!(part, Mount { at: "/mnt/my cgroups".into(), root: "/part".into() });
    }

    #[test]
    fn directories_are_cgroups() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("cgroup.procs"), "").unwrap();
        let mount = Mount { at: place.path().into(), root: "/".into() };
        let hierarchy = Hierarchy { subsys: CGROUP_V2, number: 0, controller: None, mount: Some(mount) };
        let mut paths: Vec<String> = hierarchy.scan().into_iter().map(|(_, path)| path).collect();
        paths.sort();
        assert_eq!(paths, ["/", "/a", "/a/b"]);
    }
}
