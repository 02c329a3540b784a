//! Engines that have a daemon. Each test starts and stops a separate one.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::super::process::{BOUND, Guarded, run_bounded};
use super::super::which;
use super::{Engine, archive, finish, no_runc, trial, try_to};

/// Docker with a separate daemon, without bridge and iptables.
pub(crate) struct Docker {
    place: TempDir,
    daemon: Guarded,
}

impl Docker {
    pub(crate) fn start() -> Self {
        Self::try_to_start().unwrap_or_else(|why| panic!("{why}"))
    }

    fn try_to_start() -> Result<Self, String> {
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
        let end = Instant::now() + 3 * BOUND;
        while !run_bounded(docker.command().arg("version").stdin(Stdio::null()), BOUND).status.success() {
            if !docker.daemon.runs() || Instant::now() > end {
                let log = fs::read_to_string(docker.place.path().join("log")).unwrap_or_default();
                return Err(format!("dockerd does not serve: {}", log.lines().last().unwrap_or("no message")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let rootfs = archive(docker.place.path());
        try_to(docker.command().args(["import", "-", "tracer-test"]).stdin(rootfs))?;
        Ok(docker)
    }

    /// Returns the prefix of a command line that hides the sockets of the daemon and its containerd from the command.
    pub(crate) fn without_sockets(&self) -> Vec<String> {
        let at = |name: &str| self.place.path().join(name).display().to_string();
        let hide = "mount -t tmpfs none \"$0\" && mount --bind /dev/null \"$1\" && shift && exec \"$@\"";
        let words = ["unshare", "--mount", "sh", "-c", hide].map(str::to_owned);
        words.into_iter().chain([at("sockets"), at("exec/containerd/containerd.sock")]).collect()
    }

    /// Returns a `docker` command that uses our daemon.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.place.path().join("sockets/docker").display()));
        command.env("DOCKER_CONFIG", self.place.path());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // A SIGTERM makes it stop its containers and its containerd.
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

/// Returns why Docker cannot run containers here, if so.
pub(crate) fn no_docker() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| no_runc().or_else(why_not_docker)).clone()
}

fn why_not_docker() -> Option<String> {
    let missing = ["dockerd", "docker", "containerd"].into_iter().find(|tool| !which(tool));
    if let Some(tool) = missing {
        return Some(format!("{tool} is not installed"));
    }
    let tried = Docker::try_to_start().and_then(|docker| {
        let mut run = docker.command();
        try_to(run.args(["run", "--rm", "--network=none", "tracer-test", "/bin/true"]).stdin(Stdio::null()))
    });
    tried.err().map(|why| format!("docker cannot run a container here: {why}"))
}

/// The containerd that Docker starts, used without Docker: `ctr` runs containers of a separate image.
pub(crate) struct Containerd(Docker);

/// The name of our image in `ctr`.
const IMAGE_OF_CTR: &str = "docker.io/library/tracer-test:latest";

impl Containerd {
    pub(crate) fn start() -> Self {
        Self::of(Docker::start()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn of(docker: Docker) -> Result<Self, String> {
        let archive = docker.place.path().join("image.tar");
        try_to(docker.command().args(["save", "tracer-test", "-o"]).arg(&archive).stdin(Stdio::null()))?;
        let containerd = Self(docker);
        let mut import = containerd.command();
        // The `native` snapshotter needs nothing from the kernel.
        import.args(["image", "import", "--snapshotter", "native"]).arg(archive);
        try_to(import.stdin(Stdio::null()))?;
        Ok(containerd)
    }

    /// Returns a `ctr` command that uses our containerd.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.0.place.path().join("exec/containerd/containerd.sock"));
        command
    }

    /// Returns the arguments of `ctr` that precede the container's command line.
    pub(crate) const fn run_with(name: &str) -> [&str; 6] {
        ["run", "--rm", "--snapshotter", "native", IMAGE_OF_CTR, name]
    }
}

impl Engine for Containerd {
    fn run(&self, name: &str, command: &[&str]) -> String {
        finish(self.command().args(Self::run_with(name)).args(command));
        name.to_owned()
    }
}

/// Returns why containerd cannot run containers here, if so.
pub(crate) fn no_containerd() -> Option<String> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| no_docker().or_else(why_not_containerd)).clone()
}

fn why_not_containerd() -> Option<String> {
    if !which("ctr") {
        return Some("ctr is not installed".to_owned());
    }
    let tried = Docker::try_to_start().and_then(Containerd::of).and_then(|containerd| {
        let mut run = containerd.command();
        try_to(run.args(Containerd::run_with(&trial("ctr"))).arg("/bin/true").stdin(Stdio::null()))
    });
    tried.err().map(|why| format!("containerd cannot run a container here: {why}"))
}
