//! Decodes the output of the kernel's iterator: one record for each running process.

use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::record as raw;

use super::decode::{self, DecodeError};
use super::text::Text;

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The fixed part.
    pub raw: raw::Running,
    /// Path of the executable.
    pub exe: Option<Text>,
    /// Working directory.
    pub cwd: Option<Text>,
}

impl Running {
    /// Returns its pid in each pid namespace, outermost first, if it is in a nested one.
    pub fn ns_pids(&self) -> Option<&[u32]> {
        let level = self.raw.ns_level as usize;
        (level != 0).then(|| self.raw.ns_pids.get(..=level)).flatten()
    }
}

/// Decodes the first record and removes it from `records`. It never panics, like [`decode::decode`].
pub fn take(records: &mut &[u8]) -> Result<Running, DecodeError> {
    let (header, _) = decode::fixed::<raw::Header>(records)?;
    let length = DecodeError::Length { len: header.len, have: records.len() };
    let (bytes, rest) = records.split_at_checked(header.len as usize).ok_or(length)?;
    *records = rest;
    let (record, paths): (raw::Running, _) = decode::fixed(bytes)?;
    if record.ns_level as usize > MAX_NS_LEVEL {
        return Err(DecodeError::NsLevel { level: record.ns_level });
    }
    let paths = decode::variable(header.kind, paths, usize::from(record.exe_len) + usize::from(record.cwd_len))?;
    let (exe, cwd) = paths.split_at(record.exe_len.into());
    let (exe, cwd) = (decode::path(exe, record.exe_state), decode::path(cwd, record.cwd_state));
    Ok(Running { raw: record, exe, cwd })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes: Vec<u8>, len in 0..400u32) {
            let mut bytes = bytes;
            bytes.splice(0..0, len.to_ne_bytes());
            let mut rest = &bytes[..];
            while take(&mut rest).is_ok_and(|running| running.raw.header.len != 0) {}
        }
    }

    #[test]
    fn a_record_is_decoded_completely() {
        let size = size_of::<raw::Running>();
        let mut bytes = vec![0_u8; size];
        let len = (size + 12) as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&raw::KIND_RUNNING.to_ne_bytes());
        let ends = std::mem::offset_of!(raw::Running, exe_len);
        bytes[ends..ends + 4].copy_from_slice(&[[8_u16.to_ne_bytes()], [4_u16.to_ne_bytes()]].concat().concat());
        let level = std::mem::offset_of!(raw::Running, ns_level);
        bytes[level..level + 12].copy_from_slice(&[1_u32, 70, 7].map(u32::to_ne_bytes).concat());
        bytes.extend(b"sh\0\0bin\0tmp\0");
        bytes.splice(size..size + 8, *b"sh\0xbin\0");
        let mut rest = &bytes[..];
        let running = take(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(running.ns_pids(), Some(&[70, 7][..]));
        assert_eq!(running.exe.map(|exe| exe.lossy), Some("/xbin/sh".into()));
        assert_eq!(running.cwd.map(|cwd| cwd.lossy), Some("/tmp".into()));
    }
}
