//! Paths of the workspace.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    // Cargo also sets it at run time, so an xtask that was built before its clone was moved still works.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// Returns the build directory: `$CARGO_TARGET_DIR`, else `target`. `tracer/build.rs` follows the same rule.
pub(crate) fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// Returns cargo's own directory.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let default = || Some(env::home_dir()?.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(default)
}

/// Returns flags for rustc that keep this machine's paths out of its output, so that it is the same in every clone.
pub(crate) fn without_paths() -> impl Iterator<Item = String> {
    let sources = cargo_home().map(|home| home.join("registry").join("src"));
    [Some(root()), sources].into_iter().flatten().map(|dir| format!("--remap-path-prefix={}/=", dir.display()))
}

/// Returns the BPF object that `tracer/build.rs` embeds.
pub(crate) fn bpf_object() -> PathBuf {
    target_dir().join("bpf").join("tracer-ebpf")
}

/// Returns the triple of the machine's own GNU target.
pub(crate) fn host_target() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// Returns `path` for display: relative to the repository if it is inside.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Returns `path` with its size, for the last line of a build.
pub(crate) fn shown_with_size(path: &Path) -> String {
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    format!("{} ({:.1} MB)", shown(path), bytes as f64 / 1e6)
}

/// Prints one line of progress.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}
