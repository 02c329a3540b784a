//! The Debian packages that are used, each with its reason, and how missing ones are installed.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use crate::apt::{self, Lists};
use crate::{process, workspace};

/// One Debian package.
pub(crate) struct Package {
    name: Cow<'static, str>,
    /// Shown when it is installed.
    why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name: Cow::Borrowed(name), why }
}

/// A compiler with the sources of `core`, which the BPF target needs. It needs no rustup download, and the LLVM
/// packages below match its LLVM.
pub(crate) const BPF_COMPILER: &[Package] = &[
    package("rustc-web", "compiles the BPF programs"),
    package("rust-web-src", "the sources of core, for the BPF target"),
    package("rust-web-llvm", "LLVM tools that match the compiler"),
];

/// Returns the LLVM with which bpf-linker is built.
pub(crate) fn llvm(major: u32) -> [Package; 3] {
    [
        Package { name: format!("llvm-{major}-dev").into(), why: "bpf-linker is built on it" },
        Package { name: format!("libpolly-{major}-dev").into(), why: "part of LLVM, linked by bpf-linker" },
        package("libzstd-dev", "linked by bpf-linker"),
    ]
}

/// Programs that the tests trace, or use. A test that needs another names it here.
pub(crate) const TESTS: &[Package] = &[
    package("busybox-static", "the root file system of the containers that the tests start"),
    package("containerd", "the tests trace its containers, below docker.io"),
    package("crun", "the tests trace its containers"),
    package("docker.io", "the tests trace its containers"),
    package("g++", "the fuzz targets link libFuzzer"),
    package("gcc", "the tests trace a compiler at work"),
    package("libc6-dev", "C headers, and the static C library"),
    package("libcap2-bin", "setcap: the tests trace a binary with file capabilities"),
    package("libnss-systemd", "crashes a static binary that uses the C library's name service: ours must not"),
    package("make", "the tests trace make -j"),
    package("podman", "the tests trace its containers"),
    package("procps", "ps, against which the tests compare"),
    package("runc", "the tests trace its containers"),
    package("psmisc", "pstree, against which the tests compare"),
    package("rust-web-clippy", "lints the BPF programs"),
    package("stress-ng", "the tests trace its storms"),
    package("util-linux", "unshare, setsid, setpriv: the tests use namespaces and sessions"),
];

/// Peers that `cargo xtask bench` measures, and the libraries of tracexec.
pub(crate) const PEERS: &[Package] = &[
    package("bpftrace", "measured beside us"),
    package("forkstat", "measured beside us"),
    package("libbpf-tools", "execsnoop and exitsnoop, measured beside us"),
    package("libseccomp-dev", "linked by tracexec, which is measured beside us"),
    package("linux-perf", "perf trace, measured beside us"),
    package("strace", "measured beside us"),
];

/// Boots other kernels, and packs their initramfs.
const VM: &[Package] = &[
    package("cpio", "packs what virtual machines boot into"),
    package("qemu-system-x86", "boots other kernels for the tests"),
];

/// The same for arm64.
const VM_AARCH64: &[Package] = &[
    package("cpio", "packs what virtual machines boot into"),
    package("qemu-system-arm", "boots arm64 kernels for the tests"),
];

/// Links for arm64.
pub(crate) const CROSS_AARCH64: &[Package] = &[
    package("gcc-aarch64-linux-gnu", "links tracer for arm64"),
    package("libc6-dev-arm64-cross", "the static C library for arm64"),
];

/// Installs QEMU. Uses backports if a part of it is from there already, because the suite's own would not fit.
pub(crate) fn ensure_qemu(aarch64: bool) -> Result<()> {
    let (packages, parts): (_, &[&str]) = if aarch64 {
        (VM_AARCH64, &["qemu-system-arm", "qemu-system-common", "qemu-system-data"])
    } else {
        (VM, &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"])
    };
    let Err(why) = ensure(packages) else { return Ok(()) };
    if !on_debian() {
        return Err(why);
    }
    workspace::say(&format!("{why:#}; taking it from backports"));
    ensure(&packages[..1])?;
    Lists::fetch(apt::host_architecture())?.install("bookworm-backports", parts).context("qemu cannot be installed")
}

/// Returns true if Debian packages can be installed here.
pub(crate) fn on_debian() -> bool {
    which::which("dpkg-query").is_ok() && which::which("apt-get").is_ok()
}

/// Returns what to do on another system.
pub(crate) fn by_hand(packages: &[Package]) -> String {
    let names: Vec<_> = packages.iter().map(|package| &*package.name).collect();
    format!("this is not a Debian: install by its own means what Debian calls {}", names.join(" "))
}

/// The package index is fetched once, if something is missing. It is fetched again if the installation fails.
static UPDATED: AtomicBool = AtomicBool::new(false);

/// Installs the missing ones of `packages`.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    if !on_debian() {
        bail!("{}", by_hand(packages));
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    for Package { name, why } in &missing {
        workspace::say(&format!("installing Debian's {name} ({why})"));
    }
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing.iter().map(|package| &*package.name));
    process::retry(|| {
        // A partly stale index may still have the packages: the installation decides.
        if !UPDATED.swap(true, Ordering::Relaxed)
            && let Err(why) = apt_get(&["update"])
        {
            workspace::say(&format!("{why:#}; going on with the package index that is here"));
        }
        apt_get(&install).inspect_err(|_| UPDATED.store(false, Ordering::Relaxed))
    })
}

fn missing(packages: &[Package]) -> Result<Vec<&Package>> {
    let query = ["--show", "--showformat=${Package} ${db:Status-Status}\n"].into_iter();
    let names = packages.iter().map(|package| &*package.name);
    let installed = process::command("dpkg-query", query.chain(names))
        .stderr_null()
        .unchecked()
        .read()
        .context("cannot run dpkg-query")?;
    let is_installed = |name: &str| installed.lines().any(|line| line.split_once(' ') == Some((name, "installed")));
    Ok(packages.iter().filter(|package| !is_installed(&package.name)).collect())
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
    command.extend(args);
    let output = process::as_root(&command)?
        .stdin_null()
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("E:")).collect();
        bail!("`apt-get {}` failed: {}", args.join(" "), errors.join(" "));
    }
    Ok(())
}
