//! A process whose memory map is locked for as long as a file system does not answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::support::Truth;

pub(super) const DEEDS: &[(&str, super::Deed)] = &[("blocked-memory", blocked_memory)];

const PAGE: usize = 4096;
/// The one file of [`UnansweredWrites`].
pub(crate) const FILE: &str = "f";

/// Dirties a shared page of a file and unmaps it, in one thread. The kernel writes the page back with the memory map locked.
/// Another thread then waits for that lock.
fn blocked_memory(truth: Truth, arguments: &[String]) {
    let file = fs::OpenOptions::new().read(true).write(true).open(&arguments[0]).expect("the file opens");
    let map = |fd: i32, flags: i32| {
        // SAFETY: the kernel chooses the place, and nothing else refers to it.
        unsafe { libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) }
    };
    let page = map(file.as_raw_fd(), libc::MAP_SHARED);
    assert_ne!(page, libc::MAP_FAILED, "the file can be mapped");
    // SAFETY: the page is mapped and writable.
    unsafe { page.cast::<u8>().write(1) };
    truth.say("mapped", json!({}));
    let page = page.expose_provenance();
    let unmaps = thread::spawn(move || {
        // SAFETY: it is the page from above, which nothing uses any more.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(page), PAGE) };
    });
    thread::sleep(Duration::from_millis(300));
    map(-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    unmaps.join().expect("it does not panic");
}

/// A file system of one file that answers everything but writes. Ends when it is dropped: then the writes fail.
pub(crate) struct UnansweredWrites {
    place: std::path::PathBuf,
    wrote: Arc<AtomicBool>,
    fuse: Option<OwnedFd>,
}

impl UnansweredWrites {
    /// None where the kernel has no FUSE.
    pub(crate) fn mount(place: &Path) -> Option<Self> {
        let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
        mount(Some("unanswered"), place, Some("fuse"), MsFlags::empty(), Some(options.as_str())).ok()?;
        let wrote = Arc::new(AtomicBool::new(false));
        // SAFETY: dup gives a new descriptor, which nothing else owns.
        let own = unsafe { OwnedFd::from_raw_fd(libc::dup(fuse.as_raw_fd())) };
        let seen = wrote.clone();
        thread::spawn(move || serve(fuse, &seen));
        Some(Self { place: place.to_owned(), wrote, fuse: Some(own) })
    }

    /// True once a write waits for an answer.
    pub(crate) fn has_written(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }
}

impl Drop for UnansweredWrites {
    fn drop(&mut self) {
        // A forced end of the connection: the server's read fails, and every request that waits.
        let _ = umount2(&self.place, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        self.fuse = None;
    }
}

/// Opcodes (include/uapi/linux/fuse.h, `fuse_opcode`).
mod op {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// Writes stay in the page cache until the file is unmapped.
const WRITEBACK_CACHE: u32 = 1 << 16;

fn serve(mut fuse: fs::File, wrote: &AtomicBool) {
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = fuse.read(&mut request) {
        // `fuse_in_header`.
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let (opcode, unique, node) = (word(4), request[8..16].to_vec(), word(16));
        let body = &request[40..length.max(40)];
        let times = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let answer = match opcode {
            op::INIT => {
                let flags = word(52) & WRITEBACK_CACHE;
                let mut out = times(&[7, 31, word(48), flags, (12 << 16) | 9, 65536, 1, 16]);
                out.resize(64, 0);
                Ok(out)
            }
            op::LOOKUP if body.split(|&byte| byte == 0).next() == Some(FILE.as_bytes()) => {
                Ok([times(&[2, 0, 0, 0, 100, 0, 100, 0, 0, 0]), attributes(2)].concat())
            }
            op::LOOKUP => Err(libc::ENOENT),
            op::GETATTR | op::SETATTR => Ok([times(&[100, 0, 0, 0]), attributes(node)].concat()),
            op::OPEN | op::OPENDIR => Ok(times(&[1, 0, 0, 0])),
            op::READ => Ok(vec![0; PAGE]),
            op::WRITE => {
                wrote.store(true, Ordering::Relaxed);
                continue;
            }
            op::FORGET | op::BATCH_FORGET | op::INTERRUPT => continue,
            op::RELEASE | op::RELEASEDIR | op::FLUSH | op::FSYNC => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        // `fuse_out_header`.
        let (errno, data) = answer.map_or_else(|errno| (-errno, Vec::new()), |data| (0, data));
        let length = 16 + data.len() as u32;
        let whole = [&length.to_ne_bytes()[..], &errno.to_ne_bytes(), &unique, &data].concat();
        if fuse.write_all(&whole).is_err() {
            return;
        }
    }
}

/// `fuse_attr` of the root (1) or the file.
fn attributes(node: u32) -> Vec<u8> {
    let (mode, size) = if node == 1 { (0o40_755, 0) } else { (0o100_644, PAGE as u32) };
    let words = [node, 0, size, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE as u32, 0];
    words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}
