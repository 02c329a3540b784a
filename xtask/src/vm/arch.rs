//! Differences between architectures.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::workspace;

/// An architecture that can be emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// Intel and AMD
    #[value(name = "x86_64")]
    X86_64,
    /// ARM, 64 bits
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    /// Returns its name in Rust and QEMU.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Returns its name in Debian.
    pub(super) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    pub(super) const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// Returns the target for which the payload is built.
    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// Returns the directory of its kernels.
    pub(super) fn dir(self) -> PathBuf {
        workspace::target_dir().join("vm").join(self.name())
    }

    pub(super) const fn machine(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["-machine", "pc,usb=off,vmport=off", "-cpu", "max"],
            // The architected pointer authentication takes half of the time.
            Self::Aarch64 => &["-machine", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"],
        }
    }

    /// Returns the options for the two serial lines.
    pub(super) fn serial(self, console: &Path, output: &Path) -> Vec<String> {
        let file = |id: &str, path: &Path| format!("file,id={id},path={}", path.display());
        let lines = match self {
            Self::X86_64 => ["-serial", "chardev:console", "-serial", "chardev:output"],
            // The machine has one serial line. The other is on PCI, whose driver is built in.
            Self::Aarch64 => ["-serial", "chardev:console", "-device", "pci-serial,chardev=output,addr=5"],
        };
        let mut args = vec!["-chardev".to_owned(), file("console", console), "-chardev".into(), file("output", output)];
        args.extend(lines.map(str::to_owned));
        args
    }

    pub(super) const fn append(self) -> &'static str {
        match self {
            // An emulated timer fails its calibration at random on a busy machine.
            Self::X86_64 => "console=ttyS0 vmout=ttyS1 no_timer_check tsc=reliable mitigations=off",
            Self::Aarch64 => "console=ttyAMA0 vmout=ttyS0 mitigations=off",
        }
    }
}
