//! Arguments in pages that are not resident at the time of the exec.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::libc;
use serde_json::{Value, json};

use super::Deed;
use super::kit;
use super::report::{Stage, base64};
use crate::support::{Ident, Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[("exec-not-resident", works), ("exec-failed-not-resident", fails)];

/// Which pages of a file are in memory.
struct Whereabouts {
    /// Number of pages in memory, by `mincore`.
    resident: usize,
    /// Number of pages that this process can read without a fault, by `/proc/self/pagemap`.
    mapped: usize,
    pages: usize,
}

impl Whereabouts {
    fn facts(&self) -> Value {
        json!({ "resident": self.resident, "mapped": self.mapped, "pages": self.pages })
    }
}

/// A list of arguments in a private mapping of a file that is only on disk: it was never read.
struct List {
    file: File,
    at: *mut libc::c_void,
    bytes: usize,
    page: usize,
}

impl List {
    /// Pointers on the first page, and strings across page boundaries.
    fn new(path: &Path, argv: &[Vec<u8>]) -> Self {
        // SAFETY: no pointers are involved.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let file = File::options().read(true).write(true).create_new(true).open(path).expect("a new file");
        let strings: Vec<u8> = argv.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect();
        let bytes = (page + strings.len()).next_multiple_of(page);
        file.set_len(bytes as u64).expect("enough space");
        // SAFETY: a separate mapping at any address, which stays until the process exits or execs.
        let at = unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let mut pointers = Vec::new();
        let mut next = at as usize + page;
        for argument in argv {
            pointers.extend(next.to_ne_bytes());
            next += argument.len() + 1;
        }
        pointers.extend(0usize.to_ne_bytes());
        assert!(pointers.len() <= page, "they are on one page");
        file.write_all_at(&pointers, 0).expect("enough space");
        file.write_all_at(&strings, page as u64).expect("enough space");
        let list = Self { file, at, bytes, page };
        list.evict();
        list
    }

    /// Writes it out, and makes the kernel evict it. A file system in memory has no storage to write to: its pages
    /// stay, but are not mapped.
    fn evict(&self) {
        self.file.sync_all().expect("our own file");
        let in_memory = self.is_in_memory();
        kit::until("the pages are evicted", || {
            // SAFETY: advice about our own mapping and file, which was never changed through the mapping.
            unsafe {
                libc::madvise(self.at, self.bytes, libc::MADV_PAGEOUT);
                libc::madvise(self.at, self.bytes, libc::MADV_DONTNEED);
                libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
            }
            let now = self.whereabouts();
            now.mapped == 0 && (in_memory || now.resident == 0)
        });
    }

    /// tmpfs and ramfs (include/uapi/linux/magic.h).
    fn is_in_memory(&self) -> bool {
        let kind = nix::sys::statfs::fstatfs(&self.file).expect("our own file").filesystem_type().0;
        matches!(kind as i64, 0x0102_1994 | 0x8584_58f6)
    }

    fn whereabouts(&self) -> Whereabouts {
        let pages = self.bytes / self.page;
        let mut vector = vec![0u8; pages];
        // SAFETY: mincore writes one byte for each page of the mapping.
        let done = unsafe { libc::mincore(self.at, self.bytes, vector.as_mut_ptr()) };
        assert_eq!(done, 0, "mincore: {}", io::Error::last_os_error());
        let mut entries = vec![0u8; pages * 8];
        let pagemap = File::open("/proc/self/pagemap").expect("/proc is mounted");
        pagemap
            .read_exact_at(&mut entries, (self.at as usize / self.page * 8) as u64)
            .expect("one entry for each page");
        // Bit 63: the page is present (Documentation/admin-guide/mm/pagemap.rst).
        let mapped = entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count();
        Whereabouts { resident: vector.iter().filter(|byte| *byte & 1 != 0).count(), mapped, pages }
    }

    const fn pointers(&self) -> *const *const libc::c_char {
        self.at.cast_const().cast()
    }
}

fn argv() -> Vec<Vec<u8>> {
    vec![
        b"first".to_vec(),
        vec![b'x'; 4093],
        b"--across=a border of pages".to_vec(),
        vec![b'y'; 3000],
        b"last".to_vec(),
    ]
}

/// An exec that succeeds.
fn works(truth: Truth, arguments: &[String]) {
    let file = Path::new(&arguments[0]).join("argv");
    Stage::new(truth).play(|stage| {
        let path = CString::new(this_binary().as_os_str().as_bytes()).expect("no NUL");
        let variable = stage.environment();
        let environment = [variable.as_ptr(), std::ptr::null()];
        let list = List::new(&file, &argv());
        truth.say("pages", list.whereabouts().facts());
        // SAFETY: both lists end with a null pointer and are not moved.
        unsafe { libc::execve(path.as_ptr(), list.pointers(), environment.as_ptr()) };
    });
}

/// Execs that fail before the kernel has read the arguments (on newer kernels), and after it has.
fn fails(truth: Truth, arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    let garbage = place.join("garbage");
    super::exec_failed::file(&garbage, b"\x01\x02 no program", 0o755);
    let child = kit::fork(|| {
        let me = Ident::me();
        for (number, path) in [Path::new("/no/such/program"), &garbage].into_iter().enumerate() {
            let list = List::new(&place.join(format!("argv-{number}")), &argv());
            let before = list.whereabouts();
            let text = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
            let errno = super::exec_failed::call(None, text.as_ptr(), list.pointers(), 0);
            let after = list.whereabouts();
            let argv: Vec<String> = argv().iter().map(|argument| base64(argument)).collect();
            truth.say(
                "tried",
                json!({
                    "pid": me.pid, "start": me.start, "tid": kit::gettid(), "fd": null, "errno": errno,
                    "path": base64(path.as_os_str().as_bytes()), "argv": argv,
                    "before": before.facts(), "after": after.facts(),
                }),
            );
        }
        0
    });
    kit::reap_and_record(truth, "ended", child);
}
