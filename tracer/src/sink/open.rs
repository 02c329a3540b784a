//! Opens the target of `-o`: a file, a pipe, a socket or an inherited descriptor.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::output::Existing;
use crate::sys::inherited;

/// Mode of a new file. Only its owner may read the arguments of other users' processes.
const MODE: u32 = 0o600;

/// Most symbolic links that are followed, the same as the kernel's (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// Returns a copy of an inherited descriptor. The copy shares its offset and flags.
pub(super) fn inherited(descriptor: RawFd) -> io::Result<File> {
    if inherited::was_closed(descriptor) {
        return Err(io::Error::other("it is closed"));
    }
    // SAFETY: it is borrowed for this call only. If it is not open, the calls return `EBADF`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = OFlag::from_bits_truncate(fcntl(borrowed, FcntlArg::F_GETFL)?);
    if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return Err(io::Error::other("it is open for reading only"));
    }
    borrowed.try_clone_to_owned().map(File::from)
}

/// Opens a file. Every write goes to its end, so that others may truncate it (`truncate -s 0`) or append to it.
pub(super) fn file(path: &Path, existing: Existing) -> io::Result<File> {
    if let Some(descriptor) = own_descriptor(path) {
        return inherited(descriptor);
    }
    let file = match OpenOptions::new().append(true).create(true).mode(MODE).open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) && is_socket(path) => {
            return UnixStream::connect(path).map(|stream| File::from(OwnedFd::from(stream)));
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(file);
    }
    match existing {
        Existing::Append => end_last_line(path, &file, metadata.len())?,
        Existing::Overwrite => file.set_len(0)?,
        Existing::Replace if !may_be_a_recording(path) => file.set_len(0)?,
        Existing::Replace => return Err(refusal("it holds a recording")),
        Existing::Keep => return Err(refusal("it is not empty, and may hold a recording")),
    }
    Ok(file)
}

fn refusal(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

/// Returns the descriptor of this process that a path names, e.g. `/dev/stdout`, `/dev/fd/3`, or a link to one.
///
/// To open the path would lose the offset of a file, and fail for a socket.
fn own_descriptor(path: &Path) -> Option<RawFd> {
    let own = PathBuf::from("/proc").join(std::process::id().to_string()).join("fd");
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().ok()?;
        let name = path.file_name()?;
        if parent == own {
            return name.to_str()?.parse().ok();
        }
        path = parent.join(parent.join(name).read_link().ok()?);
    }
    None
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Returns whether a file may be a recording: it begins with an event as JSON, is compressed, or cannot be read.
fn may_be_a_recording(path: &Path) -> bool {
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    let mut begin = Vec::new();
    match File::open(path).and_then(|file| file.take(256).read_to_end(&mut begin)) {
        Ok(_) => {
            let is_event = begin.starts_with(b"{\"v\":") && begin.windows(8).any(|window| window == b"\"event\":");
            is_event || begin.starts_with(ZSTD)
        }
        Err(_) => true,
    }
}

/// Ends an incomplete last line, whose writer was killed, so that only that line is damaged.
fn end_last_line(path: &Path, mut file: &File, len: u64) -> io::Result<()> {
    let mut last = [0];
    // A file that cannot be read may still be appended to.
    if File::open(path).and_then(|file| file.read_exact_at(&mut last, len - 1)).is_ok() && last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HELLO: &str = "{\"v\":1,\"event\":\"hello\",\"seq\":0}\n";

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        (dir, path)
    }

    #[test]
    fn a_recording_is_emptied_only_by_force() {
        let (_dir, path) = temporary();
        let kind = |existing| file(&path, existing).map(drop).map_err(|error| error.kind());
        for existing in [Existing::Replace, Existing::Keep, Existing::Append] {
            assert_eq!(kind(existing), Ok(()), "a new file, then an empty one");
        }
        fs::write(&path, HELLO).unwrap();
        for existing in [Existing::Replace, Existing::Keep] {
            assert_eq!(kind(existing), Err(io::ErrorKind::AlreadyExists), "{existing:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), HELLO, "{existing:?}");
        }
        kind(Existing::Overwrite).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
        assert_eq!(kind(Existing::Replace), Err(io::ErrorKind::AlreadyExists), "a compressed one");
        fs::write(&path, "a tree\n").unwrap();
        assert_eq!(kind(Existing::Keep), Err(io::ErrorKind::AlreadyExists));
        kind(Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"", "anything else");
    }

    #[test]
    fn appended_events_begin_on_a_new_line() {
        let (_dir, path) = temporary();
        for (before, after) in [("", "x\n"), ("whole\n", "whole\nx\n"), ("cu", "cu\nx\n")] {
            fs::write(&path, before).unwrap();
            file(&path, Existing::Append).unwrap().write_all(b"x\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_file_that_others_truncate_has_no_hole() {
        let (_dir, path) = temporary();
        let mut written = file(&path, Existing::Keep).unwrap();
        written.write_all(&[b'x'; 5000]).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        written.write_all(b"y\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"y\n");
    }

    #[test]
    fn paths_of_own_descriptors_are_not_reopened() {
        let (dir, path) = temporary();
        let own = File::options().append(true).create(true).open(&path).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&own);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(format!("/dev/fd/{number}"), &link).unwrap();
        for name in [format!("/dev/fd/{number}").into(), format!("/proc/self/fd/{number}").into(), link] {
            assert_eq!(own_descriptor(&name), Some(number), "{}", name.display());
        }
        assert_eq!(own_descriptor(Path::new("/dev/stdout")), Some(1));
        for other in ["/dev/null", "file", "/", "..", "/proc/1/fd/1", "/nonexistent/x"] {
            assert_eq!(own_descriptor(Path::new(other)), None, "{other}");
        }
        assert_eq!(own_descriptor(&path), None);
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&socket));
        file(Path::new(&name), Existing::Keep).unwrap().write_all(b"x").unwrap();
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let read_only = File::open("/dev/null").unwrap();
        let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read_only));
        assert!(file(Path::new(&name), Existing::Keep).unwrap_err().to_string().contains("reading only"));
    }

    #[test]
    fn a_socket_is_connected_to() {
        let (_dir, path) = temporary();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut output = file(&path, Existing::Keep).unwrap();
        output.write_all(b"x").unwrap();
        drop(output);
        let mut taken = String::new();
        listener.accept().unwrap().0.read_to_string(&mut taken).unwrap();
        assert_eq!(taken, "x");
    }
}
