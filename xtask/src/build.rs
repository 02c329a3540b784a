//! `cargo xtask build`

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::toolchain::Toolchain;
use crate::{process, setup, workspace};

/// Build the BPF object and the tracer that embeds it
///
/// Writes `target/bpf/tracer-ebpf` and `target/release/tracer`. After that, a plain `cargo build`, `cargo test` or
/// `cargo clippy` works too. Only a change to `tracer-ebpf` or `tracer-common` needs this command again.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build `target/debug/tracer` instead: quick to build, slow to run
    #[arg(long)]
    debug: bool,

    /// Build the BPF objects only
    #[arg(long, conflicts_with = "debug")]
    bpf_only: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let object = bpf_object(&setup::bpf_toolchain()?)?;
    if args.bpf_only {
        workspace::say(&workspace::shown_with_size(&object));
        return Ok(());
    }
    let binary = tracer(if args.debug { Profile::Dev } else { Profile::Release })?;
    workspace::say(&workspace::shown_with_size(&binary));
    Ok(())
}

/// The profile of the workspace with which tracer is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// `target/debug`
    Dev,
    /// `target/release`
    Release,
}

/// Builds tracer with the existing BPF object.
pub(crate) fn tracer(profile: Profile) -> Result<PathBuf> {
    let (profile, dir) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };
    let build = process::cargo(["build", "--package", "tracer", "--bin", "tracer", "--profile", profile]);
    process::build_quietly(build).context("tracer")?;
    Ok(workspace::target_dir().join(dir).join("tracer"))
}

/// Builds the BPF object, and the one whose programs report their faults. An unchanged object is not written, so that
/// nothing is rebuilt.
pub(crate) fn bpf_object(toolchain: &Toolchain) -> Result<PathBuf> {
    let object = workspace::bpf_object();
    let with_log = object.with_file_name("tracer-ebpf-log");
    let both: [(&[&str], _); 2] = [(&["log"], &with_log), (&[], &object)];
    for (features, object) in both {
        // In a separate build directory, so that this compiler does not discard the output of the host's compiler.
        let build = bpf_cargo(toolchain, "build", features);
        process::build_quietly(build).context("the BPF programs")?;
        let new = bpf_build_dir().join("bpfel-unknown-none/release/tracer-ebpf");
        replace_if_changed(&new, object)?;
    }
    Ok(object)
}

/// Returns `cargo subcommand` for the BPF programs with some of their features.
pub(crate) fn bpf_cargo(toolchain: &Toolchain, subcommand: &str, features: &[&str]) -> duct::Expression {
    let compiler = &toolchain.compiler;
    let flags: Vec<_> = [
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
    ]
    .into_iter()
    .chain(workspace::without_paths())
    .collect();
    let features = format!("--features={}", features.join(","));
    let args = [
        subcommand,
        "--package",
        "tracer-ebpf",
        "--release",
        "-Zbuild-std=core",
        "--target",
        "bpfel-unknown-none",
        &features,
    ];
    process::command(&compiler.cargo, args)
        .env("CARGO_TARGET_DIR", bpf_build_dir())
        .env("RUSTC", &compiler.rustc)
        // build-std is an unstable feature, and this is a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
}

fn bpf_build_dir() -> PathBuf {
    workspace::target_dir().join("bpf-build")
}

fn replace_if_changed(new: &Path, old: &Path) -> Result<()> {
    let content = fs::read(new).with_context(|| format!("cannot read {}", new.display()))?;
    if fs::read(old).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let unfinished = old.with_extension("new");
    fs::write(&unfinished, content)
        .and_then(|()| fs::rename(&unfinished, old))
        .with_context(|| format!("cannot write {}", old.display()))
}
