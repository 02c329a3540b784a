//! Reads the BTF of the running kernel, and checks that a given file is of the same kernel.
//!
//! Programs with offsets of another kernel may load: the verifier only checks that a member of the right size begins there.
//! So a file is compared with the kernel's own BTF before anything is loaded.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::libc;

use super::btf::{Btf, BtfError, VMLINUX};
use super::hook::hooks;

/// Returns the types of the running kernel. A given file must be of the same kernel.
pub fn load(file: Option<&Path>) -> Result<Btf, BtfError> {
    let own = || Btf::parse(read()?);
    let Some(path) = file else { return own() };
    let given = Btf::load(path)?;
    let own = own().map_err(|source| BtfError::Unchecked { path: path.into(), source: Box::new(source) })?;
    match difference(&own, &given) {
        None => Ok(own),
        Some(what) => Err(BtfError::Foreign { path: path.into(), what }),
    }
}

/// Returns the first member or tracepoint that tracer uses and that differs.
fn difference(own: &Btf, given: &Btf) -> Option<String> {
    use tracer_common::offsets::Offsets;
    let member = Offsets::MEMBERS.iter().find(|member| own.offset(member) != given.offset(member));
    let differs = |name: &&str| own.tracepoint_arguments(name) != given.tracepoint_arguments(name);
    let mut tracepoints = hooks(own).into_iter().map(|hook| hook.tracepoint);
    member
        .map(|member| format!("{}.{}", member.of, member.path))
        .or_else(|| tracepoints.find(differs).map(|name| format!("tracepoint {name}")))
}

/// Reads BTF from sysfs, or by bpf(2) if sysfs is not mounted.
fn read() -> Result<Vec<u8>, BtfError> {
    fs::read(VMLINUX).or_else(|source| by_id().map_err(|_| BtfError::Read { path: VMLINUX.into(), source }))
}

const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_BTF_GET_FD_BY_ID: libc::c_long = 19;
const BPF_BTF_GET_NEXT_ID: libc::c_long = 23;

/// `struct bpf_btf_info`: <https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/linux/bpf.h>
#[repr(C)]
#[derive(Default)]
struct Info {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

/// Finds the kernel's BTF among all loaded BTF (listed since 5.11, needs `CAP_SYS_ADMIN`).
fn by_id() -> io::Result<Vec<u8>> {
    /// The kernel's BTF is usually the first: it is loaded at boot.
    const TRIES: usize = 64;
    let mut id = 0;
    for _ in 0..TRIES {
        let mut next = [id, 0, 0];
        bpf(BPF_BTF_GET_NEXT_ID, &mut next)?;
        id = next[1];
        let fd = bpf(BPF_BTF_GET_FD_BY_ID, &mut [id, 0, 0])?;
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut name = [0_u8; 16];
        let mut info = Info { name: name.as_mut_ptr() as u64, name_len: name.len() as u32, ..Info::default() };
        describe(&fd, &mut info)?;
        if info.kernel_btf == 0 || !name.starts_with(b"vmlinux\0") {
            continue;
        }
        let mut data = vec![0_u8; info.btf_size as usize];
        let mut info = Info { btf: data.as_mut_ptr() as u64, btf_size: info.btf_size, ..Info::default() };
        describe(&fd, &mut info)?;
        return Ok(data);
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Queries BTF. The kernel fills the buffers that `info` points to, up to the lengths in it.
fn describe(fd: &OwnedFd, info: &mut Info) -> io::Result<()> {
    let at = std::ptr::from_mut(info) as u64;
    // `bpf_fd`, `info_len`, and `info` in two halves.
    let halves: [u32; 2] = words(at);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut [fd.as_raw_fd() as u32, size_of::<Info>() as u32, halves[0], halves[1]]).map(drop)
}

/// Returns the two words of a number in memory order.
fn words(number: u64) -> [u32; 2] {
    let bytes = number.to_ne_bytes();
    [0, 4].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn bpf<const N: usize>(command: libc::c_long, attributes: &mut [u32; N]) -> io::Result<i32> {
    // SAFETY: `attributes` has the given length, and the buffers that it points to (in `describe`) outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<[u32; N]>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
