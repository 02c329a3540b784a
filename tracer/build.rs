//! Tells the crate which BPF object to embed, in `TRACER_BPF_OBJECT`.

use std::env;
use std::path::{Path, PathBuf};

const OBJECT: &str = "TRACER_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    println!("cargo::rerun-if-changed=build.rs");
    let object = object();
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-env={OBJECT}={}", object.display());
    } else {
        println!(
            "cargo::error=there is no BPF object to embed at {}: run `cargo xtask build` once, or set {OBJECT} to one",
            object.display()
        );
    }
}

/// `$TRACER_BPF_OBJECT`, else where `cargo xtask build` puts it.
///
/// `CARGO_TARGET_DIR` needs no rerun-if line: another target directory has build scripts of its own.
fn object() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap_or(root);
    env::var_os(OBJECT).map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            root.join(target).join("bpf").join("tracer-ebpf")
        },
        |object| root.join(object),
    )
}
