//! Starts a command with a given set of capabilities.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;

/// Numbers of capabilities (include/uapi/linux/capability.h).
pub(crate) const SYS_ADMIN: u32 = 21;
pub(crate) const PERFMON: u32 = 38;
pub(crate) const BPF: u32 = 39;

/// Above the highest number in use.
const LAST: u32 = 63;

/// The arguments of capset(2), version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Makes a command start as `uid` with these capabilities only. Root keeps them because the bounding set holds no
/// others. Other users keep them because they are ambient. Memlock is unlimited, because BPF is charged to it before
/// 5.11.
pub(crate) fn only(command: &mut Command, uid: u32, capabilities: &'static [u32]) {
    // SAFETY: only system calls, which are safe between fork and exec. capset reads a header and two sets, setrlimit
    // reads one rlimit, and the others take integers.
    unsafe {
        command.pre_exec(move || {
            let done = |status: libc::c_long| if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
            let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // This can fail even for root, but only on kernels where BPF no longer needs it.
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all);
            for capability in (0..=LAST).filter(|capability| !capabilities.contains(capability)) {
                // EINVAL for capabilities that this kernel does not have.
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            done(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
            done(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
            done(libc::syscall(libc::SYS_setresgid, uid, uid, uid))?;
            done(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
            let mut sets = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
            for &capability in capabilities {
                let set = &mut sets[capability as usize / 32];
                let bit = 1 << (capability % 32);
                *set = Data {
                    effective: set.effective | bit,
                    permitted: set.permitted | bit,
                    inheritable: set.inheritable | bit,
                };
            }
            let header = Header { version: 0x2008_0522, pid: 0 };
            done(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()))?;
            if uid != 0 {
                for &capability in capabilities {
                    done(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0).into())?;
                }
            }
            Ok(())
        });
    }
}
