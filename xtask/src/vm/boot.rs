//! Boots a kernel in QEMU, by software emulation, so that this machine need not allow KVM.
//!
//! The initramfs is the whole guest: busybox, an init script, the payload. It has no disk, no network and no kernel
//! modules. Two serial lines separate the kernel's messages from the output of the tests. Their driver is built into
//! every Debian kernel.

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

/// Packs busybox, the init script and the payload into the archive that the kernel unpacks at boot.
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
    // Not compressed, because unpacking is emulated too.
    let pack = "cd \"$0\" && find . | cpio --create --format=newc --owner=+0:+0 --quiet";
    let pack = process::command("sh", ["-c".as_ref(), pack.as_ref(), root.as_os_str()]);
    pack.stdout_path(&archive).run().context("cpio cannot pack the initramfs")?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// The result of a boot.
pub(super) struct Booted {
    /// The output of the guest.
    pub(super) output: String,
    /// Why it ended early, if it did.
    pub(super) trouble: Option<String>,
    pub(super) took: Duration,
    /// The kernel's messages and the tests' stderr.
    pub(super) console: PathBuf,
}

impl Booted {
    /// Returns true if the emulator broke it.
    pub(super) fn stale_breakpoint(&self) -> bool {
        let console = fs::read(&self.console).unwrap_or_default();
        self.trouble.is_some() && stale_breakpoint(&String::from_utf8_lossy(&console))
    }
}

/// Recognizes a fault of QEMU's software emulation with several CPUs. The kernel puts a breakpoint into its own text
/// while it changes that (arch/x86/kernel/alternative.c, `text_poke_bp_batch`). Switching a tracepoint on or off is
/// such a change. Rarely, QEMU executes the breakpoint after it is gone.
///
/// The kernel has no breakpoint there and panics. A kernel with kprobes takes it for one that was just removed, and
/// executes the instruction again forever (arch/x86/kernel/kprobes/core.c, `kprobe_int3_handler`). It is then stuck
/// at an instruction of the kind that is changed: a no-op, a jump or a call of five bytes. Or the CPU that changes
/// the text waits for it forever.
fn stale_breakpoint(console: &str) -> bool {
    let changed = ["<0f> 1f 44 00 00", "<e9>", "<e8>"];
    let stuck = || {
        let mut code = console.lines().filter(|line| line.contains("] Code: "));
        code.any(|line| changed.iter().any(|bytes| line.contains(bytes))) || console.contains("text_poke_")
    };
    console.contains("int3: 0000 [#") || console.contains("softlockup: hung tasks") && stuck()
}

/// Returns the output of the guest's last run.
pub(super) fn last_output(kernel: &Kernel) -> String {
    let output = kernel.image.with_file_name("output.log");
    String::from_utf8_lossy(&fs::read(output).unwrap_or_default()).into_owned()
}

/// Boots `kernel` and waits until it exits, at most `limit`.
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
        .args([
            "-append",
            &format!("{} panic=-1 oops=panic softlockup_panic=1 quiet loglevel=4 apparmor=0 audit=0", arch.append()),
        ])
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

#[cfg(test)]
mod tests {
    use super::stale_breakpoint;

    #[test]
    fn what_the_emulator_broke_is_recognised() {
        let stuck = |code: &str| {
            format!(
                "[   91.5] RIP: 0010:x+0x5/0x9\n[   91.5] Code: 48 89 {code} 31 f6\n[   91.6] Kernel panic - not syncing: softlockup: hung tasks\n"
            )
        };
        assert!(stale_breakpoint("[  329.3] Oops: int3: 0000 [#1] SMP NOPTI"));
        assert!(stale_breakpoint("[    3.0] int3: 0000 [#1] PREEMPT SMP NOPTI"));
        assert!(stale_breakpoint(&stuck("<0f> 1f 44 00 00")) && stale_breakpoint(&stuck("<e9> 8f 00 00 00")));
        let waits =
            stuck("<f3> 90").replace("Code:", "Call Trace:\n[   91.5]  text_poke_bp_batch+0x9d/0x1f0\n[   91.5] Code:");
        assert!(stale_breakpoint(&waits));
        assert!(!stale_breakpoint(&stuck("<48> 8b 00")), "a loop of other code");
        assert!(!stale_breakpoint("[   91.5] Code: <e9> 8f 00 00 00\n[   91.6] BUG: kernel NULL pointer dereference"));
    }
}
