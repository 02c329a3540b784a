//! The kernels: Debian packages, of which only the image is kept, in the target directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Arch;
use crate::apt::Lists;
use crate::workspace;

/// A series of kernels, of which the newest available one is used.
pub(super) struct Series {
    pub(super) name: &'static str,
    /// Prefixes of the version. The first one with a package is used.
    pub(super) begins: &'static [&'static str],
    arches: &'static [Arch],
    /// It lies between kernels that run all tests.
    pub(super) between: bool,
}

const BOTH: &[Arch] = &[Arch::X86_64, Arch::Aarch64];

/// Oldest first: the kernels of today's distributions, and those of the next ones.
pub(super) const SERIES: &[Series] = &[
    // For arm64 the archive lists some, but has none.
    Series { name: "5.10", begins: &["5.10."], arches: &[Arch::X86_64], between: false },
    Series { name: "6.1", begins: &["6.1."], arches: BOTH, between: true },
    Series { name: "6.12", begins: &["6.12."], arches: BOTH, between: false },
    Series { name: "6.18", begins: &["6.18.", "6.16."], arches: &[Arch::X86_64], between: true },
    Series { name: "7", begins: &["7."], arches: BOTH, between: false },
];

impl Series {
    pub(super) fn is_for(&self, arch: Arch) -> bool {
        self.arches.contains(&arch)
    }
}

/// A kernel to boot.
pub(super) struct Kernel {
    pub(super) series: &'static str,
    pub(super) package: String,
    pub(super) image: PathBuf,
}

/// How many packages of one series are tried, because some listed packages are gone.
const TRIES: usize = 6;

/// Fetches kernels and the guest's busybox, unless they exist.
pub(super) struct Fetcher {
    arch: Arch,
    lists: Option<Lists>,
}

impl Fetcher {
    pub(super) fn new(arch: Arch) -> Self {
        Self { arch, lists: None }
    }

    /// Returns the kernel of a series: the kept one, unless `newest` requests a new search.
    pub(super) fn kernel(&mut self, series: &Series, newest: bool) -> Result<Kernel> {
        let dir = self.arch.dir().join(series.name);
        let kept = |dir: &Path| -> Option<Kernel> {
            let package = fs::read_to_string(dir.join("package")).ok()?;
            let image = dir.join("vmlinuz");
            image.exists().then_some(Kernel { series: series.name, package, image })
        };
        if let Some(kernel) = kept(&dir).filter(|_| !newest) {
            return Ok(kernel);
        }
        let candidates = self.candidates(series)?;
        if let Some(kernel) = kept(&dir).filter(|kernel| candidates.first() == Some(&kernel.package)) {
            return Ok(kernel);
        }
        let mut refused = String::new();
        for package in candidates.iter().take(TRIES) {
            match self.take(package, &dir) {
                Ok(()) => return kept(&dir).context("it was not kept"),
                Err(why) => refused = format!("{package}: {why:#}"),
            }
        }
        kept(&dir).with_context(|| match &*refused {
            "" => format!("no suite has a package of Linux {}", series.begins.join(" or ")),
            refused => format!("the last of {} that were tried, {refused}", candidates.len().min(TRIES)),
        })
    }

    /// Returns a busybox for the guest.
    pub(super) fn busybox(&mut self) -> Result<PathBuf> {
        let kept = self.arch.dir().join("busybox");
        if !kept.exists() {
            let unpacked = self.arch.dir().join("busybox.new");
            self.lists()?.unpack("busybox-static", &unpacked).context("busybox-static")?;
            let found = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
            let found = found.iter().find(|path| path.exists()).context("busybox-static has no busybox")?;
            fs::copy(found, &kept)?;
            fs::remove_dir_all(unpacked)?;
        }
        Ok(kept)
    }

    /// Returns the package lists, and fetches them on first use.
    pub(super) fn lists(&mut self) -> Result<&Lists> {
        if self.lists.is_none() {
            workspace::say(&format!("fetching lists of kernel packages ({})", self.arch.debian()));
            self.lists = Some(Lists::fetch(self.arch.debian())?);
        }
        self.lists.as_ref().context("no package lists")
    }

    /// Returns the packages of a series, newest first.
    fn candidates(&mut self, series: &Series) -> Result<Vec<String>> {
        let pattern = format!("^linux-(image|binary)-[0-9].*-cloud-{}(-unsigned)?$", self.arch.debian());
        let mut all = self.lists()?.search(&pattern)?;
        all.sort_by_cached_key(|package| std::cmp::Reverse(age(package)));
        let of = |begins: &str| -> Vec<String> {
            all.iter().filter(|package| version(package).starts_with(begins)).cloned().collect()
        };
        Ok(series.begins.iter().map(|begins| of(begins)).find(|found| !found.is_empty()).unwrap_or_default())
    }

    /// Downloads a package and keeps its image.
    fn take(&mut self, package: &str, dir: &Path) -> Result<()> {
        workspace::say(&format!("fetching {package}"));
        let unpacked = dir.with_extension("new");
        drop(fs::remove_dir_all(&unpacked));
        self.lists()?.unpack(package, &unpacked)?;
        let image = image(&unpacked).context("it has no kernel image")?;
        fs::create_dir_all(dir)?;
        fs::copy(image, dir.join("vmlinuz"))?;
        fs::write(dir.join("package"), package)?;
        fs::remove_dir_all(unpacked)?;
        Ok(())
    }
}

/// Returns `5.10.0-46` of `linux-image-5.10.0-46-cloud-amd64`.
fn version(package: &str) -> &str {
    let rest = package.trim_start_matches("linux-image-").trim_start_matches("linux-binary-");
    rest.split("-cloud-").next().unwrap_or(rest)
}

/// Sorts packages by version; within one version, the one with the image comes first. (From 6.19 on that is
/// `linux-binary`.)
fn age(package: &str) -> (Vec<u32>, bool, bool) {
    let numbers = version(package).split(|c: char| !c.is_ascii_digit()).filter_map(|run| run.parse().ok()).collect();
    (numbers, package.starts_with("linux-binary-"), !package.ends_with("-unsigned"))
}

/// Returns `boot/vmlinuz-VERSION`, or `usr/lib/modules/VERSION/vmlinuz` from 7.2 on.
fn image(unpacked: &Path) -> Result<PathBuf> {
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let in_boot = entries(unpacked.join("boot"))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinu")));
    let modules = ["usr/lib/modules", "lib/modules"].into_iter().flat_map(|dir| entries(unpacked.join(dir)));
    let beside_modules = modules.map(|dir| dir.join("vmlinuz")).find(|path| path.exists());
    match in_boot.or(beside_modules) {
        Some(path) => Ok(path),
        None => bail!("no vmlinuz"),
    }
}

#[cfg(test)]
mod tests {
    use super::{age, version};

    #[test]
    fn the_newest_version_is_a_number_and_not_a_text() {
        let mut packages = [
            "linux-image-6.12.90+deb12.1-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.90+deb12-cloud-amd64",
        ];
        packages.sort_by_cached_key(|package| std::cmp::Reverse(age(package)));
        assert_eq!(packages.map(version), ["6.12.117+deb12", "6.12.117+deb12", "6.12.90+deb12.1", "6.12.90+deb12"]);
        assert!(!packages[0].ends_with("unsigned"));
        assert!(age("linux-image-6.1.0-56-cloud-amd64") > age("linux-image-6.1.0-0.deb11.52-cloud-amd64"));
        assert!(age("linux-binary-7.3.4+deb13-cloud-amd64") > age("linux-image-7.3.4+deb13-cloud-amd64"));
    }
}
