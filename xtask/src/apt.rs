//! Debian packages from suites that the machine does not use, through apt with separate package lists.
//!
//! The machine's own sources are only read, to learn which mirror it uses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use duct::Expression;

use crate::{process, workspace};

/// Suites of the main archive, and of the security archive.
const MAIN: &[&str] = &["bookworm", "bookworm-backports", "trixie-backports"];
const SECURITY: &[&str] = &["bullseye-security", "bookworm-security"];

/// Package lists of one architecture, in a separate directory.
pub(crate) struct Lists {
    dir: PathBuf,
    /// The architecture's name in Debian.
    architecture: &'static str,
}

impl Lists {
    /// Fetches the package lists.
    pub(crate) fn fetch(architecture: &'static str) -> Result<Self> {
        let dir = workspace::target_dir().join("vm").join("apt").join(architecture);
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let lists = Self { dir, architecture };
        fs::write(lists.dir.join("sources.list"), sources(&mirrors()?))?;
        // A missing suite does not affect the others: the packages that are found decide.
        if let Err(why) = quietly(&lists.apt("apt-get", &["update"])) {
            workspace::say(&format!("{why:#}; going on with the package lists that came"));
        }
        Ok(lists)
    }

    /// Returns the names of packages that match a regular expression.
    pub(crate) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let found = quietly(&self.apt("apt-cache", &["search", "--names-only", pattern]))?;
        Ok(found.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect())
    }

    /// Downloads a package and unpacks it into `into`, which is created. Nothing is installed.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let place = self.dir.join("download");
        drop(fs::remove_dir_all(&place));
        fs::create_dir_all(&place)?;
        let mut argv = vec![OsString::from("-C"), place.clone().into(), "apt-get".into()];
        argv.extend(self.options().into_iter().map(OsString::from));
        argv.extend(["download".into(), package.into()]);
        quietly(&process::command("env", argv))?;
        let mut packages = fs::read_dir(&place)?.flatten().map(|entry| entry.path());
        let package = packages.find(|path| path.extension().is_some_and(|end| end == "deb")).context("no package")?;
        fs::create_dir_all(into)?;
        quietly(&process::command("dpkg-deb", ["-x".into(), package.into_os_string(), into.into()]))?;
        fs::remove_dir_all(place)?;
        Ok(())
    }

    /// Installs packages from a suite that the machine does not follow.
    pub(crate) fn install(&self, suite: &str, packages: &[&str]) -> Result<()> {
        let options = self.options();
        let mut argv = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
        argv.extend(options.iter().map(String::as_str));
        argv.extend(["install", "--yes", "--no-install-recommends", "-t", suite]);
        argv.extend(packages);
        quietly(&process::as_root(&argv)?).map(drop)
    }

    fn apt(&self, program: &str, args: &[&str]) -> Expression {
        let all = self.options().into_iter().chain(args.iter().map(|&arg| arg.to_owned()));
        process::command(program, all).env("LC_ALL", "C")
    }

    fn options(&self) -> Vec<String> {
        let dir = self.dir.display();
        let mut options = vec![
            "-q".to_owned(),
            format!("-oDir::Etc::sourcelist={dir}/sources.list"),
            "-oDir::Etc::sourceparts=-".to_owned(),
            format!("-oDir::State::lists={dir}/lists"),
            format!("-oDir::Cache={dir}/cache"),
            "-oAPT::Get::List-Cleanup=0".to_owned(),
            // apt's own user may have no access to the directory.
            "-oAPT::Sandbox::User=root".to_owned(),
        ];
        if self.architecture != host_architecture() {
            options.push(format!("-oAPT::Architecture={}", self.architecture));
            options.push(format!("-oAPT::Architectures={}", self.architecture));
        }
        options
    }
}

/// Returns Debian's name of this machine's architecture.
pub(crate) fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The mirrors from which the machine gets Debian's packages and security updates.
struct Mirrors {
    main: BTreeSet<String>,
    security: BTreeSet<String>,
}

fn mirrors() -> Result<Mirrors> {
    let args = ["indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages"];
    let printed = process::command("apt-get", args).stderr_null().read().context("apt-get names no mirror")?;
    let mut mirrors = Mirrors { main: BTreeSet::new(), security: BTreeSet::new() };
    for (suite, uri) in printed.lines().filter_map(|line| line.split_once('|')?.1.split_once('|')) {
        if suite.ends_with("-security") {
            mirrors.security.insert(uri.to_owned());
        } else if MAIN.contains(&suite) {
            mirrors.main.insert(uri.to_owned());
        }
    }
    if mirrors.main.is_empty() {
        bail!("this machine follows no suite of Debian that is known here: {}", MAIN.join(", "));
    }
    Ok(mirrors)
}

fn sources(mirrors: &Mirrors) -> String {
    let line = |uri: &String, suite: &str| {
        format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} {suite} main\n")
    };
    let of = |uris: &BTreeSet<String>, suites: &[&str]| -> String {
        let pairs = uris.iter().take(1).flat_map(|uri| suites.iter().map(move |&suite| (uri, suite)));
        pairs.map(|(uri, suite)| line(uri, suite)).collect()
    };
    of(&mirrors.main, MAIN) + &of(&mirrors.security, SECURITY)
}

/// Runs to the end. Returns the output, or the error messages.
fn quietly(expression: &Expression) -> Result<String> {
    let output = expression.stdin_null().stdout_capture().stderr_capture().unchecked().run().context("cannot start")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = said.lines().filter(|line| !line.starts_with("W:") && !line.trim().is_empty()).collect();
        bail!("{}", errors.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
