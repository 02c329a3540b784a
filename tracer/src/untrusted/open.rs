//! Opens one file, component by component.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::{Named, Owner, Refused};

/// Maximum components and links of a path: more than the kernel follows (`MAXSYMLINKS`, 40) in a path of ordinary
/// depth.
const MAX_STEPS: usize = 256;
const MAX_LINKS: usize = 40;

/// Attributes that change when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    inode: u64,
    bytes: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Reads a whole file. It can block (a disk, a network file system): run it in a [`Pool`](super::Pool).
pub fn read(named: &Named) -> Result<Vec<u8>, Refused> {
    let (place, status) = find(named)?;
    if status.st_size as u64 > named.max_bytes {
        return Err(Refused::Size(named.max_bytes));
    }
    // It is a regular file, and this opens that very file: it can no longer be replaced.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(format!("/proc/self/fd/{}", place.as_raw_fd()).as_str(), flags, Mode::empty()).map_err(errno)?;
    let mut bytes = Vec::new();
    File::from(file).take(named.max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > named.max_bytes {
        return Err(Refused::Size(named.max_bytes));
    }
    Ok(bytes)
}

/// Returns a signature that shows whether a file has changed. It can block like [`read`].
pub fn signature(named: &Named) -> Result<Signature, Refused> {
    let (_, status) = find(named)?;
    Ok(Signature {
        inode: status.st_ino,
        bytes: status.st_size,
        modified: (status.st_mtime, status.st_mtime_nsec),
        changed: (status.st_ctime, status.st_ctime_nsec),
    })
}

fn errno(errno: Errno) -> Refused {
    Refused::Io(errno.into())
}

/// Finds the file without opening it: `O_PATH` starts no device and does not wait for the writer of a FIFO.
fn find(named: &Named) -> Result<(OwnedFd, FileStat), Refused> {
    let (root, mounts) = match &named.root {
        Some(root) => (root.directory()?, root.mounts()),
        None => (open("/", PATH | OFlag::O_DIRECTORY, Mode::empty()).map_err(errno)?, "/proc/self/mountinfo".into()),
    };
    if named.root.is_some() && is_served_by_user(&root, &mounts) {
        return Err(Refused::FileSystem);
    }
    let mut left: VecDeque<OsString> = components(&named.path);
    let mut above: Vec<OwnedFd> = vec![root];
    let (mut steps, mut links) = (0, 0);
    while let Some(name) = left.pop_front() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(Refused::Path);
        }
        if name == ".." {
            // The parent of the root is the root.
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let Some(directory) = above.last() else { return Err(Refused::Path) };
        let next = step(directory.as_fd(), &name, &mounts)?;
        let status = fstat(&next).map_err(errno)?;
        let kind = kind(&status);
        if kind == SFlag::S_IFLNK && !left.is_empty() {
            // Links of procfs have no size. They name no path: the kernel decides where they lead.
            if status.st_size == 0 {
                return Err(Refused::Kind);
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Refused::Path);
            }
            check(named.owner, &status, kind)?;
            let target = readlinkat(&next, "").map_err(errno)?;
            if target.as_bytes().starts_with(b"/") {
                above.truncate(1);
            }
            for part in components(Path::new(&target)).into_iter().rev() {
                left.push_front(part);
            }
            continue;
        }
        check(named.owner, &status, kind)?;
        if left.is_empty() {
            return if kind == SFlag::S_IFREG { Ok((next, status)) } else { Err(Refused::Kind) };
        }
        if kind != SFlag::S_IFDIR {
            return Err(Refused::Kind);
        }
        above.push(next);
    }
    Err(Refused::Kind)
}

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// Returns the components of a path, without `.` and `/`.
fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(|part| OsString::from_vec(part.to_vec())).collect()
}

/// Opens one component. Mounts may be entered, except FUSE mounts served by a user other than root: such a server can
/// leave a request unanswered, and that wait cannot be interrupted.
fn step(directory: BorrowedFd<'_>, name: &OsStr, mounts: &Path) -> Result<OwnedFd, Refused> {
    let resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    match openat2(directory, name, OpenHow::new().flags(PATH | OFlag::O_NOFOLLOW).resolve(resolve)) {
        Ok(next) => return Ok(next),
        // It is a mount, or the kernel or a seccomp filter rejects the call. Without it, one component that is not
        // followed still stays in the directory.
        Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => {}
        Err(other) => return Err(errno(other)),
    }
    let next = openat(directory, name, PATH | OFlag::O_NOFOLLOW, Mode::empty()).map_err(errno)?;
    if is_served_by_user(&next, mounts) { Err(Refused::FileSystem) } else { Ok(next) }
}

/// Returns whether a file is on a FUSE file system whose server is not root. Reads only `/proc`, never that file
/// system.
fn is_served_by_user(file: &OwnedFd, mounts: &Path) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap_or_default();
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    // A process in a `chroot` does not list the mount of its root, but tracer does.
    let lists = [Path::new("/proc/self/mountinfo"), mounts].map(|list| fs::read_to_string(list).unwrap_or_default());
    // A mount that is not listed may be anything.
    let mut lines = lists.iter().flat_map(|list| list.lines());
    mount.and_then(|mount| lines.find(|line| line.split(' ').next() == Some(mount))).is_none_or(is_users_fuse)
}

/// Decides by a line of `mountinfo` (proc_pid_mountinfo(5)).
pub(super) fn is_users_fuse(line: &str) -> bool {
    let Some((_, tail)) = line.split_once(" - ") else { return true };
    let mut tail = tail.split(' ');
    let kind = tail.next().unwrap_or_default();
    if kind != "fuse" && kind != "fuseblk" && !kind.starts_with("fuse.") {
        return false;
    }
    let options = tail.nth(1).unwrap_or_default();
    !options.split(',').any(|option| option == "user_id=0")
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

/// Checks that the owner is accepted, and that nobody else can write the file or replace what is in the directory.
fn check(owner: Owner, status: &FileStat, kind: SFlag) -> Result<(), Refused> {
    let for_all = status.st_mode & libc::S_IWOTH != 0;
    let sticky = kind == SFlag::S_IFDIR && status.st_mode & libc::S_ISVTX != 0;
    let open = for_all && !sticky && kind != SFlag::S_IFLNK && (kind == SFlag::S_IFREG || owner != Owner::Vouched);
    if open || !owner.accepts(status.st_uid) { Err(Refused::Owner(status.st_uid)) } else { Ok(()) }
}
