//! Container runtimes and engines: the real ones, each with a place of its own that is gone with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{BOUND, Finished, Guarded, copy_program, run_bounded};

/// What a container of an engine is made of, and how it is begun and known.
pub(crate) trait Engine: Sync {
    /// Runs a command in a new container to its end. Returns the container's id, as the engine tells it.
    fn run(&self, name: &str, command: &[&str]) -> String;

    /// The image of its containers as it calls that, if it has images.
    fn image(&self) -> Option<&'static str> {
        None
    }
}

fn finish(command: &mut Command) -> Finished {
    let finished = run_bounded(command.stdin(Stdio::null()), 3 * BOUND);
    assert!(finished.status.success(), "{command:?}: {}", finished.stderr);
    finished
}

/// A root file system of nothing but busybox.
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

/// The same as an archive, for engines to import.
fn archive(directory: &Path) -> File {
    let rootfs = directory.join("rootfs");
    make_rootfs(&rootfs);
    let archive = directory.join("rootfs.tar");
    finish(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&archive).arg("."));
    File::open(archive).unwrap()
}

/// runc or crun by itself: containers have the ids that the test gives.
pub(crate) struct Runtime {
    place: TempDir,
    command: Vec<&'static str>,
}

/// crun refuses to work where v2 has controllers beside v1 ("hybrid"). Without the mount it takes v1, as it does on a machine
/// that has only that.
const CRUN: [&str; 6] = ["unshare", "--mount", "sh", "-c", HIDE_V2, "crun"];
const HIDE_V2: &str = "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";

impl Runtime {
    pub(crate) fn runc() -> Self {
        Self::new(vec!["runc"])
    }

    pub(crate) fn crun() -> Self {
        Self::new(CRUN.to_vec())
    }

    fn new(command: Vec<&'static str>) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        make_rootfs(&place.path().join("rootfs"));
        Self { place, command }
    }

    /// The runtime, with its own place for what it keeps.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).arg("--root").arg(self.place.path().join("state"));
        command
    }

    /// Where a bundle lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A bundle that runs a command.
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

/// Changes what a bundle says.
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

/// Why plain containers cannot be run here, if so.
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
    let id = format!("tracer-try-{name}-{}", std::process::id());
    let tried =
        run_bounded(runtime.command().arg("run").arg("--bundle").arg(bundle).arg(id).stdin(Stdio::null()), BOUND);
    let why = tried.stderr.lines().last().unwrap_or("no word why").to_owned();
    (!tried.status.success()).then(|| format!("{name} cannot run a container here: {why}"))
}

/// Podman, with its own store.
pub(crate) struct Podman {
    place: TempDir,
}

impl Podman {
    pub(crate) fn new() -> Self {
        let podman = Self { place: tempfile::tempdir().expect("a temporary directory") };
        let rootfs = archive(podman.place.path());
        let imported = run_bounded(podman.command().args(["import", "-", "tracer-test"]).stdin(rootfs), BOUND);
        assert!(imported.status.success(), "podman import: {}", imported.stderr);
        podman
    }

    /// `podman`, with everything that it would keep elsewhere put here.
    pub(crate) fn command(&self) -> Command {
        let at = |name| self.place.path().join(name);
        let mut command = Command::new("podman");
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).arg("--tmpdir").arg(at("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", "runc"]);
        command
    }
}

/// No more than what the test itself may have: an engine asks for as much as there can be.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

impl Engine for Podman {
    fn image(&self) -> Option<&'static str> {
        Some("localhost/tracer-test:latest")
    }

    fn run(&self, name: &str, command: &[&str]) -> String {
        let id = self.place.path().join(format!("{name}.id"));
        let mut run = self.command();
        run.args(["run", "--rm", "--network=none", "--name", name, "--cidfile"]).arg(&id).args(LIMITS);
        finish(run.arg("tracer-test").args(command));
        fs::read_to_string(&id).unwrap().trim().to_owned()
    }
}

pub(crate) fn no_podman() -> Option<String> {
    (!super::which("podman")).then(|| "podman is not installed".to_owned()).or_else(no_runc)
}

/// Docker: a daemon of our own, without bridge and iptables.
pub(crate) struct Docker {
    place: TempDir,
    daemon: Guarded,
}

impl Docker {
    pub(crate) fn start() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let at = |name| place.path().join(name);
        fs::create_dir(at("sockets")).unwrap();
        let log = File::create(at("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"]);
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        command.args(["--storage-driver", "vfs", "--host"]).arg(format!("unix://{}", at("sockets/docker").display()));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut docker = Self { daemon: Guarded::spawn(&mut command), place };
        let end = Instant::now() + BOUND;
        while !run_bounded(docker.command().arg("version").stdin(Stdio::null()), BOUND).status.success() {
            let log = || fs::read_to_string(docker.place.path().join("log")).unwrap_or_default();
            assert!(docker.daemon.runs() && Instant::now() < end, "dockerd does not serve: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let rootfs = archive(docker.place.path());
        let imported = run_bounded(docker.command().args(["import", "-", "tracer-test"]).stdin(rootfs), BOUND);
        assert!(imported.status.success(), "docker import: {}", imported.stderr);
        docker
    }

    /// What starts a command where neither the daemon's socket nor that of its containerd is to be seen.
    pub(crate) fn without_sockets(&self) -> Vec<String> {
        let at = |name: &str| self.place.path().join(name).display().to_string();
        let hide = "mount -t tmpfs none \"$0\" && mount --bind /dev/null \"$1\" && shift && exec \"$@\"";
        let words = ["unshare", "--mount", "sh", "-c", hide].map(str::to_owned);
        words.into_iter().chain([at("sockets"), at("exec/containerd/containerd.sock")]).collect()
    }

    /// `docker`, talking to our daemon.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.place.path().join("sockets/docker").display()));
        command.env("DOCKER_CONFIG", self.place.path());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containers and its containerd, if it is asked to.
        let _ = kill(Pid::from_raw(self.daemon.pid() as i32), Signal::SIGTERM);
        let end = Instant::now() + BOUND;
        while self.daemon.runs() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Engine for Docker {
    fn image(&self) -> Option<&'static str> {
        Some("tracer-test")
    }

    fn run(&self, name: &str, command: &[&str]) -> String {
        let id = self.place.path().join(format!("{name}.id"));
        let mut run = self.command();
        run.args(["run", "--rm", "--network=none", "--name", name, "--cidfile"]).arg(&id).arg("tracer-test");
        finish(run.args(command));
        fs::read_to_string(&id).unwrap().trim().to_owned()
    }
}

pub(crate) fn no_docker() -> Option<String> {
    let missing = ["dockerd", "docker", "containerd"].into_iter().find(|tool| !super::which(tool));
    missing.map(|tool| format!("{tool} is not installed")).or_else(no_runc)
}
