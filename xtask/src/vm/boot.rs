//! Boots a kernel in QEMU, by software emulation: what runs inside sees real hardware, and this machine need not allow KVM.
//!
//! The initramfs is the whole guest: busybox, an init script, the payload. No disk, no network, no kernel modules. Two
//! serial lines keep the kernel's messages apart from what the tests say; their driver is built into every Debian kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Arch;
use super::fetch::Kernel;
use crate::process;

const INIT: &str = include_str!("init.sh");

/// Packs busybox, the init script and the payload; what the kernel unpacks at boot.
pub(super) fn initramfs(arch: Arch, busybox: &Path, payload: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let root = arch.dir().join("root");
    drop(fs::remove_dir_all(&root));
    for dir in ["bin", "dev", "proc", "sys", "tmp", "payload"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy(busybox, root.join("bin/busybox"))?;
    for entry in fs::read_dir(payload)?.flatten() {
        fs::copy(entry.path(), root.join("payload").join(entry.file_name()))?;
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    for program in [init, root.join("bin/busybox")] {
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    }
    let archive = arch.dir().join("initramfs");
    // Not compressed: unpacking is emulated too.
    let pack = "cd \"$0\" && find . | cpio --create --format=newc --owner=+0:+0 --quiet";
    let pack = process::command("sh", ["-c".as_ref(), pack.as_ref(), root.as_os_str()]);
    pack.stdout_path(&archive).run().context("cpio cannot pack the initramfs")?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// What came of a boot.
pub(super) struct Booted {
    /// What the guest wrote to its output.
    pub(super) output: String,
    /// Why it ended before its time, if it did.
    pub(super) trouble: Option<String>,
    pub(super) took: Duration,
    /// The kernel's messages and what the tests said on stderr.
    pub(super) console: PathBuf,
}

impl Booted {
    /// True if the emulator broke it: with several CPUs, QEMU's software emulation now and then runs the breakpoint that the
    /// kernel puts into its own text while it changes that (arch/x86/kernel/alternative.c, `text_poke_bp_batch`) after it is
    /// gone, and the kernel knows of none there. Each tracepoint that is switched on or off is such a change.
    pub(super) fn stale_breakpoint(&self) -> bool {
        let console = String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned();
        self.trouble.is_some() && console.contains("int3: 0000 [#")
    }
}

/// What the guest wrote the last time.
pub(super) fn last_output(kernel: &Kernel) -> String {
    let output = kernel.image.with_file_name("output.log");
    String::from_utf8_lossy(&fs::read(output).unwrap_or_default()).into_owned()
}

/// Boots `kernel` and waits for the end of it, at most `limit`.
pub(super) fn boot(arch: Arch, kernel: &Kernel, initramfs: &Path, limit: Duration) -> Result<Booted> {
    let dir = kernel.image.parent().context("an image lies in a folder")?;
    let [console, output] = ["console.log", "output.log"].map(|name| dir.join(name));
    let log = File::create(dir.join("qemu.log"))?;
    let started = Instant::now();
    let mut qemu = Command::new(arch.qemu())
        .args(arch.machine())
        .args(["-smp", "2", "-m", "2048", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi"])
        .args(arch.serial(&console, &output))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{} panic=-1 oops=panic quiet loglevel=4 apparmor=0 audit=0", arch.append())])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", arch.qemu()))?;
    let status = loop {
        match qemu.try_wait()? {
            Some(status) => break Some(status),
            None if started.elapsed() > limit => {
                qemu.kill()?;
                qemu.wait()?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(200)),
        }
    };
    let output = String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned();
    let trouble = match status {
        None => Some(format!("it did not end within {} s", limit.as_secs())),
        Some(status) if !status.success() => {
            let said = fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
            bail!("{} ended with {status}: {}", arch.qemu(), said.trim())
        }
        Some(_) if !output.contains("@@status ") => Some("the guest stopped before its time".to_owned()),
        Some(_) => None,
    };
    Ok(Booted { output, trouble, took: started.elapsed(), console })
}
