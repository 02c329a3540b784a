//! Decodes bytes of the ring buffer into [`Record`]s. It never panics: an unknown kind is a value, and a short or
//! inconsistent record is a typed error.

use std::mem::offset_of;

use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::record as raw;
use zerocopy::FromBytes;

use crate::event::{Capture, Image};
use crate::record::intern::{self, Strings};
use crate::record::text::{Argv, Text};
use crate::record::{Captured, Cgroup, Exec, ExecFailed, Fork, Record};

/// Stands for the outer directories of a path whose walk was cut short.
///
/// The kernel side walks from the file towards the root, so the *beginning* of such a path is missing. `…/c/d` can be
/// mistaken neither for an absolute path nor for a relative one.
pub const CUT_ROOT: &str = "…";

/// Paths up to this many bytes are assembled on the stack.
const PATH_ON_STACK: usize = 512;

/// Bytes that are not a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part of its kind.
    #[error("short record: {wanted} bytes were expected, {have} are there")]
    Short {
        /// Size of the fixed part.
        wanted: usize,
        /// Available bytes.
        have: usize,
    },
    /// The length in its header is too small for a record, or more than is available.
    #[error("a record claims {len} bytes, {have} are there")]
    Length {
        /// [`raw::Header::len`].
        len: u32,
        /// Available bytes.
        have: usize,
    },
    /// The lengths of its variable parts add up to more than the record has.
    #[error("a record of kind {kind} announces {announced} bytes of variable length, {have} are there")]
    Variable {
        /// [`raw::Header::kind`].
        kind: u16,
        /// Sum of the lengths.
        announced: usize,
        /// Available bytes.
        have: usize,
    },
    /// A pid namespace nested deeper than the kernel allows.
    #[error("pid namespace at level {level}: the kernel stops at {MAX_NS_LEVEL}")]
    NsLevel {
        /// [`raw::Fork::ns_level`].
        level: u32,
    },
}

/// Decodes one record. Bytes beyond [`raw::Header::len`] are ignored: a record that is reserved before its size is
/// known has the size of its class.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (header, _) = fixed::<raw::Header>(bytes)?;
    let length = DecodeError::Length { len: header.len, have: bytes.len() };
    let record = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len)).ok_or(length)?;
    if record.len() < size_of::<raw::Header>() {
        return Err(length);
    }
    match header.kind {
        raw::KIND_FORK => fork(record).map(Record::Fork),
        raw::KIND_EXEC => exec(record).map(|exec| Record::Exec(Box::new(exec))),
        raw::KIND_EXIT => fixed(record).map(|(exit, _)| Record::Exit(Box::new(exit))),
        raw::KIND_SIGNAL => fixed(record).map(|(signal, _)| Record::Signal(signal)),
        raw::KIND_EXEC_FAILED | raw::KIND_EXECAT_FAILED => {
            exec_failed(record).map(|failed| Record::ExecFailed(Box::new(failed)))
        }
        raw::KIND_CGROUP => cgroup(record).map(Record::Cgroup),
        raw::KIND_REAP => fixed(record).map(|(reap, _)| Record::Reap(reap)),
        _ => Ok(Record::Unknown(header)),
    }
}

/// Returns the fixed part of a record, and the bytes after it.
#[inline]
pub(super) fn fixed<T: FromBytes>(record: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(record).map_err(|_| DecodeError::Short { wanted: size_of::<T>(), have: record.len() })
}

/// Returns the first `announced` bytes of the variable part.
#[inline]
pub(super) fn variable(kind: u16, rest: &[u8], announced: usize) -> Result<&[u8], DecodeError> {
    rest.get(..announced).ok_or(DecodeError::Variable { kind, announced, have: rest.len() })
}

fn fork(record: &[u8]) -> Result<Fork, DecodeError> {
    let (raw, rest): (raw::Fork, _) = fixed(record)?;
    let level = raw.ns_level as usize;
    if level == 0 {
        return Ok(Fork { raw, ns_pids: None });
    }
    if level > MAX_NS_LEVEL {
        return Err(DecodeError::NsLevel { level: raw.ns_level });
    }
    let pids = variable(raw.header.kind, rest, (level + 1) * size_of::<u32>())?;
    let (pids, _) = pids.as_chunks();
    Ok(Fork { raw, ns_pids: Some(pids.iter().map(|&pid| u32::from_ne_bytes(pid)).collect()) })
}

fn exec(record: &[u8]) -> Result<Exec, DecodeError> {
    let (raw, rest): (raw::Exec, _) = fixed(record)?;
    let lens = [raw.exe_len, raw.cwd_len, raw.filename_len, raw.interp_len].map(usize::from);
    let paths_len: usize = lens.iter().sum();
    let strings = variable(raw.header.kind, rest, paths_len + raw.argv_captured as usize)?;
    let (mut paths, argv) = strings.split_at(paths_len);
    let [exe, cwd, filename, interp] = lens.map(|len| {
        let (part, after) = paths.split_at(len);
        paths = after;
        part
    });
    // The bytes that determine all strings except the name: lengths, capture states and the strings, the arguments
    // last.
    let source = &record[offset_of!(raw::Exec, exe_len)..size_of::<raw::Exec>() + strings.len()];
    let Strings { image, filename, interpreter } = intern::strings(&raw.comm, source, || {
        let paths = &source[..source.len() - argv.len()];
        let [exe, cwd, filename, interpreter] = intern::paths(paths, || {
            [
                path(exe, raw.exe_state),
                path(cwd, raw.cwd_state),
                string(filename, raw.filename_state).value,
                string(if interp == filename { b"" } else { interp }, raw.interp_state).value,
            ]
        });
        let image = Image::new(Some(intern::padded(&raw.comm)), exe, cwd, arguments(argv, raw.argv_state).value);
        Strings { image: image.into(), filename, interpreter }
    });
    Ok(Exec {
        raw,
        image,
        filename,
        interpreter,
        exe_capture: capture(raw.exe_state),
        cwd_capture: capture(raw.cwd_state),
        argv_capture: capture(raw.argv_state),
    })
}

fn exec_failed(record: &[u8]) -> Result<ExecFailed, DecodeError> {
    let (raw, rest): (raw::ExecFailed, _) = fixed(record)?;
    let strings = variable(raw.header.kind, rest, usize::from(raw.filename_len) + raw.argv_captured as usize)?;
    let (filename, argv) = strings.split_at(raw.filename_len.into());
    Ok(ExecFailed { filename: string(filename, raw.filename_state), argv: arguments(argv, raw.argv_state), raw })
}

fn cgroup(record: &[u8]) -> Result<Cgroup, DecodeError> {
    let (raw, rest): (raw::Cgroup, _) = fixed(record)?;
    let path = variable(raw.header.kind, rest, raw.path_len as usize)?;
    let path = path.split(|&b| b == 0).next().unwrap_or_default();
    Ok(Cgroup { raw, path: String::from_utf8_lossy(path).into() })
}

/// Converts a `FIELD_*` state. An unknown state counts as unreadable.
fn capture(state: u8) -> Option<Capture> {
    match state {
        raw::FIELD_COMPLETE => None,
        raw::FIELD_CUT => Some(Capture::Cut),
        raw::FIELD_DEGRADED => Some(Capture::Degraded),
        _ => Some(Capture::Unreadable),
    }
}

/// Builds a path from its components, innermost first, each terminated by a NUL. No components mean the root.
pub(super) fn path(components: &[u8], state: u8) -> Option<Text> {
    let capture = capture(state);
    let body = components.strip_suffix(b"\0").unwrap_or(components);
    match capture {
        Some(Capture::Unreadable | Capture::Degraded) if body.is_empty() => None,
        // A complete path without components is the root. A cut one has lost everything.
        Some(_) if body.is_empty() => Some(intern::text(CUT_ROOT.as_bytes())),
        None if body.is_empty() => Some(intern::text(b"/")),
        _ if body.len() < PATH_ON_STACK => {
            let mut buffer = [0; PATH_ON_STACK];
            Some(rooted(join(body, &mut buffer), capture))
        }
        _ => Some(rooted(join(body, &mut vec![0; body.len() + 1]), capture)),
    }
}

/// Reverses `c\0b\0a` into `/a/b/c`, written to the end of `buffer`.
fn join<'a>(body: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    let mut start = buffer.len();
    for component in body.split(|&b| b == 0) {
        // Each component takes its length and one byte: `buffer` has one byte more than `body`.
        let Some(at) = start.checked_sub(component.len() + 1) else { break };
        buffer[at] = b'/';
        buffer[at + 1..start].copy_from_slice(component);
        start = at;
    }
    &buffer[start..]
}

fn rooted(path: &[u8], capture: Option<Capture>) -> Text {
    match capture {
        None => intern::text(path),
        Some(_) => intern::text(&[CUT_ROOT.as_bytes(), path].concat()),
    }
}

/// Reads a string that ends with a NUL, unless it was cut.
fn string(bytes: &[u8], state: u8) -> Captured<Text> {
    let body = bytes.split(|&b| b == 0).next().unwrap_or_default();
    Captured { value: (!bytes.is_empty()).then(|| intern::text(body)), capture: capture(state) }
}

/// Reads arguments. No bytes in a readable list mean an empty list.
fn arguments(bytes: &[u8], state: u8) -> Captured<Argv> {
    let capture = capture(state);
    Captured { value: (capture.is_none() || !bytes.is_empty()).then(|| intern::argv(bytes)), capture }
}
