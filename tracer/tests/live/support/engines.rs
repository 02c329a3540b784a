//! Real container runtimes and engines. Each has a separate directory, which is removed with it.

mod daemons;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{BOUND, Finished, copy_program, run_bounded};
pub(crate) use daemons::{Containerd, Docker, no_containerd, no_docker};

/// A container engine under test.
pub(crate) trait Engine: Sync {
    /// Runs a command in a new container and waits for its exit. Returns the container's id as the engine reports it.
    fn run(&self, name: &str, command: &[&str]) -> String;

    /// Returns the engine's name for the image of its containers, if it has images.
    fn image(&self) -> Option<&'static str> {
        None
    }
}

fn finish(command: &mut Command) -> Finished {
    let finished = run_bounded(command.stdin(Stdio::null()), 3 * BOUND);
    assert!(finished.status.success(), "{command:?}: {}", finished.stderr);
    finished
}

/// Like [`finish`], but may fail: then returns the last line of its stderr.
fn try_to(command: &mut Command) -> Result<Finished, String> {
    let finished = run_bounded(command, 3 * BOUND);
    if finished.status.success() {
        return Ok(finished);
    }
    Err(finished.stderr.lines().last().unwrap_or("no message").to_owned())
}

/// Makes a root file system that holds only busybox.
fn make_rootfs(at: &Path) {
    let bin = at.join("bin");
    fs::create_dir_all(&bin).unwrap();
    copy_program("/bin/busybox", bin.join("busybox"));
    for name in ["sh", "true", "sleep", "cat"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    for name in ["proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir(at.join(name)).unwrap();
    }
}

/// Makes the same as an archive, for engines to import.
fn archive(directory: &Path) -> File {
    let rootfs = directory.join("rootfs");
    make_rootfs(&rootfs);
    let archive = directory.join("rootfs.tar");
    finish(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&archive).arg("."));
    File::open(archive).unwrap()
}

/// runc or crun without an engine. The test chooses the ids of its containers.
pub(crate) struct Runtime {
    place: TempDir,
    command: Vec<&'static str>,
}

/// crun refuses to work where cgroup v2 has controllers beside v1 ("hybrid"). Without the v2 mount it uses v1, as on
/// a machine that has only v1. Podman inherits the mount namespace too.
const WITHOUT_V2: [&str; 5] = ["unshare", "--mount", "sh", "-c", HIDE_V2];
const HIDE_V2: &str = "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";

/// Prefix of a command line that hides runc's state directory from the command.
pub(crate) const WITHOUT_STATES: [&str; 5] = ["unshare", "--mount", "sh", "-c", HIDE_STATES];
const HIDE_STATES: &str = "mount -t tmpfs none /run/runc && exec \"$0\" \"$@\"";

impl Runtime {
    pub(crate) fn runc() -> Self {
        Self::new(vec!["runc"])
    }

    pub(crate) fn crun() -> Self {
        Self::new([&WITHOUT_V2[..], &["crun"]].concat())
    }

    fn new(command: Vec<&'static str>) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        make_rootfs(&place.path().join("rootfs"));
        Self { place, command }
    }

    /// Returns a command of the runtime that keeps its state in our directory.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).arg("--root").arg(self.place.path().join("state"));
        command
    }

    /// Returns the path of a bundle.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Makes a bundle that runs a command.
    pub(crate) fn bundle(&self, name: &str, command: &[&str]) -> PathBuf {
        let bundle = self.place.path().join(name);
        fs::create_dir(&bundle).unwrap();
        finish(Command::new("runc").arg("spec").current_dir(&bundle));
        edit(&bundle, |spec| {
            spec["process"]["args"] = json!(command);
            spec["process"]["terminal"] = json!(false);
            spec["root"]["path"] = json!(self.place.path().join("rootfs"));
        });
        bundle
    }
}

/// Edits the `config.json` of a bundle.
pub(crate) fn edit(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    change(&mut spec);
    fs::write(&config, spec.to_string()).unwrap();
}

impl Engine for Runtime {
    fn run(&self, name: &str, command: &[&str]) -> String {
        let bundle = self.bundle(name, command);
        finish(self.command().arg("run").arg("--bundle").arg(bundle).arg(name));
        name.to_owned()
    }
}

/// Returns why runc cannot run containers here, if so.
pub(crate) fn no_runc() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| why_not("runc", Runtime::runc)).clone()
}

pub(crate) fn no_crun() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| no_runc().or_else(|| why_not("crun", Runtime::crun))).clone()
}

fn why_not(name: &str, make: fn() -> Runtime) -> Option<String> {
    for (tool, package) in [(name, name), ("busybox", "busybox-static")] {
        if !super::which(tool) {
            return Some(format!("{package} is not installed"));
        }
    }
    let runtime = make();
    let bundle = runtime.bundle("try", &["/bin/true"]);
    let id = trial(name);
    let mut run = runtime.command();
    run.arg("run").arg("--bundle").arg(bundle).arg(id).stdin(Stdio::null());
    try_to(&mut run).err().map(|why| format!("{name} cannot run a container here: {why}"))
}

/// Returns the name of a container that only checks whether one can run.
fn trial(called: &str) -> String {
    format!("tracer-try-{called}-{}", std::process::id())
}

/// Podman with a separate store.
pub(crate) struct Podman {
    place: TempDir,
    runtime: &'static str,
}

impl Podman {
    pub(crate) fn by_runc() -> Self {
        Self::by("runc").expect("podman takes an image")
    }

    pub(crate) fn by_crun() -> Self {
        Self::by("crun").expect("podman takes an image")
    }

    fn by(runtime: &'static str) -> Result<Self, String> {
        let podman = Self { place: tempfile::tempdir().expect("a temporary directory"), runtime };
        let rootfs = archive(podman.place.path());
        try_to(podman.command().args(["import", "-", "tracer-test"]).stdin(rootfs))?;
        Ok(podman)
    }

    /// Returns a `podman` command that keeps all its files in our directory.
    pub(crate) fn command(&self) -> Command {
        let at = |name| self.place.path().join(name);
        let words = if self.runtime == "crun" { &WITHOUT_V2[..] } else { &[] };
        let words = [words, &["podman"]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).arg("--tmpdir").arg(at("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", self.runtime]);
        command
    }

    /// Returns `podman run` of our image, without network. Its limits are at most those of the test, because an
    /// engine requests the highest possible limits.
    pub(crate) fn run_with(&self, options: &[&str], command: &[&str]) -> Command {
        let mut run = self.command();
        run.args(["run", "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        run.args(options).arg("tracer-test").args(command).stdin(Stdio::null());
        run
    }
}

impl Podman {
    /// Runs a podman command that must succeed and returns its output.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        finish(self.command().args(arguments)).stdout().trim().to_owned()
    }

    /// Starts a detached container and returns its id.
    pub(crate) fn detached(&self, name: &str, command: &[&str]) -> String {
        finish(&mut self.run_with(&["--detach", "--name", name], command)).stdout().trim().to_owned()
    }
}

impl Engine for Podman {
    fn image(&self) -> Option<&'static str> {
        Some("localhost/tracer-test:latest")
    }

    fn run(&self, name: &str, command: &[&str]) -> String {
        let id = self.place.path().join(format!("{name}.id")).display().to_string();
        finish(&mut self.run_with(&["--rm", "--name", name, "--cidfile", &id], command));
        fs::read_to_string(&id).unwrap().trim().to_owned()
    }
}

/// Returns why Podman cannot run containers here with runc, if so.
pub(crate) fn no_podman() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| no_runc().or_else(|| why_not_podman("runc"))).clone()
}

pub(crate) fn no_podman_by_crun() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| no_crun().or_else(|| why_not_podman("crun"))).clone()
}

fn why_not_podman(runtime: &'static str) -> Option<String> {
    if !super::which("podman") {
        return Some("podman is not installed".to_owned());
    }
    let tried = Podman::by(runtime).and_then(|podman| {
        let name = trial("podman");
        try_to(&mut podman.run_with(&["--rm", "--name", &name], &["/bin/true"]))
    });
    tried.err().map(|why| format!("podman cannot run a container by {runtime} here: {why}"))
}
