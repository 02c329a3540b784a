//! Execs of programs with unusual paths: relative, deleted, in memory, deep, in another root or mount namespace.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::Deed;
use super::report::Stage;
use crate::support::{Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("path-relative", relative),
    ("path-descriptor", descriptor),
    ("path-deep", deep),
    ("path-symlink", symlink),
    ("path-chroot", chroot),
    ("path-mounted", mounted),
];

/// Installs this program under another name: a link if both are on one file system, else a copy.
pub(super) fn install(path: &Path) {
    fs::hard_link(this_binary(), path).or_else(|_| fs::copy(this_binary(), path).map(|_| ())).expect("a new file");
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// `../program`, after a chdir.
fn relative(truth: Truth, arguments: &[String]) {
    let directory = Path::new(&arguments[0]);
    install(&directory.join("program"));
    fs::create_dir(directory.join("below")).expect("a new directory");
    Stage::new(truth).play(|stage| {
        std::env::set_current_dir(directory.join("below")).expect("it was just made");
        stage.exec(b"../program", &[b"program"])
    });
}

/// By a symbolic link: the executable is its target.
fn symlink(truth: Truth, arguments: &[String]) {
    let link = Path::new(&arguments[0]).join("link");
    std::os::unix::fs::symlink(this_binary(), &link).expect("a new link");
    Stage::new(truth).play(|stage| stage.exec(bytes(&link), &[b"link"]));
}

/// By descriptor: of a file, of a deleted file, of a memfd, or of the directory that contains it.
fn descriptor(truth: Truth, arguments: &[String]) {
    let [directory, kind] = arguments else { panic!("DIRECTORY KIND") };
    let program = Path::new(directory).join("program");
    install(&program);
    Stage::new(truth).play(|stage| {
        let say = |fd: i32| truth.say("descriptor", json!({ "fd": fd }));
        match kind.as_str() {
            "directory" => {
                let directory = fs::File::open(directory).expect("it exists");
                say(directory.as_raw_fd());
                stage.execveat(directory.as_raw_fd(), c"program", &[b"program"], 0);
            }
            "memfd" => {
                // SAFETY: a C string and flags.
                let fd = unsafe { libc::memfd_create(c"in memory".as_ptr(), libc::MFD_CLOEXEC) };
                assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
                // Through /proc, the descriptor stays ours.
                fs::copy(&program, format!("/proc/self/fd/{fd}")).expect("memory takes it");
                say(fd);
                stage.exec_fd(fd, &[b"program"])
            }
            _ => {
                let file = fs::File::open(&program).expect("it was just made");
                if kind == "deleted" {
                    fs::remove_file(&program).expect("our own file");
                }
                say(file.as_raw_fd());
                stage.exec_fd(file.as_raw_fd(), &[b"program"])
            }
        }
    });
}

/// From a working directory of DEPTH components of a given length, which contains the program too.
fn deep(truth: Truth, arguments: &[String]) {
    let [directory, depth, length] = arguments else { panic!("DIRECTORY DEPTH LENGTH") };
    let (depth, length): (usize, usize) = (depth.parse().expect("a number"), length.parse().expect("a number"));
    std::env::set_current_dir(directory).expect("it exists");
    for level in 0..depth {
        // Step by step: the whole path may be longer than a system call accepts.
        let name = format!("{level:0length$}");
        fs::create_dir(&name).and_then(|()| std::env::set_current_dir(&name)).expect("a new directory");
    }
    install(Path::new("program"));
    Stage::new(truth).play(|stage| stage.exec(b"./program", &[b"program"]));
}

/// Copies this program and the libraries that it has mapped into a new root, at their paths here.
fn furnish(root: &Path) {
    let interpreters = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(PathBuf::from);
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mapped = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    let libraries = mapped.filter(|path| path.to_string_lossy().contains(".so"));
    let mut wanted: Vec<PathBuf> = interpreters.into_iter().filter(|path| path.exists()).chain(libraries).collect();
    wanted.sort();
    wanted.dedup();
    for library in wanted {
        let name = library.file_name().expect("a file").to_owned();
        let directory = library.parent().and_then(|directory| directory.strip_prefix("/").ok()).expect("absolute");
        // /lib may be a link to /usr/lib: the new root has both.
        for directory in [directory, directory.strip_prefix("usr").unwrap_or(directory)] {
            let inside = root.join(directory);
            fs::create_dir_all(&inside).expect("a new directory");
            fs::copy(&library, inside.join(&name)).expect("a new file");
        }
    }
    fs::create_dir_all(root.join("bin")).expect("a new directory");
    install(&root.join("bin/program"));
}

/// Inside a chroot.
fn chroot(truth: Truth, arguments: &[String]) {
    let root = Path::new(&arguments[0]).join("root");
    fs::create_dir(&root).expect("a new directory");
    furnish(&root);
    Stage::new(truth).play(|stage| {
        nix::unistd::chroot(&root).expect("root may");
        std::env::set_current_dir("/bin").expect("it was furnished");
        stage.exec(b"/bin/program", &[b"program"])
    });
}

/// On a mount that exists only in its mount namespace, and goes away with it.
fn mounted(truth: Truth, arguments: &[String]) {
    let [directory, kind] = arguments else { panic!("DIRECTORY KIND") };
    let directory = Path::new(directory);
    for name in ["lower", "upper", "work", "mounted"] {
        fs::create_dir(directory.join(name)).expect("a new directory");
    }
    let (lower, target) = (directory.join("lower"), directory.join("mounted"));
    install(&lower.join("program"));
    fs::write(directory.join("alias"), "").expect("a new file");
    let none: Option<&str> = None;
    Stage::new(truth).play(|stage| {
        unshare(CloneFlags::CLONE_NEWNS).expect("root may");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
        let mut program = target.join("program");
        match kind.as_str() {
            "tmpfs" => {
                mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), none).expect("root may");
                fs::copy(lower.join("program"), &program).expect("memory takes it");
            }
            "overlay" => {
                let [lower, upper, work] = ["lower", "upper", "work"].map(|name| directory.join(name));
                let data =
                    format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
                let done = mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(data.as_str()));
                if let Err(error) = done {
                    truth.say("no overlay", json!({ "error": error.to_string() }));
                    mount(Some(&lower), &target, none, MsFlags::MS_BIND, none).expect("root may");
                }
            }
            "bind" => mount(Some(&lower), &target, none, MsFlags::MS_BIND, none).expect("root may"),
            "bind-twice" => {
                // A mount on a mount: the walk crosses two mount points, one directly below the other.
                mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), none).expect("root may");
                let deeper = target.join("deeper");
                fs::create_dir(&deeper).expect("a new directory");
                mount(Some(&lower), &deeper, none, MsFlags::MS_BIND, none).expect("root may");
                program = deeper.join("program");
            }
            "bind-file" => {
                program = directory.join("alias");
                mount(Some(&lower.join("program")), &program, none, MsFlags::MS_BIND, none).expect("root may");
            }
            other => panic!("no such mount: {other}"),
        }
        std::env::set_current_dir(program.parent().expect("a file")).expect("it exists");
        let path = CString::new(bytes(&program)).expect("no NUL");
        stage.exec(path.as_bytes(), &[b"program"])
    });
}
