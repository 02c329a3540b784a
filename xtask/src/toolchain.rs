//! Finds the compiler and the bpf-linker that build the BPF programs: those on the machine, and those that fit
//! together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{probe, process, workspace};

/// The distribution's compiler.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// The oldest compiler that was tested.
const OLDEST: (u32, u32) = (1, 96);

/// A compiler with the sources of `core`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Compiler {
    /// The name that is shown to users.
    pub(crate) name: String,
    pub(crate) rustc: PathBuf,
    /// The cargo that runs it.
    pub(crate) cargo: PathBuf,
    /// The major version of its LLVM. The linker's LLVM must not be older.
    pub(crate) llvm: u32,
}

/// A compiler and a bpf-linker that are known to work together.
#[derive(Serialize, Deserialize)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
    /// The state of both files at that time.
    seen: Vec<Seen>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self { inode: meta.ino(), bytes: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    fn both(compiler: &Compiler, linker: &Path) -> Result<Vec<Self>> {
        Ok(vec![Self::of(&compiler.rustc)?, Self::of(&core_sources(&compiler.rustc)?)?, Self::of(linker)?])
    }
}

impl Toolchain {
    /// Returns the previous choice, if both files are unchanged.
    pub(crate) fn remembered() -> Option<Self> {
        let known: Self = serde_json::from_slice(&fs::read(memory()).ok()?).ok()?;
        (Seen::both(&known.compiler, &known.linker).ok()? == known.seen).then_some(known)
    }

    /// Returns `compiler` with the first linker on the machine that fits. Otherwise, returns why each does not fit.
    pub(crate) fn with(compiler: &Compiler) -> Result<Self> {
        let mut refused = Vec::new();
        for linker in linkers() {
            match probe::links(&compiler.rustc, &linker) {
                Ok(()) => return Self::remember(compiler.clone(), linker),
                Err(why) => refused.push(format!("{} does not fit {}: {why:#}", linker.display(), compiler.name)),
            }
        }
        if refused.is_empty() {
            bail!("there is no bpf-linker");
        }
        bail!("{}", refused.join("; "))
    }

    fn remember(compiler: Compiler, linker: PathBuf) -> Result<Self> {
        let toolchain = Self { seen: Seen::both(&compiler, &linker)?, compiler, linker };
        fs::write(memory(), serde_json::to_vec_pretty(&toolchain)?).context("cannot remember the BPF toolchain")?;
        Ok(toolchain)
    }
}

fn memory() -> PathBuf {
    workspace::target_dir().join("bpf").join("toolchain.json")
}

/// Returns rustup's nightly, if it is installed with the sources of `core`.
pub(crate) fn nightly() -> Option<Compiler> {
    let rustc = nightly_rustc()?;
    let cargo = rustc.with_file_name("cargo");
    let cargo = if cargo.exists() { cargo } else { process::cargo_program() };
    compiler("rustup's nightly", rustc, cargo).ok()
}

/// Returns rustup's nightly, with or without the sources of `core`, without downloading it.
pub(crate) fn nightly_rustc() -> Option<PathBuf> {
    let which = process::command("rustup", ["which", "--toolchain", "nightly", "rustc"]);
    which.env("RUSTUP_AUTO_INSTALL", "0").stdin_null().stderr_null().read().ok().map(PathBuf::from)
}

/// Returns the distribution's compiler, run by the cargo that runs xtask.
pub(crate) fn system() -> Result<Compiler> {
    compiler("the system's rustc", SYSTEM_RUSTC.into(), process::cargo_program())
}

fn compiler(name: &str, rustc: PathBuf, cargo: PathBuf) -> Result<Compiler> {
    core_sources(&rustc)?;
    let about = process::command(&rustc, ["-vV"]).read().with_context(|| format!("cannot run {}", rustc.display()))?;
    let value = |key: &str| about.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let (release, llvm) = value("release:").zip(value("LLVM version:")).context("rustc does not print its versions")?;
    if version(release) < OLDEST {
        bail!("{} is {release}, and {}.{} or newer is needed", rustc.display(), OLDEST.0, OLDEST.1);
    }
    Ok(Compiler { name: format!("{name} {release}"), llvm: version(llvm).0, rustc, cargo })
}

/// Returns major and minor of a version.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Returns the directory of the sources of `core` for `rustc`.
fn core_sources(rustc: &Path) -> Result<PathBuf> {
    let sysroot = rustc.parent().and_then(Path::parent).context("rustc lies in no sysroot")?;
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !sources.is_file() {
        bail!("{} has no sources of core", rustc.display());
    }
    Ok(sources)
}

/// Returns every bpf-linker on the machine: those on PATH, then the one from `cargo install`, which may not be on
/// PATH.
fn linkers() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = which::which_all("bpf-linker").into_iter().flatten().collect();
    found.extend(cargo_bin("bpf-linker").filter(|path| path.exists()));
    found.dedup();
    found
}

/// Returns where `cargo install` puts `program`.
pub(crate) fn cargo_bin(program: &str) -> Option<PathBuf> {
    Some(workspace::cargo_home()?.join("bin").join(program))
}
