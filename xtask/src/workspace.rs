//! Where things are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it at run time too, so a clone that was moved still works with the xtask built before.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// Where everything is built: `$CARGO_TARGET_DIR`, else `target`. `tracer/build.rs` follows the same rule.
pub(crate) fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// Cargo's own folder.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let default = || Some(env::home_dir()?.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(default)
}

/// Flags for rustc that keep the folders of this machine out of what it builds: the same in every clone.
pub(crate) fn without_paths() -> impl Iterator<Item = String> {
    let sources = cargo_home().map(|home| home.join("registry").join("src"));
    [Some(root()), sources].into_iter().flatten().map(|dir| format!("--remap-path-prefix={}/=", dir.display()))
}

/// The BPF object that `tracer/build.rs` embeds.
pub(crate) fn bpf_object() -> PathBuf {
    target_dir().join("bpf").join("tracer-ebpf")
}

/// The triple of the machine's own GNU target.
pub(crate) fn host_target() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// `path` as it is best shown: relative to the repository where it lies in it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// `path` with its size, for the last line of a build.
pub(crate) fn shown_with_size(path: &Path) -> String {
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    format!("{} ({:.1} MB)", shown(path), bytes as f64 / 1e6)
}

/// One line of chatter.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}
