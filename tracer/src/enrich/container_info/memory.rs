//! The most memory that a cgroup was charged with.

use std::fs;

use crate::kernel::hierarchy::Mount;

/// Of a cgroup, by its path: v2 counts it from Linux 5.19 on. None if it is gone.
pub(super) fn peak(mount: &Mount, cgroup: &str) -> Option<u64> {
    let below = cgroup.strip_prefix(mount.root.trim_end_matches('/'))?;
    let directory = mount.at.join(below.trim_start_matches('/'));
    let read = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    read("memory.peak").or_else(|| read("memory.max_usage_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_file() {
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
    }
}
