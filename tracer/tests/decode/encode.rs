//! Encodes decoded records into the bytes of the ring, as the BPF programs would write them.

use std::mem::offset_of;

use tracer::record::Record;
use tracer_common::record as raw;
use zerocopy::{Immutable, IntoBytes};

/// The variable part of an exec, as in the ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    /// Components, innermost first.
    pub(crate) exe: Vec<Vec<u8>>,
    pub(crate) cwd: Vec<Vec<u8>>,
    pub(crate) filename: Vec<u8>,
    pub(crate) interpreter: Vec<u8>,
    pub(crate) argv: Vec<Vec<u8>>,
}

/// Returns the bytes of a record. The strings of an exec come separately, because decoding reverses the paths.
pub(crate) fn encode(record: &Record, strings: &Strings) -> Vec<u8> {
    let filename = with_nul(&strings.filename);
    let argv = each_with_nul(&strings.argv);
    match record {
        Record::Fork(fork) => {
            let pids: Vec<u8> =
                fork.ns_pids.iter().flat_map(|pids| pids.iter()).flat_map(|pid| pid.to_ne_bytes()).collect();
            record_of(&fork.raw, &[&pids])
        }
        Record::Exec(exec) => {
            let [exe, cwd] = [each_with_nul(&strings.exe), each_with_nul(&strings.cwd)];
            let interpreter = with_nul(&strings.interpreter);
            let raw = raw::Exec {
                exe_len: exe.len() as u16,
                cwd_len: cwd.len() as u16,
                filename_len: filename.len() as u16,
                interp_len: interpreter.len() as u16,
                argv_captured: argv.len() as u32,
                ..exec.raw
            };
            record_of(&raw, &[&exe, &cwd, &filename, &interpreter, &argv])
        }
        Record::Exit(exit) => record_of(&**exit, &[]),
        Record::Signal(signal) => record_of(signal, &[]),
        Record::ExecFailed(failed) => {
            let [filename_len, argv_captured] = [filename.len() as u32, argv.len() as u32];
            let raw = raw::ExecFailed { filename_len: filename_len as u16, argv_captured, ..failed.raw };
            record_of(&raw, &[&filename, &argv])
        }
        Record::Cgroup(cgroup) => record_of(&cgroup.raw, &[cgroup.path.as_bytes(), b"\0"]),
        Record::Reap(reap) => record_of(reap, &[]),
        Record::Unknown(header) => record_of(header, &[]),
        _ => unreachable!("no other records yet"),
    }
}

fn each_with_nul(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.iter().copied().chain([0])).collect()
}

fn with_nul(part: &[u8]) -> Vec<u8> {
    if part.is_empty() { Vec::new() } else { [part, b"\0"].concat() }
}

/// Joins the fixed part and the variable ones, and sets the length last, as when a record is submitted.
fn record_of(fixed: &(impl IntoBytes + Immutable), parts: &[&[u8]]) -> Vec<u8> {
    let mut out = [fixed.as_bytes(), &parts.concat()].concat();
    let len = (out.len() as u32).to_ne_bytes();
    out[offset_of!(raw::Header, len)..][..len.len()].copy_from_slice(&len);
    out
}
