//! `cargo xtask dist`

use std::fs;
use std::iter;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use duct::Expression;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};

use crate::{build, process, setup, workspace};

/// Build the binary for release: static, stripped, with the BPF object, man pages and completions
///
/// Writes `target/dist/tracer`, which runs on any Linux of this architecture without other files, `target/dist/man`
/// and `target/dist/completions`. Checks that the binary needs no dynamic loader, does not contain the C library's
/// name service, and prints its version.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let (binary, version) = static_binary()?;
    let dir = workspace::target_dir().join("dist");
    let man = dir.join("man");
    process::command(&binary, ["man".as_ref(), "--dir".as_ref(), man.as_os_str()]).run().context("man pages")?;
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in ["bash", "zsh", "fish"] {
        let script = process::command(&binary, ["completions", shell]).read().context("completions")?;
        fs::write(completions.join(shell), script + "\n")?;
    }
    println!("{version}: {}", workspace::shown_with_size(&binary));
    Ok(())
}

/// Builds and checks the binary. Returns its path, and the version that it prints.
pub(crate) fn static_binary() -> Result<(PathBuf, String)> {
    let target = workspace::host_target();
    let linked =
        static_binary_with(&target, |cargo, flags| Ok(cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))))?;
    let dir = workspace::target_dir().join("dist");
    fs::create_dir_all(&dir)?;
    let binary = dir.join("tracer");
    fs::copy(&linked, &binary).with_context(|| format!("cannot copy {}", linked.display()))?;
    let version = process::command(&binary, ["--version"]).read().context("it does not print its version")?;
    Ok((binary, version))
}

/// Builds it for `target`, with a cargo that `with_flags` prepares, and checks it.
pub(crate) fn static_binary_with(
    target: &str,
    with_flags: impl FnOnce(Expression, Vec<String>) -> Result<Expression>,
) -> Result<PathBuf> {
    build::bpf_object(&setup::bpf_toolchain()?)?;
    // With --target the flags apply only to tracer. Build scripts and macros stay as `cargo xtask build` builds them.
    let build =
        process::cargo(["build", "--package", "tracer", "--bin", "tracer", "--profile", "dist", "--target", target]);
    process::build_quietly(with_flags(build, static_flags())?).context("tracer")?;
    let linked = workspace::target_dir().join(target).join("dist").join("tracer");
    check_static(&linked).with_context(|| workspace::shown(&linked))?;
    check_users(&linked).with_context(|| workspace::shown(&linked))?;
    Ok(linked)
}

/// Returns flags that make rustc link statically, and reproducibly in every clone.
pub(crate) fn static_flags() -> Vec<String> {
    iter::once("-Ctarget-feature=+crt-static".to_owned()).chain(workspace::without_paths()).collect()
}

/// Checks that a static binary names no interpreter, which the kernel would start and which would load libraries.
fn check_static(binary: &Path) -> Result<()> {
    let content = fs::read(binary)?;
    let file = ElfFile64::<Endianness>::parse(&*content).context("no ELF file")?;
    if file.elf_program_headers().iter().any(|header| header.p_type(file.endian()) == elf::PT_INTERP) {
        bail!("it is dynamically linked");
    }
    match of_name_service(&content) {
        Some(name) => {
            bail!("it contains the C library's name service ({name}), which loads libraries: see sys/passwd.rs")
        }
        None => Ok(()),
    }
}

/// Returns a string that only the name service of glibc contains: its configuration file, or the libraries that it
/// loads. They are linked with `getpwnam`, `getgrgid`, `getaddrinfo` and their relatives. Symbols are stripped, these
/// strings are not.
fn of_name_service(content: &[u8]) -> Option<&'static str> {
    let contains = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
    ["/etc/nsswitch.conf", "libnss_"].into_iter().find(|text| contains(text))
}

/// Checks that a user without a name is shown as a number, whatever name service modules are configured here.
fn check_users(binary: &Path) -> Result<()> {
    const UID: u32 = 61234;
    if !nix::unistd::geteuid().is_root() || !runs_here(binary)? {
        return Ok(());
    }
    let mut sleeps = Command::new("sleep").arg("1000").uid(UID).stdin(Stdio::null()).spawn().context("sleep")?;
    let tree = process::command(binary, ["tree", "-u", &sleeps.id().to_string()]).read();
    let ended = sleeps.kill().and_then(|()| sleeps.wait());
    let tree = tree.context("`tree -u` of a user that no file names")?;
    ended.context("sleep")?;
    if !tree.contains(&UID.to_string()) {
        bail!("`tree -u` does not show uid {UID}: {tree}");
    }
    Ok(())
}

/// Returns false for a binary of another architecture.
fn runs_here(binary: &Path) -> Result<bool> {
    let machine = |path: &Path| -> Result<u16> {
        let content = fs::read(path)?;
        let file = ElfFile64::<Endianness>::parse(&*content).context("no ELF file")?;
        Ok(file.elf_header().e_machine.get(file.endian()))
    };
    Ok(machine(binary)? == machine(Path::new("/proc/self/exe"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_service_is_recognised() {
        assert_eq!(of_name_service(b"\0/etc/nsswitch.conf\0"), Some("/etc/nsswitch.conf"));
        assert_eq!(of_name_service(b"\0libnss_files.so\0"), Some("libnss_"));
        assert_eq!(of_name_service(b"\0/etc/passwd\0"), None);
    }
}
