use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{chown, geteuid, mkfifo};

use super::open::is_users_fuse;
use super::*;

fn named(path: &Path) -> Named {
    Named { path: path.into(), root: None, owner: Owner::of(geteuid().as_raw()), max_bytes: 100 }
}

fn text(path: &Path) -> Result<String, Refused> {
    read(&named(path)).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn only_regular_files_are_read() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "content").unwrap();
    assert_eq!(text(&at("file")).unwrap(), "content");
    mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
    symlink("file", at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for name in ["fifo", "link", "directory", "socket"] {
        assert!(matches!(text(&at(name)), Err(Refused::Kind)), "{name}");
    }
    drop(socket);
    for device in ["/dev/zero", "/dev/full", "/dev/ptmx"] {
        let outcome = text(Path::new(device));
        assert!(matches!(outcome, Err(Refused::Kind | Refused::Owner(_))), "{device}: {outcome:?}");
    }
    assert!(matches!(text(&at("missing")), Err(Refused::Io(_))));
}

#[test]
fn links_to_directories_are_followed_but_magic_links_are_not() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("real/below")).unwrap();
    fs::write(at("real/below/file"), "content").unwrap();
    symlink("real/below/..", at("relative")).unwrap();
    symlink(at("real"), at("absolute")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for path in ["relative/below/file", "absolute/below/file", "real/../real/./below//file"] {
        assert_eq!(text(&at(path)).unwrap(), "content", "{path}");
    }
    assert!(matches!(text(&at("loop/file")), Err(Refused::Path)));
    let magic = format!("/proc/self/cwd/{}", at("real/below/file").display());
    assert!(text(Path::new(&magic)).is_err());
    assert!(text(Path::new("/proc/self/root/etc/passwd")).is_err());
}

#[test]
fn no_link_leads_out_of_a_root() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("root/in")).unwrap();
    fs::write(at("outside"), "outside").unwrap();
    fs::write(at("root/inside"), "inside").unwrap();
    symlink("/in/..", at("root/absolute")).unwrap();
    if !geteuid().is_root() || fs::copy("/bin/busybox", at("root/busybox")).is_err() {
        return;
    }
    assert!(Root::of(started(std::process::id())).unwrap().is_ours());
    let mut chrooted =
        std::process::Command::new("chroot").arg(at("root")).args(["/busybox", "sleep", "100"]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(40);
    while fs::read_link(format!("/proc/{}/root", chrooted.id())).unwrap() != at("root") {
        assert!(Instant::now() < end, "it changes its root");
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = started(chrooted.id());
    let root = Arc::new(Root::of(id).expect("it lives"));
    assert!(!root.is_ours());
    let inside = |path: &str| read(&Named { root: Some(root.clone()), ..named(Path::new(path)) });
    assert_eq!(inside("/absolute/inside").unwrap(), b"inside");
    assert_eq!(inside("/../../inside").unwrap(), b"inside", "above the root is the root");
    assert!(inside("/../outside").is_err());
    assert!(inside(at("outside").to_str().unwrap()).is_err());
    chrooted.kill().unwrap();
    chrooted.wait().unwrap();
    assert!(Root::of(id).is_none(), "another process may have its pid by now");
}

fn started(pid: u32) -> crate::event::id::ProcessId {
    crate::proc::start_of(Path::new(&format!("/proc/{pid}/stat"))).unwrap()
}

#[test]
fn the_owner_of_every_directory_above_is_checked() {
    if !geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("users")).unwrap();
    for file in ["users/file", "file"] {
        fs::write(at(file), "content").unwrap();
    }
    chown(&at("users"), Some(1000.into()), None).unwrap();
    let by = |owner, path: &str| read(&Named { owner, ..named(&at(path)) }).is_ok();
    assert!(by(Owner::Root, "file") && !by(Owner::Root, "users/file"), "user 1000 can replace it");
    assert!(by(Owner::User(1000), "users/file") && !by(Owner::User(1001), "users/file"));
    assert!(by(Owner::Vouched, "users/file"));
    chown(&at("file"), Some(1000.into()), None).unwrap();
    assert!(!by(Owner::Root, "file") && by(Owner::User(1000), "file") && by(Owner::Vouched, "file"));
    fs::set_permissions(at("file"), Permissions::from_mode(0o666)).unwrap();
    for owner in [Owner::Root, Owner::User(1000), Owner::Vouched] {
        assert!(!by(owner, "file"), "everyone may write it");
    }
}

#[test]
fn a_large_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    fs::write(&path, vec![b'x'; 100]).unwrap();
    assert_eq!(text(&path).unwrap().len(), 100);
    fs::write(&path, vec![b'x'; 101]).unwrap();
    assert!(matches!(text(&path), Err(Refused::Size(100))));
    // Files of /proc have no size: only the bytes read count.
    let proc = read(&Named { owner: Owner::Vouched, ..named(Path::new("/proc/kallsyms")) });
    assert!(matches!(proc, Err(Refused::Size(100))), "{proc:?}");
}

#[test]
fn a_changed_file_has_another_signature() {
    let place = tempfile::tempdir().unwrap();
    let (path, other) = (place.path().join("file"), place.path().join("other"));
    fs::write(&path, "one").unwrap();
    let first = signature(&named(&path)).unwrap();
    assert_eq!(signature(&named(&path)).unwrap(), first);
    fs::write(&other, "two").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_ne!(signature(&named(&path)).unwrap(), first);
}

#[test]
fn fuse_of_other_users_is_recognized_by_its_mount() {
    let line = |tail: &str| format!("36 35 98:0 / /mnt/x rw,noatime shared:1 - {tail}");
    for (tail, wanted) in [
        ("ext4 /dev/vda rw", false),
        ("fuse.sshfs ann@host: rw,user_id=1000,group_id=1000", true),
        ("fuse /dev/fuse rw,user_id=1000,group_id=0,allow_other", true),
        ("fuse.lxcfs lxcfs rw,user_id=0,group_id=0,allow_other", false),
        ("fuseblk /dev/sdb1 rw,user_id=0,group_id=0,allow_other", false),
        ("fusectl fusectl rw", false),
    ] {
        assert_eq!(is_users_fuse(&line(tail)), wanted, "{tail}");
    }
}

#[test]
fn blocked_work_is_abandoned_and_users_do_not_take_threads_from_each_other() {
    let mut pool = Pool::patient();
    let short = Duration::from_millis(5);
    assert_eq!(pool.run(0, || 7), Some(7));
    let mut ends = Vec::new();
    for _ in 0..STUCK {
        let (end, until) = channel::<()>();
        ends.push(end);
        assert_eq!(pool.run_for(1000, short, move || until.recv().is_err()), None);
    }
    assert_eq!(pool.stuck(), STUCK);
    let begun = Instant::now();
    assert_eq!(pool.run_for(1000, Duration::from_secs(100), || 7), None, "refused at once");
    assert!(begun.elapsed() < Duration::from_secs(50));
    assert_eq!((pool.run(0, || 7), pool.run(1001, || 8)), (Some(7), Some(8)));
    ends.clear();
    let end = Instant::now() + Duration::from_secs(40);
    while pool.stuck() > 0 {
        assert!(Instant::now() < end, "they came back");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pool.run(1000, || 7), Some(7));
}

/// How many threads one user may block.
const STUCK: usize = 2;
