//! The descriptors and the environment that this process was started with.
//!
//! The C library and Rust's start-up code open `/dev/null` in place of closed standard descriptors. If a process gains
//! capabilities from its file, the C library also removes variables such as `LD_LIBRARY_PATH` from its environment.

use std::ffi::{CString, c_char};
use std::fs;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

/// Whether standard input, output and error were closed.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Device numbers of `/dev/null` and `/dev/full` (include/uapi/linux/major.h, drivers/char/mem.c).
const NULL: (u32, u32) = (1, 3);
const FULL: (u32, u32) = (1, 7);

/// Returns true if a standard descriptor was closed when this program was started.
pub fn was_closed(descriptor: RawFd) -> bool {
    usize::try_from(descriptor).ok().and_then(|at| CLOSED.get(at)).is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Returns the standard descriptors that were closed when this program was started.
pub fn closed() -> impl Iterator<Item = RawFd> {
    (0..3).filter(|&descriptor| was_closed(descriptor))
}

extern "C" fn note_closed() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        // SAFETY: the call takes integers, and returns an error for a descriptor that is not open.
        let open = unsafe { libc::fcntl(descriptor, libc::F_GETFD) } != -1;
        closed.store(!open || stands_in(descriptor), Ordering::Relaxed);
    }
}

// SAFETY: the C library calls the functions in this section before `main`. This one needs nothing that is created later.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

/// Returns true for a descriptor that glibc opened in place of a closed one of a privileged process.
///
/// It opens `/dev/full` for writing as standard input, and `/dev/null` for reading as an output (csu/check_fds.c). Nothing
/// else has a use for these.
fn stands_in(descriptor: RawFd) -> bool {
    if !is_privileged() {
        return false;
    }
    let (device, mode) = if descriptor == 0 { (FULL, libc::O_WRONLY) } else { (NULL, libc::O_RDONLY) };
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: it writes one `struct stat`, and the buffer has that size.
    if unsafe { libc::fstat(descriptor, stat.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it is written.
    let stat = unsafe { stat.assume_init() };
    // SAFETY: it takes integers.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    let is_device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
    is_device && (libc::major(stat.st_rdev), libc::minor(stat.st_rdev)) == device && flags & libc::O_ACCMODE == mode
}

/// Returns true if this process got privileges from its exec, so that the C library does not trust its environment.
pub fn is_privileged() -> bool {
    // SAFETY: it takes an integer and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Returns the original environment of this process: `NAME=value`, and any other strings in it. `None` if it cannot be read.
///
/// The C library only removes pointers. The strings stay where the kernel put them. `/proc/self/environ` has them too, but
/// belongs to root while a file gives this process capabilities.
pub fn environment() -> Option<Vec<Vec<u8>>> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (start, end) = bounds(&stat)?;
    // SAFETY: the kernel put the strings on the stack of this process, within these bounds (proc_pid_stat(5), env_start and
    // env_end). Nothing here writes there.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
    Some(strings(bytes))
}

/// The original environment of this process, ready for an exec.
pub struct Environment {
    /// Pointers to the strings, and a null pointer at the end.
    pointers: Vec<*const c_char>,
    /// The owner of the strings.
    _strings: Vec<CString>,
}

// SAFETY: the pointers point to strings that the value owns, and nothing changes these.
unsafe impl Send for Environment {}
// SAFETY: as above.
unsafe impl Sync for Environment {}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

impl Environment {
    /// Returns the original environment, if the C library may have removed variables.
    pub fn if_changed() -> Option<Self> {
        if !is_privileged() {
            return None;
        }
        let strings: Vec<CString> = environment()?.into_iter().filter_map(|string| CString::new(string).ok()).collect();
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Some(Self { pointers, _strings: strings })
    }

    /// Makes it the environment of this process.
    ///
    /// # Safety
    ///
    /// No other thread may use the environment. The value must live until the process ends or execs.
    pub unsafe fn install(&self) {
        // SAFETY: the caller guarantees that nothing else reads or writes it now.
        unsafe { environ = self.pointers.as_ptr() };
    }
}

/// Parses `env_start` and `env_end`, the fields 50 and 51. They are 0 for a process that may not read them.
fn bounds(stat: &str) -> Option<(usize, usize)> {
    // The comm may contain any character. The third field follows it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(50 - 3).map_while(|field| field.parse::<usize>().ok());
    let (start, end) = (fields.next()?, fields.next()?);
    (start != 0 && start <= end).then_some((start, end))
}

/// Splits strings that each end with a NUL.
fn strings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_the_one_that_proc_shows() {
        let shown = fs::read("/proc/self/environ").unwrap();
        assert_eq!(environment().unwrap(), strings(&shown));
        assert!(environment().unwrap().iter().any(|variable| variable.starts_with(b"PATH=")));
    }

    #[test]
    fn unusual_environments_are_read_unchanged() {
        assert!(strings(b"").is_empty() && strings(b"\0").is_empty());
        assert_eq!(strings(b"A=1\0odd\0\0A=2\0"), [&b"A=1"[..], b"odd", b"", b"A=2"]);
        let fields = (4..50).map(|_| "1").collect::<Vec<_>>().join(" ");
        assert_eq!(bounds(&format!("1 (a ) b) S {fields} 100 200 0")), Some((100, 200)));
        assert_eq!(bounds(&format!("1 (a) S {fields} 0 0 0")), None);
        assert_eq!(bounds("1 (a) S 1"), None);
    }

    #[test]
    fn open_descriptors_are_not_closed() {
        // The test runner opens all three.
        assert_eq!(closed().count(), 0);
        assert!(!was_closed(3) && !was_closed(-1) && !is_privileged());
    }
}
