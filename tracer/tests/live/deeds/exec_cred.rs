//! Execs that change the credentials of a process.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::libc;

use super::Deed;
use super::kit;
use super::report::Stage;
use crate::support::{Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[("cred-exec", cred), ("changing", changing)];

/// A user and group that own nothing.
pub(crate) const NOBODY: u32 = 65534;
/// The group of the setgid program.
pub(crate) const SOME_GROUP: u32 = 54321;

/// File capabilities, effective: CAP_NET_RAW (`struct vfs_cap_data`, include/uapi/linux/capability.h).
fn net_raw() -> Vec<u8> {
    let words = [0x0200_0001u32, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The magic by which binfmt_misc recognizes files.
const MAGIC: &str = "TRACERTEST";

/// An interpreter that binfmt_misc runs for files that begin with [`MAGIC`]. It is opened at registration (flag `F`).
struct Registered {
    entry: PathBuf,
}

impl Registered {
    fn new(directory: &Path, interpreter: &Path, flags: &str) -> Self {
        let mount_point = directory.join("binfmt_misc");
        fs::create_dir(&mount_point).expect("a new directory");
        let path = CString::new(mount_point.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: C strings, and no data.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), PRIVATE, std::ptr::null()) == 0
                && libc::mount(path.as_ptr(), path.as_ptr(), c"binfmt_misc".as_ptr(), 0, std::ptr::null()) == 0
        };
        assert!(mounted, "binfmt_misc: {}", std::io::Error::last_os_error());
        let name = format!("tracer-test-{}", std::process::id());
        let line = format!(":{name}:M::{MAGIC}::{}:{flags}", interpreter.display());
        fs::write(mount_point.join("register"), line).expect("root may register");
        Self { entry: mount_point.join(name) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = fs::write(&self.entry, "-1");
    }
}

const PRIVATE: libc::c_ulong = libc::MS_REC | libc::MS_PRIVATE;

/// Nobody execs a program that is setuid root, setgid, has file capabilities, or is plain. Or a file for which the
/// program is registered as interpreter. It has the credentials of the interpreter, or those of the file, which is
/// setuid root.
fn cred(truth: Truth, arguments: &[String]) {
    let [directory, kind] = arguments else { panic!("DIRECTORY KIND") };
    // A copy: a link would change the original's mode.
    let program = Path::new(directory).join("program");
    fs::copy(this_binary(), &program).expect("a new file");
    let set_mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("our own file");
    set_mode(0o755);
    match kind.as_str() {
        "setuid" => set_mode(0o4755),
        "setgid" => {
            chown(&program, None, Some(SOME_GROUP)).expect("root may");
            set_mode(0o2755);
        }
        "caps" => {
            let (path, value) = (CString::new(program.as_os_str().as_bytes()).expect("no NUL"), net_raw());
            // SAFETY: C strings, and a buffer with its length.
            let done = unsafe {
                libc::setxattr(path.as_ptr(), c"security.capability".as_ptr(), value.as_ptr().cast(), value.len(), 0)
            };
            assert_eq!(done, 0, "setxattr: {}", std::io::Error::last_os_error());
        }
        _ => {}
    }
    let directory = Path::new(directory);
    let file = directory.join("file");
    let registered = match kind.as_str() {
        "registered" => Some(("F", 0o755)),
        "registered-setuid" => Some(("CF", 0o4755)),
        _ => None,
    }
    .map(|(flags, mode)| {
        fs::write(&file, MAGIC).expect("a new file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("our own file");
        Registered::new(directory, &program, flags)
    });
    let path = if registered.is_some() { &file } else { &program };
    Stage::new(truth).play(|stage| {
        // SAFETY: integers only; no supplementary groups remain.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "setgroups");
            assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0, "setresgid");
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0, "setresuid");
        }
        stage.exec(path.as_os_str().as_bytes(), &[b"program"])
    });
}

/// After a line on its standard input, a process changes its name, its arguments and its user. It exits with the
/// input.
fn changing(truth: Truth, _: &[String]) {
    let mut line = String::new();
    println!("ready");
    std::io::stdin().read_line(&mut line).expect("standard input is open");
    kit::set_name(b"renamed-now");
    // Like criu: the arguments are elsewhere from now on. This form needs no capability.
    let arguments: &'static [u8] = b"changed-argv\0one\0".to_vec().leak();
    let map = map_with_arguments(arguments);
    // SAFETY: the structure is as large as its size says, and the arguments are never freed.
    unsafe {
        let what = libc::PR_SET_MM_MAP as libc::c_ulong;
        let done = libc::prctl(libc::PR_SET_MM, what, &raw const map, size_of_val(&map), 0 as libc::c_ulong);
        assert_eq!(done, 0, "PR_SET_MM_MAP: {}", std::io::Error::last_os_error());
        assert_eq!(libc::setresuid(1234, 1234, 1234), 0, "setresuid");
    }
    truth.say("changed", serde_json::json!({ "pid": std::process::id() }));
    std::io::stdin().read_line(&mut line).expect("standard input is open");
}

/// Returns the memory layout of this process (fields 26 to 51 of `/proc/PID/stat`, proc_pid_stat(5)), with other
/// arguments.
fn map_with_arguments(arguments: &[u8]) -> MemoryMap {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is there");
    let after_comm = stat.rsplit_once(')').expect("a name in brackets").1;
    let fields: Vec<u64> = after_comm.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // The first field after the name is field 3.
    let field = |nr: usize| fields[nr - 3];
    // SAFETY: sbrk(0) only reads.
    let brk = unsafe { libc::sbrk(0) } as u64;
    let from = arguments.as_ptr() as u64;
    MemoryMap {
        start_code: field(26),
        end_code: field(27),
        start_data: field(45),
        end_data: field(46),
        start_brk: field(47),
        brk,
        start_stack: field(28),
        arg_start: from,
        arg_end: from + arguments.len() as u64,
        env_start: field(50),
        env_end: field(51),
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    }
}

/// `struct prctl_mm_map` of include/uapi/linux/prctl.h.
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}
