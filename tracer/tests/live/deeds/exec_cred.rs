//! Execs that change who a process is.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use nix::libc;

use super::Deed;
use super::report::Stage;
use crate::support::{Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[("cred-exec", cred)];

/// A user and group that own nothing.
pub(crate) const NOBODY: u32 = 65534;
/// A group that the setgid program belongs to.
pub(crate) const SOME_GROUP: u32 = 54321;

/// File capabilities, effective: CAP_NET_RAW (`struct vfs_cap_data`, include/uapi/linux/capability.h).
fn net_raw() -> Vec<u8> {
    let words = [0x0200_0001u32, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Nobody execs a program that is setuid root, setgid, has file capabilities, or is plain.
fn cred(truth: Truth, arguments: &[String]) {
    let [directory, kind] = arguments else { panic!("DIRECTORY KIND") };
    // A copy: a link would change the original's mode.
    let program = Path::new(directory).join("program");
    fs::copy(this_binary(), &program).expect("a new file");
    let set_mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("a file of ours");
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
    Stage::new(truth).play(|stage| {
        // SAFETY: integers; no supplementary groups stay.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "setgroups");
            assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0, "setresgid");
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0, "setresuid");
        }
        stage.exec(program.as_os_str().as_bytes(), &[b"program"])
    });
}
