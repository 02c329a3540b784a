//! Bytes of the ring buffer into [`Record`]s. Total: an unknown kind is a value, a short or
//! inconsistent record is a typed error, and nothing panics.

use std::mem::offset_of;

use bytes::{Buf, TryGetError};
use tracer_common::limits::{COMM_LEN, MAX_NS_LEVEL};
use tracer_common::record as raw;

use crate::event::{Capture, Image};
use crate::record::intern::{self, Strings};
use crate::record::text::{Argv, Text};
use crate::record::{Cgroup, Exec, ExecFailed, Field, Fork, Record};

/// What stands for the outer directories of a path whose walk was cut short.
///
/// The kernel side walks from the file towards the root, so it is the *beginning* of such a path that
/// is missing: `…/c/d` can be neither taken for an absolute path nor for one relative to anything.
pub const CUT_ROOT: &str = "…";

/// Paths up to this many bytes are put together on the stack.
const PATH_ON_STACK: usize = 512;

/// Bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part of its kind has.
    #[error("short record: {wanted} more bytes were expected, {have} are there")]
    Short {
        /// Bytes the next field takes.
        wanted: usize,
        /// Bytes left.
        have: usize,
    },
    /// The length it claims is not that of a record, or is more than there is.
    #[error("a record claims {len} bytes, {have} are there")]
    Length {
        /// [`raw::Header::len`].
        len: u32,
        /// Bytes there are.
        have: usize,
    },
    /// The lengths of its variable parts add up to more than the record has.
    #[error("a record of kind {kind} announces {announced} bytes of variable length, {have} are there")]
    Variable {
        /// [`raw::Header::kind`].
        kind: u16,
        /// Sum of the lengths.
        announced: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A pid namespace nested deeper than the kernel allows.
    #[error("pid namespace at level {level}: the kernel stops at {MAX_NS_LEVEL}")]
    NsLevel {
        /// [`raw::Fork::ns_level`].
        level: u32,
    },
}

impl From<TryGetError> for DecodeError {
    fn from(error: TryGetError) -> Self {
        Self::Short { wanted: error.requested, have: error.available }
    }
}

/// Decodes one record. Bytes beyond [`raw::Header::len`] are ignored: a record that was reserved before its
/// size was known has the size of its class.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let have = bytes.len();
    let header = header(&mut &*bytes)?;
    let record = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
    let mut buf = record
        .and_then(|record| record.get(size_of::<raw::Header>()..))
        .ok_or(DecodeError::Length { len: header.len, have })?;
    match header.kind {
        raw::KIND_FORK => fork(header, &mut buf).map(Record::Fork),
        raw::KIND_EXEC => exec(header, &mut buf),
        raw::KIND_EXIT => exit(header, &mut buf).map(|exit| Record::Exit(Box::new(exit))),
        raw::KIND_SIGNAL => signal(header, &mut buf).map(Record::Signal),
        raw::KIND_EXEC_FAILED | raw::KIND_EXECAT_FAILED => {
            exec_failed(header, &mut buf).map(|failed| Record::ExecFailed(Box::new(failed)))
        }
        raw::KIND_CGROUP => cgroup(header, &mut buf).map(Record::Cgroup),
        raw::KIND_REAP => reap(header, &mut buf).map(Record::Reap),
        _ => Ok(Record::Unknown(header)),
    }
}

#[inline]
pub(super) fn header(buf: &mut &[u8]) -> Result<raw::Header, DecodeError> {
    Ok(raw::Header {
        len: buf.try_get_u32_ne()?,
        kind: buf.try_get_u16_ne()?,
        cpu: buf.try_get_u16_ne()?,
        seq: buf.try_get_u64_ne()?,
        boot_ns: buf.try_get_u64_ne()?,
        rq_clock: buf.try_get_u64_ne()?,
    })
}

#[inline]
pub(super) fn task_ref(buf: &mut &[u8]) -> Result<raw::TaskRef, DecodeError> {
    Ok(raw::TaskRef { start_ns: buf.try_get_u64_ne()?, tgid: buf.try_get_u32_ne()?, tid: buf.try_get_u32_ne()? })
}

#[inline]
pub(super) fn ids(buf: &mut &[u8]) -> Result<raw::Ids, DecodeError> {
    Ok(raw::Ids {
        uid: buf.try_get_u32_ne()?,
        gid: buf.try_get_u32_ne()?,
        euid: buf.try_get_u32_ne()?,
        egid: buf.try_get_u32_ne()?,
        loginuid: buf.try_get_u32_ne()?,
        sid: buf.try_get_u32_ne()?,
        pgid: buf.try_get_u32_ne()?,
        tty: buf.try_get_u32_ne()?,
        cgroup: buf.try_get_u64_ne()?,
        mnt_ns: buf.try_get_u32_ne()?,
        pid_ns: buf.try_get_u32_ne()?,
    })
}

#[inline]
pub(super) fn comm(buf: &mut &[u8]) -> Result<[u8; COMM_LEN], DecodeError> {
    let mut comm = [0; COMM_LEN];
    buf.try_copy_to_slice(&mut comm)?;
    Ok(comm)
}

/// Splits off the fixed part of a record, less its header: one check of the length for all its fields.
#[inline]
fn fixed<'a>(buf: &mut &'a [u8], size: usize) -> Result<&'a [u8], DecodeError> {
    let wanted = size - size_of::<raw::Header>();
    let (fixed, rest) = buf.split_at_checked(wanted).ok_or(DecodeError::Short { wanted, have: buf.len() })?;
    *buf = rest;
    Ok(fixed)
}

fn fork(header: raw::Header, rest: &mut &[u8]) -> Result<Fork, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::Fork>())?;
    let raw = raw::Fork {
        header,
        child: task_ref(buf)?,
        parent: task_ref(buf)?,
        creator: task_ref(buf)?,
        ids: ids(buf)?,
        comm: comm(buf)?,
        flags: buf.try_get_u32_ne()?,
        ns_level: buf.try_get_u32_ne()?,
    };
    let level = raw.ns_level as usize;
    if level == 0 {
        return Ok(Fork { raw, ns_pids: None });
    }
    if level > MAX_NS_LEVEL {
        return Err(DecodeError::NsLevel { level: raw.ns_level });
    }
    let announced = (level + 1) * size_of::<u32>();
    let pids = rest.get(..announced).ok_or(DecodeError::Variable { kind: header.kind, announced, have: rest.len() })?;
    let ns_pids = pids.chunks_exact(size_of::<u32>()).map(|mut pid| pid.get_u32_ne()).collect();
    Ok(Fork { raw, ns_pids: Some(ns_pids) })
}

fn exec(header: raw::Header, rest: &mut &[u8]) -> Result<Record, DecodeError> {
    let all = *rest;
    let buf = &mut fixed(rest, size_of::<raw::Exec>())?;
    let raw = raw::Exec {
        header,
        task: task_ref(buf)?,
        parent: task_ref(buf)?,
        ids: ids(buf)?,
        old_euid: buf.try_get_u32_ne()?,
        old_egid: buf.try_get_u32_ne()?,
        comm: comm(buf)?,
        flags: buf.try_get_u32_ne()?,
        argc: buf.try_get_u32_ne()?,
        argv_bytes: buf.try_get_u32_ne()?,
        argv_captured: buf.try_get_u32_ne()?,
        exe_len: buf.try_get_u16_ne()?,
        cwd_len: buf.try_get_u16_ne()?,
        filename_len: buf.try_get_u16_ne()?,
        interp_len: buf.try_get_u16_ne()?,
        exe_state: buf.try_get_u8()?,
        cwd_state: buf.try_get_u8()?,
        filename_state: buf.try_get_u8()?,
        interp_state: buf.try_get_u8()?,
        argv_state: buf.try_get_u8()?,
        pad: [buf.try_get_u8()?, buf.try_get_u8()?, buf.try_get_u8()?],
    };
    let lens = [raw.exe_len, raw.cwd_len, raw.filename_len, raw.interp_len].map(usize::from);
    let announced = lens.iter().sum::<usize>() + raw.argv_captured as usize;
    let short = DecodeError::Variable { kind: header.kind, announced, have: rest.len() };
    let mut take = |len: usize| -> Result<&[u8], DecodeError> {
        let (part, after) = rest.split_at_checked(len).ok_or(short)?;
        *rest = after;
        Ok(part)
    };
    let [exe, cwd, filename, interp] = [take(lens[0])?, take(lens[1])?, take(lens[2])?, take(lens[3])?];
    let argv = take(raw.argv_captured as usize)?;
    // All that the strings are made of lies in one piece, but for the name: how long they are, what was captured of each, and
    // they themselves, the arguments last.
    let made_of = &all[offset_of!(raw::Exec, exe_len) - size_of::<raw::Header>()..all.len() - rest.len()];
    let Strings { image, filename, interpreter } = intern::strings(&raw.comm, made_of, || {
        let paths = &made_of[..made_of.len() - argv.len()];
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
    Ok(Record::Exec(Box::new(Exec {
        raw,
        image,
        filename,
        interpreter,
        exe_capture: capture(raw.exe_state),
        cwd_capture: capture(raw.cwd_state),
        argv_capture: capture(raw.argv_state),
    })))
}

fn exec_failed(header: raw::Header, rest: &mut &[u8]) -> Result<ExecFailed, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::ExecFailed>())?;
    let raw = raw::ExecFailed {
        header,
        task: task_ref(buf)?,
        parent: task_ref(buf)?,
        uid: buf.try_get_u32_ne()?,
        gid: buf.try_get_u32_ne()?,
        euid: buf.try_get_u32_ne()?,
        egid: buf.try_get_u32_ne()?,
        errno: buf.try_get_u32_ne()?,
        dirfd: buf.try_get_i32_ne()?,
        at_flags: buf.try_get_u32_ne()?,
        argc: buf.try_get_u32_ne()?,
        argv_captured: buf.try_get_u32_ne()?,
        filename_len: buf.try_get_u16_ne()?,
        filename_state: buf.try_get_u8()?,
        argv_state: buf.try_get_u8()?,
    };
    let announced = usize::from(raw.filename_len) + raw.argv_captured as usize;
    let strings =
        rest.get(..announced).ok_or(DecodeError::Variable { kind: header.kind, announced, have: rest.len() })?;
    let (filename, argv) = strings.split_at(raw.filename_len.into());
    Ok(ExecFailed { filename: string(filename, raw.filename_state), argv: arguments(argv, raw.argv_state), raw })
}

fn exit(header: raw::Header, rest: &mut &[u8]) -> Result<raw::Exit, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::Exit>())?;
    Ok(raw::Exit {
        header,
        task: task_ref(buf)?,
        parent: task_ref(buf)?,
        reaper: task_ref(buf)?,
        ids: ids(buf)?,
        comm: comm(buf)?,
        status: buf.try_get_u32_ne()?,
        flags: buf.try_get_u32_ne()?,
        usage: raw::Usage {
            utime: buf.try_get_u64_ne()?,
            stime: buf.try_get_u64_ne()?,
            runtime: buf.try_get_u64_ne()?,
            prev_utime: buf.try_get_u64_ne()?,
            prev_stime: buf.try_get_u64_ne()?,
            cutime: buf.try_get_u64_ne()?,
            cstime: buf.try_get_u64_ne()?,
            maxrss_pages: buf.try_get_u64_ne()?,
            cmaxrss_pages: buf.try_get_u64_ne()?,
            minflt: buf.try_get_u64_ne()?,
            majflt: buf.try_get_u64_ne()?,
            cminflt: buf.try_get_u64_ne()?,
            cmajflt: buf.try_get_u64_ne()?,
            nvcsw: buf.try_get_u64_ne()?,
            nivcsw: buf.try_get_u64_ne()?,
            cnvcsw: buf.try_get_u64_ne()?,
            cnivcsw: buf.try_get_u64_ne()?,
            read_bytes: buf.try_get_u64_ne()?,
            write_bytes: buf.try_get_u64_ne()?,
        },
        exec_start: buf.try_get_u64_ne()?,
        rq_clock_task: buf.try_get_u64_ne()?,
    })
}

fn signal(header: raw::Header, rest: &mut &[u8]) -> Result<raw::Signal, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::Signal>())?;
    Ok(raw::Signal {
        header,
        target: task_ref(buf)?,
        sender: task_ref(buf)?,
        sender_comm: comm(buf)?,
        signal: buf.try_get_u32_ne()?,
        code: buf.try_get_i32_ne()?,
        flags: buf.try_get_u32_ne()?,
        sender_uid: buf.try_get_u32_ne()?,
    })
}

fn cgroup(header: raw::Header, rest: &mut &[u8]) -> Result<Cgroup, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::Cgroup>())?;
    let raw = raw::Cgroup {
        header,
        id: buf.try_get_u64_ne()?,
        task: task_ref(buf)?,
        deed: buf.try_get_u32_ne()?,
        path_len: buf.try_get_u32_ne()?,
    };
    let announced = raw.path_len as usize;
    let path = rest.get(..announced).ok_or(DecodeError::Variable { kind: header.kind, announced, have: rest.len() })?;
    let path = path.split(|&b| b == 0).next().unwrap_or_default();
    Ok(Cgroup { raw, path: String::from_utf8_lossy(path).into() })
}

fn reap(header: raw::Header, rest: &mut &[u8]) -> Result<raw::Reap, DecodeError> {
    let buf = &mut fixed(rest, size_of::<raw::Reap>())?;
    Ok(raw::Reap { header, task: task_ref(buf)?, parent: task_ref(buf)? })
}

/// What a `FIELD_*` state says. One that this build does not know is taken for the worst.
fn capture(state: u8) -> Option<Capture> {
    match state {
        raw::FIELD_COMPLETE => None,
        raw::FIELD_CUT => Some(Capture::Cut),
        raw::FIELD_DEGRADED => Some(Capture::Degraded),
        _ => Some(Capture::Unreadable),
    }
}

/// A path from its components, innermost first, each ended by a NUL. None at all is the root.
pub(super) fn path(components: &[u8], state: u8) -> Option<Text> {
    let capture = capture(state);
    let body = components.strip_suffix(b"\0").unwrap_or(components);
    match capture {
        Some(Capture::Unreadable | Capture::Degraded) if body.is_empty() => None,
        // Nothing but the name of a whole path is the root; nothing of one that was cut is nothing.
        Some(_) if body.is_empty() => Some(intern::text(CUT_ROOT.as_bytes())),
        None if body.is_empty() => Some(intern::text(b"/")),
        _ if body.len() < PATH_ON_STACK => {
            let mut room = [0; PATH_ON_STACK];
            Some(rooted(join(body, &mut room), capture))
        }
        _ => Some(rooted(join(body, &mut vec![0; body.len() + 1]), capture)),
    }
}

/// Turns `c\0b\0a` round into `/a/b/c`, written into the end of `room`.
fn join<'a>(body: &[u8], room: &'a mut [u8]) -> &'a [u8] {
    let mut start = room.len();
    for component in body.split(|&b| b == 0) {
        // Each component takes its length and one byte: `room` holds one more than `body`.
        let Some(at) = start.checked_sub(component.len() + 1) else { break };
        room[at] = b'/';
        room[at + 1..start].copy_from_slice(component);
        start = at;
    }
    &room[start..]
}

fn rooted(path: &[u8], capture: Option<Capture>) -> Text {
    match capture {
        None => intern::text(path),
        Some(_) => intern::text(&[CUT_ROOT.as_bytes(), path].concat()),
    }
}

/// A string that ends with a NUL, unless it was cut.
fn string(bytes: &[u8], state: u8) -> Field<Text> {
    let body = bytes.split(|&b| b == 0).next().unwrap_or_default();
    Field { value: (!bytes.is_empty()).then(|| intern::text(body)), capture: capture(state) }
}

/// The arguments. No bytes of a list that could be read are an empty list.
fn arguments(bytes: &[u8], state: u8) -> Field<Argv> {
    let capture = capture(state);
    Field { value: (capture.is_none() || !bytes.is_empty()).then(|| intern::argv(bytes)), capture }
}
