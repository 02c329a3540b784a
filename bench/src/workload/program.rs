//! The smallest possible program: it exits at once. So a storm of it costs only the kernel's work.
//!
//! It is written as bytes. Any compiled program includes a C library, whose start costs more than everything else.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// `exit(0)`.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// `mov x0, 0; mov x8, 93; svc 0`.
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// Sizes of the ELF header and of one program header (elf(5)).
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
/// The address at which the file is mapped.
const BASE: u64 = 0x0040_0000;

/// Writes the program.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    fs::write(path, bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Returns an ELF file with one segment: itself.
fn bytes() -> Vec<u8> {
    let start = HEADER + PROGRAM_HEADER;
    let size = start + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    // ET_EXEC, machine, EV_CURRENT.
    half(&mut file, 2);
    half(&mut file, MACHINE);
    word(&mut file, 1);
    // Entry, program headers, section headers, flags.
    long(&mut file, BASE + start);
    long(&mut file, HEADER);
    long(&mut file, 0);
    word(&mut file, 0);
    // Size of this header; size and number of program headers; size and number of section headers; index of the
    // names.
    for value in [HEADER as u16, PROGRAM_HEADER as u16, 1, 0, 0, 0] {
        half(&mut file, value);
    }
    // PT_LOAD, PF_R | PF_X.
    word(&mut file, 1);
    word(&mut file, 5);
    // From the file's start to its end; aligned to a page of any machine.
    for value in [0, BASE, BASE, size, size, 0x10000] {
        long(&mut file, value);
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_exits_with_0() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        super::write(&path).unwrap();
        assert!(std::process::Command::new(path).args(["some", "words"]).status().unwrap().success());
    }
}
