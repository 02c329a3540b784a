//! Reads the directory of a cgroup: its peak memory, whether it is frozen, and its owner.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::kernel::hierarchy::{Hierarchy, Mount, of_controller};

/// Mount points of the controllers that are read.
#[derive(Debug, Default)]
pub struct Mounts {
    memory: Option<Mount>,
    freezer: Option<Mount>,
    /// The hierarchy in which processes are identified.
    own: Option<Mount>,
}

impl Mounts {
    /// Returns the mounts of this system.
    pub fn of_system(hierarchy: &Hierarchy) -> Self {
        Self { memory: of_controller("memory"), freezer: of_controller("freezer"), own: hierarchy.mount.clone() }
    }

    /// Returns the peak memory of a cgroup: v2 counts it since Linux 5.19. None if the cgroup is gone.
    pub(super) fn peak(&self, cgroup: &str) -> Option<u64> {
        peak(self.memory.as_ref()?, cgroup)
    }

    /// Returns whether a cgroup is frozen, as by `docker pause`.
    pub(super) fn is_frozen(&self, cgroup: &str) -> bool {
        self.freezer.as_ref().is_some_and(|mount| is_frozen(mount, cgroup))
    }

    /// Returns the owner of a cgroup, who may create others below it. If it is gone, the owner of the nearest existing
    /// cgroup above: only that user can have created it.
    pub(super) fn owner(&self, cgroup: &str) -> u32 {
        let Some(directory) = self.own.as_ref().and_then(|mount| directory(mount, cgroup)) else { return 0 };
        directory.ancestors().find_map(|at| fs::symlink_metadata(at).ok()).map_or(0, |found| found.uid())
    }
}

fn directory(mount: &Mount, cgroup: &str) -> Option<PathBuf> {
    let below = cgroup.strip_prefix(mount.root.trim_end_matches('/'))?;
    // No cgroup has `..` in its path: somebody invented this path.
    let plain = Path::new(below).components().all(|part| !matches!(part, std::path::Component::ParentDir));
    plain.then(|| mount.at.join(below.trim_start_matches('/')))
}

fn peak(mount: &Mount, cgroup: &str) -> Option<u64> {
    let directory = directory(mount, cgroup)?;
    let read = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    read("memory.peak").or_else(|| read("memory.max_usage_in_bytes"))
}

fn is_frozen(mount: &Mount, cgroup: &str) -> bool {
    let Some(directory) = directory(mount, cgroup) else { return false };
    let read = |file| fs::read_to_string(directory.join(file)).ok();
    match read("cgroup.events") {
        Some(v2) => v2.lines().any(|line| line == "frozen 1"),
        None => read("freezer.state").is_some_and(|v1| v1.trim() == "FROZEN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_cgroup_belongs_to_the_owner_above() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("user")).unwrap();
        let own = Some(Mount { at: place.path().into(), root: "/".into() });
        let mounts = Mounts { own, ..Mounts::default() };
        let uid = nix::unistd::geteuid().as_raw();
        assert_eq!([mounts.owner("/user"), mounts.owner("/gone")], [uid; 2]);
        if uid == 0 {
            nix::unistd::chown(&place.path().join("user"), Some(1000.into()), None).unwrap();
            let owners = ["/user", "/user/a/b", "/gone", "/"].map(|path| mounts.owner(path));
            assert_eq!(owners, [1000, 1000, 0, 0]);
        }
    }

    #[test]
    fn both_cgroup_versions_are_read() {
        let place = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("v1/memory.max_usage_in_bytes", "4091904\n");
        write("a/v2/memory.peak", "815104\n");
        let whole = Mount { at: place.path().into(), root: "/".into() };
        assert_eq!(
            (peak(&whole, "/v1"), peak(&whole, "/a/v2"), peak(&whole, "/gone")),
            (Some(4_091_904), Some(815_104), None)
        );
        let part = Mount { at: place.path().join("a"), root: "/a".into() };
        assert_eq!((peak(&part, "/a/v2"), peak(&part, "/v1")), (Some(815_104), None));
        assert_eq!(peak(&whole, "/a/../v1"), None);
        write("v1/freezer.state", "FROZEN\n");
        write("thawed/freezer.state", "THAWED\n");
        write("a/v2/cgroup.events", "populated 1\nfrozen 1\n");
        write("a/cgroup.events", "populated 1\nfrozen 0\n");
        let frozen = ["/v1", "/thawed", "/a/v2", "/a", "/gone"].map(|path| is_frozen(&whole, path));
        assert_eq!(frozen, [true, false, true, false, false]);
    }
}
