//! Tells the crate which BPF objects to embed, in `TRACER_BPF_OBJECT` and `TRACER_BPF_LOG_OBJECT`.

use std::env;
use std::path::{Path, PathBuf};

const OBJECT: &str = "TRACER_BPF_OBJECT";

/// The object whose programs report their faults. Without it, tracer has no such reports.
const LOG_OBJECT: &str = "TRACER_BPF_LOG_OBJECT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(kernel_log)");
    let given = object(OBJECT, "tracer-ebpf");
    if given.is_file() {
        embed(OBJECT, &given);
    } else {
        println!(
            "cargo::error=there is no BPF object to embed at {}: run `cargo xtask build` once, or set {OBJECT} to one",
            given.display()
        );
    }
    let with_log = object(LOG_OBJECT, "tracer-ebpf-log");
    println!("cargo::rerun-if-changed={}", with_log.display());
    if with_log.is_file() {
        embed(LOG_OBJECT, &with_log);
        println!("cargo::rustc-cfg=kernel_log");
    }
}

fn embed(variable: &str, object: &Path) {
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env={variable}={}", object.display());
}

/// What the variable names, else where `cargo xtask build` puts it.
///
/// `CARGO_TARGET_DIR` needs no rerun-if line: another target directory has build scripts of its own.
fn object(variable: &str, name: &str) -> PathBuf {
    println!("cargo::rerun-if-env-changed={variable}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap_or(root);
    env::var_os(variable).map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            root.join(target).join("bpf").join(name)
        },
        |object| root.join(object),
    )
}
