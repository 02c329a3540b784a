//! `cargo xtask setup`

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::packages;
use crate::toolchain::{self, Compiler, Toolchain};
use crate::{process, workspace};

const BPF_LINKER: &str = "0.13.0";
/// The LLVM versions for which it has features.
const BPF_LINKER_LLVM: RangeInclusive<u32> = 21..=23;
const CARGO_DENY: &str = "0.20.2";

/// Install what is missing on this machine; every other command does it too
///
/// To build: a compiler with the sources of `core` and a bpf-linker that fits it. It takes the first of these:
/// rustup's nightly with rust-src, if it is installed; the distribution's rustc with its sources (on Debian rustc-web
/// and rust-web-src), with a bpf-linker built on its LLVM; rustup's nightly, downloaded. A small BPF object checks
/// once that the two fit.
///
/// To test: cargo-deny, clippy, rustfmt, and the Debian packages that the tests trace.
///
/// Prints each thing it installs. Prints and does nothing if nothing is missing. Debian packages are installed as
/// root or through sudo; the rest goes to cargo's own directory.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to set the machine up for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Test, value_name = "PURPOSE")]
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// To build and run
    Build,
    /// To build, run and test
    Test,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    bpf_toolchain()?;
    if args.purpose == Purpose::Test {
        test_tools()?;
        packages::ensure(packages::TESTS)?;
    }
    Ok(())
}

/// Returns the toolchain for the BPF target, and installs it if it is missing.
pub(crate) fn bpf_toolchain() -> Result<Toolchain> {
    if let Some(known) = Toolchain::remembered() {
        return Ok(known);
    }
    let dir = workspace::target_dir().join("bpf");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;

    let here = toolchain::nightly().into_iter().chain(toolchain::system());
    let found = here.flat_map(|compiler| Toolchain::with(&compiler)).next();
    let toolchain = match found {
        Some(found) => found,
        None => install_bpf_toolchain()?,
    };
    let Toolchain { compiler, linker, .. } = &toolchain;
    workspace::say(&format!("BPF programs are built by {} and {}", compiler.name, linker.display()));
    Ok(toolchain)
}

/// Tries several sources of a toolchain, each with its compiler. Takes the first that works.
fn install_bpf_toolchain() -> Result<Toolchain> {
    type Candidate = (&'static str, fn() -> Result<Compiler>);
    const CANDIDATES: &[Candidate] = &[
        ("rustup's nightly that is here", || toolchain::nightly().context("there is none with rust-src")),
        ("Debian's packages", debian_compiler),
        ("rustup's nightly", nightly_download),
    ];
    let mut failed = Vec::new();
    for (way, compiler) in CANDIDATES {
        match compiler().and_then(|compiler| with_linker(&compiler)) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => failed.push(format!("\n  {way}: {why:#}")),
        }
    }
    bail!(
        "no toolchain for the BPF target:{}\nRemedy: `rustup toolchain install nightly --component rust-src`, and a bpf-linker \
         on PATH that is built on the same LLVM or a newer one (`cargo binstall bpf-linker`, or a release of that project)",
        failed.concat()
    )
}

fn debian_compiler() -> Result<Compiler> {
    if let Ok(compiler) = toolchain::system() {
        return Ok(compiler);
    }
    packages::ensure(packages::BPF_COMPILER)?;
    toolchain::system().context("Debian's security suite has a newer one: is it in the package sources?")
}

fn nightly_download() -> Result<Compiler> {
    let (what, limit, args): (_, _, &[&str]) = match toolchain::nightly_rustc() {
        Some(_) => ("rust-src for rustup's nightly", 120, &["component", "add", "rust-src", "--toolchain", "nightly"]),
        None => (
            "rustup's nightly",
            900,
            &["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src", "--no-self-update"],
        ),
    };
    workspace::say(&format!("installing {what}"));
    let rustup = process::command("rustup", args.iter().copied()).stdin_null().stdout_null().stderr_null();
    process::retry(|| {
        process::within(Duration::from_secs(limit), &rustup).with_context(|| format!("rustup cannot fetch {what}"))
    })?;
    toolchain::nightly().with_context(|| format!("rustup did not install {what}"))
}

fn with_linker(compiler: &Compiler) -> Result<Toolchain> {
    if let Ok(toolchain) = Toolchain::with(compiler) {
        return Ok(toolchain);
    }
    install_linker(compiler)?;
    Toolchain::with(compiler)
}

/// Builds bpf-linker on the LLVM of the compiler.
fn install_linker(compiler: &Compiler) -> Result<()> {
    let major = compiler.llvm;
    if !BPF_LINKER_LLVM.contains(&major) {
        bail!("bpf-linker {BPF_LINKER} cannot be built on LLVM {major}, which {} has", compiler.name);
    }
    packages::ensure(&packages::llvm(major))?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    workspace::say(&format!("building bpf-linker {BPF_LINKER} on LLVM {major} (about a minute)"));
    let bin = prefix.join("bin");
    process::cargo_install([
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
        "--quiet",
        "--no-default-features",
        "--features",
        &format!("llvm-{major}"),
    ])
    .env(format!("LLVM_SYS_{major}1_PREFIX"), prefix)
    .env("PATH", process::path_with(&bin)?)
    .run()
    .context("bpf-linker cannot be built")?;
    Ok(())
}

/// Installs the tools that run the tests, besides Debian packages.
pub(crate) fn test_tools() -> Result<()> {
    for component in ["clippy", "rustfmt"] {
        let program = if component == "clippy" { "clippy" } else { "fmt" };
        if process::cargo([program, "--version"]).stdout_null().stderr_null().run().is_err() {
            workspace::say(&format!("installing {component}"));
            let rustup = process::command("rustup", ["component", "add", component]).stdin_null().stdout_to_stderr();
            process::retry(|| {
                process::within(Duration::from_secs(300), &rustup)
                    .with_context(|| format!("rustup cannot fetch {component}"))
            })?;
        }
    }
    if process::cargo(["deny", "--version"]).stdout_null().stderr_null().run().is_err() {
        workspace::say(&format!("building cargo-deny {CARGO_DENY} (some minutes)"));
        process::cargo_install(["cargo-deny", "--version", CARGO_DENY, "--locked", "--quiet"])
            // Whole-program optimisation takes most of the build time of its own profile.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .run()
            .context("cargo-deny cannot be built")?;
    }
    Ok(())
}
