//! Decoded records back into the bytes of the ring: what the kernel side would have written.

use bytes::BufMut;
use tracer::record::{Cgroup, Exec, ExecFailed, Fork, Record};
use tracer_common::record as raw;

/// The variable part of an exec, as it lies in the ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    /// Components, innermost first.
    pub(crate) exe: Vec<Vec<u8>>,
    pub(crate) cwd: Vec<Vec<u8>>,
    pub(crate) filename: Vec<u8>,
    pub(crate) interpreter: Vec<u8>,
    pub(crate) argv: Vec<Vec<u8>>,
}

/// Bytes of a record; what an exec's strings were is told apart, since decoding turns the paths round.
pub(crate) fn encode(record: &Record, strings: &Strings) -> Vec<u8> {
    match record {
        Record::Fork(fork) => encode_fork(fork),
        Record::Exec(exec) => encode_exec(exec, strings),
        Record::Exit(exit) => encode_exit(exit),
        Record::Signal(signal) => encode_signal(signal),
        Record::ExecFailed(failed) => encode_exec_failed(failed, strings),
        Record::Cgroup(cgroup) => encode_cgroup(cgroup),
        Record::Reap(reap) => encode_reap(reap),
        Record::Unknown(header) => {
            let mut out = Vec::new();
            put_header(&mut out, header);
            finish(out)
        }
        _ => unreachable!("no other records yet"),
    }
}

fn encode_fork(fork: &Fork) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, &fork.raw.header);
    put_task(&mut out, fork.raw.child);
    put_task(&mut out, fork.raw.parent);
    put_task(&mut out, fork.raw.creator);
    put_ids(&mut out, &fork.raw.ids);
    out.put_slice(&fork.raw.comm);
    out.put_u32_ne(fork.raw.flags);
    out.put_u32_ne(fork.raw.ns_level);
    assert_eq!(out.len(), size_of::<raw::Fork>());
    for &pid in fork.ns_pids.iter().flat_map(|pids| pids.iter()) {
        out.put_u32_ne(pid);
    }
    finish(out)
}

fn encode_exec(exec: &Exec, strings: &Strings) -> Vec<u8> {
    let each_with_nul =
        |parts: &[Vec<u8>]| parts.iter().flat_map(|part| part.iter().copied().chain([0])).collect::<Vec<u8>>();
    let with_nul = |part: &[u8]| if part.is_empty() { Vec::new() } else { [part, b"\0"].concat() };
    let raw = &exec.raw;
    let parts = [
        each_with_nul(&strings.exe),
        each_with_nul(&strings.cwd),
        with_nul(&strings.filename),
        with_nul(&strings.interpreter),
    ];
    let argv = each_with_nul(&strings.argv);
    let mut out = Vec::new();
    put_header(&mut out, &raw.header);
    put_task(&mut out, raw.task);
    put_task(&mut out, raw.parent);
    put_ids(&mut out, &raw.ids);
    out.put_u32_ne(raw.old_euid);
    out.put_u32_ne(raw.old_egid);
    out.put_slice(&raw.comm);
    out.put_u32_ne(raw.flags);
    out.put_u32_ne(raw.argc);
    out.put_u32_ne(raw.argv_bytes);
    out.put_u32_ne(argv.len() as u32);
    for part in &parts {
        out.put_u16_ne(part.len() as u16);
    }
    let states = [raw.exe_state, raw.cwd_state, raw.filename_state, raw.interp_state, raw.argv_state];
    out.put_slice(&states);
    out.put_slice(&raw.pad);
    assert_eq!(out.len(), size_of::<raw::Exec>());
    for part in parts {
        out.put_slice(&part);
    }
    out.put_slice(&argv);
    finish(out)
}

fn encode_exec_failed(failed: &ExecFailed, strings: &Strings) -> Vec<u8> {
    let raw = &failed.raw;
    let filename = if strings.filename.is_empty() { Vec::new() } else { [&strings.filename[..], b"\0"].concat() };
    let argv: Vec<u8> = strings.argv.iter().flat_map(|part| part.iter().copied().chain([0])).collect();
    let mut out = Vec::new();
    put_header(&mut out, &raw.header);
    put_task(&mut out, raw.task);
    put_task(&mut out, raw.parent);
    for n in [raw.uid, raw.gid, raw.euid, raw.egid, raw.errno] {
        out.put_u32_ne(n);
    }
    out.put_i32_ne(raw.dirfd);
    out.put_u32_ne(raw.at_flags);
    out.put_u32_ne(raw.argc);
    out.put_u32_ne(argv.len() as u32);
    out.put_u16_ne(filename.len() as u16);
    out.put_slice(&[raw.filename_state, raw.argv_state]);
    assert_eq!(out.len(), size_of::<raw::ExecFailed>());
    out.put_slice(&filename);
    out.put_slice(&argv);
    finish(out)
}

fn encode_exit(exit: &raw::Exit) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, &exit.header);
    put_task(&mut out, exit.task);
    put_task(&mut out, exit.parent);
    put_task(&mut out, exit.reaper);
    put_ids(&mut out, &exit.ids);
    out.put_slice(&exit.comm);
    out.put_u32_ne(exit.status);
    out.put_u32_ne(exit.flags);
    let u = &exit.usage;
    for n in [
        u.utime,
        u.stime,
        u.runtime,
        u.prev_utime,
        u.prev_stime,
        u.cutime,
        u.cstime,
        u.maxrss_pages,
        u.cmaxrss_pages,
        u.minflt,
        u.majflt,
        u.cminflt,
        u.cmajflt,
        u.nvcsw,
        u.nivcsw,
        u.cnvcsw,
        u.cnivcsw,
        u.read_bytes,
        u.write_bytes,
        exit.exec_start,
        exit.rq_clock_task,
    ] {
        out.put_u64_ne(n);
    }
    assert_eq!(out.len(), size_of::<raw::Exit>());
    finish(out)
}

fn encode_signal(signal: &raw::Signal) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, &signal.header);
    put_task(&mut out, signal.target);
    put_task(&mut out, signal.sender);
    out.put_slice(&signal.sender_comm);
    out.put_u32_ne(signal.signal);
    out.put_i32_ne(signal.code);
    out.put_u32_ne(signal.flags);
    out.put_u32_ne(signal.sender_uid);
    assert_eq!(out.len(), size_of::<raw::Signal>());
    finish(out)
}

fn encode_cgroup(cgroup: &Cgroup) -> Vec<u8> {
    let Cgroup { raw, path } = cgroup;
    let mut out = Vec::new();
    put_header(&mut out, &raw.header);
    out.put_u64_ne(raw.id);
    put_task(&mut out, raw.task);
    out.put_u32_ne(raw.deed);
    out.put_u32_ne(raw.path_len);
    assert_eq!(out.len(), size_of::<raw::Cgroup>());
    out.put_slice(path.as_bytes());
    out.put_u8(0);
    finish(out)
}

fn encode_reap(reap: &raw::Reap) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, &reap.header);
    put_task(&mut out, reap.task);
    put_task(&mut out, reap.parent);
    assert_eq!(out.len(), size_of::<raw::Reap>());
    finish(out)
}

fn put_header(out: &mut Vec<u8>, header: &raw::Header) {
    out.put_u32_ne(header.len);
    out.put_u16_ne(header.kind);
    out.put_u16_ne(header.cpu);
    out.put_u64_ne(header.seq);
    out.put_u64_ne(header.boot_ns);
    out.put_u64_ne(header.rq_clock);
}

fn put_task(out: &mut Vec<u8>, task: raw::TaskRef) {
    out.put_u64_ne(task.start_ns);
    out.put_u32_ne(task.tgid);
    out.put_u32_ne(task.tid);
}

fn put_ids(out: &mut Vec<u8>, ids: &raw::Ids) {
    for id in [ids.uid, ids.gid, ids.euid, ids.egid, ids.loginuid, ids.sid, ids.pgid, ids.tty] {
        out.put_u32_ne(id);
    }
    out.put_u64_ne(ids.cgroup);
    out.put_u32_ne(ids.mnt_ns);
    out.put_u32_ne(ids.pid_ns);
}

/// Sets the length, as whoever submits the record does last.
fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let len = (out.len() as u32).to_ne_bytes();
    out[..4].copy_from_slice(&len);
    out
}
