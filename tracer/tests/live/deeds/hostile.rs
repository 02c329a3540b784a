//! A user who does everything possible against root's tracer: false engines and runtimes, files that block, command
//! lines that are huge or not text, storms, deep trees.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, fork, mkfifo, setgroups, setresgid, setresuid};
use serde_json::json;

use super::Deed;
use crate::support::{Rng, Truth, write_script};

pub(super) const DEEDS: &[(&str, Deed)] = &[("hostile", hostile)];

/// The false name of the victim. No output may ever contain it.
pub(crate) const FALSE_NAME: &str = "HOSTILE-NAME";
/// Would clear the screen and set the title of a terminal that receives it.
pub(crate) const ESCAPES: &[u8] = b"\x1b[2J\x1b]0;hostile\x07\x9b31m";

/// Engines that wait at the same time, and forks in total. The bounds keep the machine usable.
const ENGINES: usize = 24;
const FORKS: u64 = 6000;

/// `SEED SECONDS PLACE VICTIM`: runs as user 1000, for that time, in that directory, against the container of that
/// id.
fn hostile(truth: Truth, arguments: &[String]) {
    let [seed, seconds, place, victim] = arguments else { panic!("SEED SECONDS PLACE VICTIM") };
    setgroups(&[]).expect("this is root");
    setresgid(Gid::from_raw(1000), Gid::from_raw(1000), Gid::from_raw(1000)).expect("this is root");
    setresuid(Uid::from_raw(1000), Uid::from_raw(1000), Uid::from_raw(1000)).expect("this is root");
    let mut user = User {
        rng: Rng::new(seed.parse().expect("a number")),
        place: PathBuf::from(place),
        victim: victim.clone(),
        engines: Vec::new(),
        forks: 0,
        deeds: 0,
    };
    user.prepare();
    truth.say("ready", json!({}));
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a number"));
    while Instant::now() < end {
        user.act();
        std::thread::sleep(Duration::from_millis(user.rng.below(5)));
    }
    for mut engine in user.engines.drain(..) {
        end_of(&mut engine);
    }
    truth.say("done", json!({"deeds": user.deeds, "forks": user.forks}));
}

fn end_of(child: &mut Child) {
    // It may have exited before.
    let _ = child.kill();
    let _ = child.wait();
}

struct User {
    rng: Rng,
    place: PathBuf,
    victim: String,
    engines: Vec<Child>,
    forks: u64,
    deeds: u64,
}

impl User {
    fn at(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Makes files that block, mislead and are huge.
    fn prepare(&self) {
        mkfifo(&self.at("fifo"), Mode::S_IRWXU).unwrap();
        for (link, target) in [("zero", "/dev/zero"), ("tty", "/dev/tty"), ("to-fifo", "fifo"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, self.at(link)).unwrap();
        }
        let name = format!("/{FALSE_NAME}{}", String::from_utf8_lossy(ESCAPES));
        let config = json!({"Name": name, "Config": {"Image": name}}).to_string();
        let container = self.at("data/containers").join(&self.victim);
        fs::create_dir_all(&container).unwrap();
        fs::write(container.join("config.v2.json"), &config).unwrap();
        let json = json!({"data-root": self.at("data")}).to_string();
        fs::write(self.at("daemon.json"), json).unwrap();
        let bundle = self.at("store/containers").join(&self.victim).join("userdata");
        fs::create_dir_all(&bundle).unwrap();
        let spec = json!({"ociVersion": "1.0.2", "hostname": FALSE_NAME, "process": {"args": [name]},
            "annotations": {"io.kubernetes.cri.container-name": name, "nerdctl/name": name}});
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        let stored = json!([{"id": self.victim, "names": [name], "metadata": json!({"name": name}).to_string()}]);
        fs::write(self.at("store/containers/containers.json"), stored.to_string()).unwrap();
        fs::create_dir(self.at("blocked")).unwrap();
        mkfifo(&self.at("blocked/config.json"), Mode::S_IRWXU).unwrap();
        let huge = fs::File::create(self.at("huge")).unwrap();
        // As large as the file system allows.
        let _ = huge.set_len(1 << 40).or_else(|_| huge.set_len(1 << 32));
        for name in ["dockerd", "conmon", "containerd-shim", "create", "run", "exec"] {
            write_script(self.at(name), "#!/bin/sh\nsleep 3 & wait\n");
        }
        let escape = OsString::from_vec([ESCAPES, b"x"].concat());
        write_script(self.place.join(escape), "#!/bin/sh\nexit 0\n");
    }

    fn act(&mut self) {
        self.deeds += 1;
        match self.rng.below(8) {
            0 | 1 => self.engine(),
            2 | 3 => self.runtime(),
            4 => self.huge_argv(),
            5 => self.escapes(),
            6 => self.storm(),
            _ => self.deep(),
        }
    }

    fn keep(&mut self, mut command: Command) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if self.engines.len() >= ENGINES {
            let oldest = self.rng.below(ENGINES as u64) as usize;
            end_of(&mut self.engines.swap_remove(oldest));
        }
        // Another process may be impossible.
        self.engines.extend(command.spawn());
    }

    /// Picks a file: one that blocks, leads elsewhere, is not a file, or lies.
    fn file(&mut self) -> PathBuf {
        let names = ["fifo", "zero", "tty", "to-fifo", "loop/x", "huge", "daemon.json", "missing", "fuse/x"];
        let name = *self.rng.pick(&names);
        let odd = [PathBuf::from("/proc/self/mem"), "/proc/kmsg".into(), "/dev/watchdog".into(), self.at(name)];
        if self.rng.chance(70) { self.at(name) } else { self.rng.pick(&odd).clone() }
    }

    fn engine(&mut self) {
        let command = match self.rng.below(4) {
            0 => {
                let mut dockerd = Command::new(self.at("dockerd"));
                dockerd.arg("--config-file").arg(self.file());
                dockerd
            }
            1 => {
                let mut dockerd = Command::new(self.at("dockerd"));
                let data = if self.rng.chance(50) { "data" } else { "fuse" };
                dockerd.arg("--data-root").arg(self.at(data));
                dockerd.env("ROOTLESSKIT_STATE_DIR", "/x").env("HOME", self.file());
                dockerd
            }
            2 => {
                let mut conmon = Command::new(self.at("conmon"));
                let bundle = self.bundle();
                conmon.args(["-c", &self.victim, "-b"]).arg(bundle);
                conmon
            }
            _ => {
                let mut shim = Command::new(self.at("containerd-shim"));
                shim.args(["-namespace", "moby", "-id", &self.victim]).current_dir(self.bundle());
                shim
            }
        };
        self.keep(command);
    }

    fn bundle(&mut self) -> PathBuf {
        let lying = self.at("store/containers").join(&self.victim).join("userdata");
        if self.rng.chance(50) { lying } else { self.at("blocked") }
    }

    /// `runc create VICTIM` with a child in a separate pid namespace, and other false claims.
    fn runtime(&mut self) {
        let runtime = *self.rng.pick(&["runc", "/usr/sbin/runc", "crun", "docker-runc"]);
        let verb = *self.rng.pick(&["create", "run", "exec"]);
        let mut command = Command::new("unshare");
        command.arg0(runtime).args(["-Urpf", verb]);
        if self.rng.chance(50) {
            command.arg("--bundle").arg(self.bundle());
        }
        command.arg(&self.victim).env("PATH", format!("{}:/usr/bin:/bin", self.place.display()));
        self.keep(command);
    }

    fn huge_argv(&mut self) {
        let mut command = Command::new("/bin/true");
        for _ in 0..self.rng.below(16) {
            let byte = self.rng.below(255) as u8 + 1;
            command.arg(OsString::from_vec(vec![byte; self.rng.below(100_000) as usize]));
        }
        self.keep(command);
    }

    fn escapes(&mut self) {
        let name = OsString::from_vec([ESCAPES, b"x"].concat());
        let mut command = Command::new(self.place.join(&name));
        command.arg0(&name).arg(&name).arg(format!("{FALSE_NAME}\n{}", self.victim));
        self.keep(command);
    }

    /// Short-lived processes, so that pids wrap around.
    fn storm(&mut self) {
        let many = self.rng.below(200);
        if self.forks + many > FORKS {
            return;
        }
        self.forks += many;
        for _ in 0..many {
            // SAFETY: this process has one thread; the child only exits.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => end_now(),
                Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
                Err(_) => return,
            }
        }
    }

    /// A chain of processes, each the child of the previous one.
    fn deep(&mut self) {
        let depth = self.rng.below(150);
        if self.forks + depth > FORKS {
            return;
        }
        self.forks += depth;
        // SAFETY: this process has one thread, and so has each child, which forks, waits and exits.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => descend(depth),
            Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
            Err(_) => {}
        }
    }
}

fn descend(depth: u64) -> ! {
    if depth > 0 {
        // SAFETY: as for the first.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => descend(depth - 1),
            Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
            Err(_) => {}
        }
    }
    end_now()
}

/// Exits from a child that must not run the rest of its parent's code.
fn end_now() -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { nix::libc::_exit(0) }
}

/// Mounts a file system below `place` that a user serves, and that answers only the first request. It ends with the
/// descriptor.
pub(crate) fn silent_fuse(place: &Path) -> Option<fs::File> {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use nix::mount::{MsFlags, mount};

    let mut fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
    let options = format!("fd={},rootmode=40000,user_id=1000,group_id=1000,allow_other", fuse.as_raw_fd());
    mount(Some("hostile"), place, Some("fuse"), MsFlags::empty(), Some(options.as_str())).ok()?;
    // FUSE_INIT (linux/fuse.h): `fuse_in_header` with the number of the request at 8. The answer is `fuse_out_header`
    // and `fuse_init_out`.
    let mut request = vec![0; 1 << 17];
    fuse.read(&mut request).ok().filter(|&bytes| bytes >= 40)?;
    let unique = &request[8..16];
    let mut answer = Vec::new();
    answer.extend((16 + 64_u32).to_ne_bytes());
    answer.extend(0_i32.to_ne_bytes());
    answer.extend(unique);
    for word in [7_u32, 31, 65536, 0, (12 << 16) | 9, 65536, 1] {
        answer.extend(word.to_ne_bytes());
    }
    answer.resize(16 + 64, 0);
    fuse.write_all(&answer).ok()?;
    Some(fuse)
}
