//! Builds for another architecture with Debian packages: Debian's own compiler, the unpacked library for the other
//! architecture, and a linker.

use std::iter;

use anyhow::{Context, Result};
use duct::Expression;

use super::Arch;
use crate::apt::Lists;
use crate::packages;

/// Debian's compiler. Its library for another architecture must have the same version.
const RUSTC: &str = "/usr/bin/rustc";

/// Returns a build for `arch`.
pub(super) fn with(arch: Arch, cargo: &Expression, flags: Vec<String>) -> Result<Expression> {
    packages::ensure(packages::BPF_COMPILER)?;
    packages::ensure(packages::CROSS_AARCH64)?;
    let sysroot = arch.dir().join("sysroot");
    if !sysroot.exists() {
        let unpacked = sysroot.with_extension("new");
        let lists = Lists::fetch(arch.debian())?;
        lists.unpack("libstd-rust-web-dev", &unpacked).context("Rust's library for the other architecture")?;
        std::fs::rename(unpacked, &sysroot)?;
    }
    let sysroot = format!("--sysroot={}", sysroot.join("usr").display());
    let flags: Vec<_> = flags.into_iter().chain(iter::once(sysroot)).collect();
    let linker = format!("CARGO_TARGET_{}_LINKER", arch.target().to_uppercase().replace('-', "_"));
    Ok(cargo
        .env("RUSTC", RUSTC)
        .env(linker, format!("{}-linux-gnu-gcc", arch.name()))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))
}
