//! Tests the decoder with every kind of record: complete, malformed and random.
#![expect(clippy::format_collect, reason = "a test")]

mod encode;
mod random;

use encode::{Strings, encode};
use tracer::event::{Capture, Image};
use tracer::record::decode::{CUT_ROOT, DecodeError, decode};
use tracer::record::text::{Arguments, Argv, Text};
use tracer::record::{Captured, Cgroup, Exec, ExecFailed, Fork, Record};
use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::record as raw;

fn header(kind: u16) -> raw::Header {
    raw::Header { len: 0, kind, cpu: 3, seq: 5, boot_ns: 7_000_000_011, rq_clock: 13 }
}

fn task(tgid: u32) -> raw::TaskRef {
    raw::TaskRef { start_ns: u64::from(tgid) * 1_000_003, tgid, tid: tgid + 1 }
}

const IDS: raw::Ids = raw::Ids {
    uid: 1000,
    gid: 100,
    euid: 0,
    egid: 1,
    loginuid: raw::ID_UNSET,
    sid: 10,
    pgid: 11,
    tty: 0x880_0001,
    cgroup: 4242,
    mnt_ns: 0xf000_0001,
    pid_ns: 0xf000_0002,
};

fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

fn a_fork(ns_pids: &[u32]) -> Record {
    let raw = raw::Fork {
        header: header(raw::KIND_FORK),
        child: task(20),
        parent: task(21),
        creator: task(22),
        ids: IDS,
        comm: comm("bash"),
        flags: raw::FORK_KTHREAD,
        ns_level: ns_pids.len().saturating_sub(1) as u32,
    };
    Record::Fork(Fork { raw, ns_pids: (!ns_pids.is_empty()).then(|| ns_pids.into()) })
}

fn strings() -> Strings {
    let parts = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    Strings {
        exe: parts(&["dash", "bin", "usr"]),
        cwd: parts(&["me", "home"]),
        filename: b"./run".to_vec(),
        interpreter: b"/bin/sh".to_vec(),
        argv: parts(&["sh", "./run", ""]),
    }
}

fn whole<T>(value: T) -> Captured<T> {
    Captured { value: Some(value), capture: None }
}

#[expect(clippy::unnecessary_wraps, reason = "it fills fields that may be absent")]
fn text(text: &str) -> Option<Text> {
    Some(Text::new(text.as_bytes()))
}

fn an_exec() -> Record {
    let raw = raw::Exec {
        header: header(raw::KIND_EXEC),
        task: task(20),
        parent: task(21),
        ids: IDS,
        old_euid: 5,
        old_egid: 6,
        comm: comm("run"),
        flags: raw::EXEC_DELETED,
        argc: 3,
        argv_bytes: 10,
        argv_captured: 10,
        exe_len: 13,
        cwd_len: 8,
        filename_len: 6,
        interp_len: 8,
        ..raw::Exec::default()
    };
    Record::Exec(Box::new(Exec {
        raw,
        image: Image::new(text("run"), text("/usr/bin/dash"), text("/home/me"), Some(Argv::new(b"sh\0./run\0\0")))
            .into(),
        filename: text("./run"),
        interpreter: text("/bin/sh"),
        exe_capture: None,
        cwd_capture: None,
        argv_capture: None,
    }))
}

fn an_exit() -> Record {
    let mut n = 100;
    let mut next = || {
        n += 1;
        n
    };
    let usage = raw::Usage {
        utime: next(),
        stime: next(),
        runtime: next(),
        prev_utime: next(),
        prev_stime: next(),
        cutime: next(),
        cstime: next(),
        maxrss_pages: next(),
        cmaxrss_pages: next(),
        minflt: next(),
        majflt: next(),
        cminflt: next(),
        cmajflt: next(),
        nvcsw: next(),
        nivcsw: next(),
        cnvcsw: next(),
        cnivcsw: next(),
        read_bytes: next(),
        write_bytes: next(),
    };
    Record::Exit(Box::new(raw::Exit {
        header: header(raw::KIND_EXIT),
        task: task(20),
        parent: task(21),
        reaper: task(1),
        ids: IDS,
        comm: comm("exactly15bytes_"),
        status: 0x8b,
        flags: raw::EXIT_GROUP | raw::EXIT_OOM,
        usage,
        exec_start: next(),
        rq_clock_task: next(),
    }))
}

fn a_signal() -> Record {
    Record::Signal(raw::Signal {
        header: header(raw::KIND_SIGNAL),
        target: task(20),
        sender: task(30),
        sender_comm: comm("kill"),
        signal: 9,
        code: -6,
        flags: raw::SIGNAL_KERNEL,
        sender_uid: 1000,
    })
}

fn a_failed_exec(kind: u16) -> Record {
    let raw = raw::ExecFailed {
        header: header(kind),
        task: task(20),
        parent: task(21),
        uid: 1000,
        gid: 100,
        euid: 0,
        egid: 1,
        errno: 13,
        dirfd: raw::DIRFD_CWD,
        at_flags: 0x1000,
        argc: 3,
        argv_captured: 10,
        filename_len: 6,
        ..raw::ExecFailed::default()
    };
    let argv = whole(Argv::new(b"sh\0./run\0\0"));
    Record::ExecFailed(Box::new(ExecFailed { raw, filename: whole(Text::new(b"./run")), argv }))
}

fn a_cgroup() -> Record {
    let path = "/docker/4711";
    let (deed, path_len) = (raw::CGROUP_MADE, path.len() as u32 + 1);
    let raw = raw::Cgroup { header: header(raw::KIND_CGROUP), id: 4242, task: task(20), action: deed, path_len };
    Record::Cgroup(Cgroup { raw, path: path.into() })
}

fn all_kinds() -> Vec<(&'static str, Record)> {
    vec![
        ("fork", a_fork(&[])),
        ("nested fork", a_fork(&[20, 4, 1])),
        ("exec", an_exec()),
        ("exit", an_exit()),
        ("signal", a_signal()),
        ("failed execve", a_failed_exec(raw::KIND_EXEC_FAILED)),
        ("failed execveat", a_failed_exec(raw::KIND_EXECAT_FAILED)),
        ("cgroup", a_cgroup()),
        ("reap", Record::Reap(raw::Reap { header: header(raw::KIND_REAP), task: task(20), parent: task(1) })),
        ("unknown", Record::Unknown(header(99))),
    ]
}

/// Returns the same record with the length that encoding gives it.
fn with_len(mut record: Record, len: usize) -> Record {
    let header = match &mut record {
        Record::Fork(fork) => &mut fork.raw.header,
        Record::Exec(exec) => &mut exec.raw.header,
        Record::Exit(exit) => &mut exit.header,
        Record::Signal(signal) => &mut signal.header,
        Record::ExecFailed(failed) => &mut failed.raw.header,
        Record::Cgroup(cgroup) => &mut cgroup.raw.header,
        Record::Reap(reap) => &mut reap.header,
        Record::Unknown(header) => header,
        _ => unreachable!("no other records yet"),
    };
    header.len = len as u32;
    record
}

#[test]
fn every_kind_is_decoded_as_encoded() {
    for (name, record) in all_kinds() {
        let bytes = encode(&record, &strings());
        assert_eq!(decode(&bytes), Ok(with_len(record, bytes.len())), "{name}");
    }
}

#[test]
fn bytes_beyond_the_length_are_ignored() {
    for (name, record) in all_kinds() {
        let mut bytes = encode(&record, &strings());
        let expected = decode(&bytes);
        bytes.extend([0xa5; 1000]);
        assert_eq!(decode(&bytes), expected, "{name}");
    }
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    for (name, record) in all_kinds() {
        let bytes = encode(&record, &strings());
        for end in 0..bytes.len() {
            // Fewer bytes than its length ...
            let error = decode(&bytes[..end]).unwrap_err();
            if end >= size_of::<raw::Header>() {
                assert_eq!(error, DecodeError::Length { len: bytes.len() as u32, have: end }, "{name}");
            } else {
                assert!(matches!(error, DecodeError::Short { .. }), "{name}: {error}");
            }
            // ... and as many as its length, but fewer than it needs.
            let mut short = bytes[..end].to_vec();
            if end >= 4 {
                short[..4].copy_from_slice(&(end as u32).to_ne_bytes());
            }
            assert!(decode(&short).is_err(), "{name} cut to {end} bytes");
        }
    }
}

#[test]
fn an_impossible_length_is_an_error() {
    for len in [0, 1, 31, 97, u32::MAX] {
        let mut bytes = encode(&a_signal(), &strings());
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Length { len, have: 96 }));
    }
}

#[test]
fn empty_input_is_an_error() {
    assert_eq!(decode(&[]), Err(DecodeError::Short { wanted: size_of::<raw::Header>(), have: 0 }));
}

#[test]
fn variable_parts_longer_than_the_record_are_an_error() {
    let bytes = encode(&an_exec(), &strings());
    let have = bytes.len() - size_of::<raw::Exec>();
    // argv_captured, then the four lengths.
    for (at, size) in [(148, 4), (152, 2), (154, 2), (156, 2), (158, 2)] {
        let mut bytes = bytes.clone();
        bytes[at..at + size].copy_from_slice(&u32::MAX.to_ne_bytes()[..size]);
        let error = decode(&bytes).unwrap_err();
        let DecodeError::Variable { kind: raw::KIND_EXEC, announced, have: stated } = error else {
            panic!("{error}");
        };
        assert_eq!(stated, have);
        assert!(announced > have);
    }
}

#[test]
fn strings_of_a_failed_exec_longer_than_the_record_are_an_error() {
    let bytes = encode(&a_failed_exec(raw::KIND_EXEC_FAILED), &strings());
    let have = bytes.len() - size_of::<raw::ExecFailed>();
    // argv_captured, then filename_len.
    for (at, size) in [(96, 4), (100, 2)] {
        let mut bytes = bytes.clone();
        bytes[at..at + size].copy_from_slice(&u32::MAX.to_ne_bytes()[..size]);
        let error = decode(&bytes).unwrap_err();
        let DecodeError::Variable { kind: raw::KIND_EXEC_FAILED, announced, have: stated } = error else {
            panic!("{error}");
        };
        assert!(stated == have && announced > have);
    }
}

#[test]
fn unreadable_parts_of_a_failed_exec_are_none() {
    let Record::ExecFailed(mut failed) = a_failed_exec(raw::KIND_EXECAT_FAILED) else { unreachable!() };
    (failed.raw.filename_state, failed.raw.argv_state) = (raw::FIELD_UNREADABLE, raw::FIELD_UNREADABLE);
    let decoded = decode(&encode(&Record::ExecFailed(failed), &Strings::default())).unwrap();
    let Record::ExecFailed(failed) = decoded else { panic!("{decoded:?}") };
    assert_eq!(failed.filename, Captured { value: None, capture: Some(Capture::Unreadable) });
    assert_eq!(failed.argv, Captured { value: None, capture: Some(Capture::Unreadable) });
}

#[test]
fn a_pid_namespace_deeper_than_the_kernel_has_is_an_error() {
    let deepest: Vec<u32> = (0..=MAX_NS_LEVEL as u32).collect();
    let bytes = encode(&a_fork(&deepest), &strings());
    let Ok(Record::Fork(fork)) = decode(&bytes) else { panic!("the deepest is allowed") };
    assert_eq!(fork.ns_pids.as_deref(), Some(&deepest[..]));
    let deeper: Vec<u32> = (0..=MAX_NS_LEVEL as u32 + 1).collect();
    assert_eq!(decode(&encode(&a_fork(&deeper), &strings())), Err(DecodeError::NsLevel { level: 33 }));
}

#[test]
fn missing_pids_of_namespaces_are_an_error() {
    let mut bytes = encode(&a_fork(&[20, 1]), &strings());
    let len = size_of::<raw::Fork>();
    bytes.truncate(len + 4);
    bytes[..4].copy_from_slice(&(len as u32 + 4).to_ne_bytes());
    assert_eq!(decode(&bytes), Err(DecodeError::Variable { kind: raw::KIND_FORK, announced: 8, have: 4 }));
}

#[test]
fn errors_say_what_is_wrong() {
    let error = decode(&encode(&a_signal(), &strings())[..40]).unwrap_err();
    assert_eq!(error.to_string(), "a record claims 96 bytes, 40 are there");
}

/// Decodes an exec with one of its fields changed.
fn exec_with(strings: &Strings, change: impl FnOnce(&mut raw::Exec)) -> Exec {
    let Record::Exec(mut exec) = an_exec() else { unreachable!() };
    change(&mut exec.raw);
    match decode(&encode(&Record::Exec(exec), strings)) {
        Ok(Record::Exec(exec)) => *exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_are_reversed() {
    let deep: Vec<Vec<u8>> = (0..60).map(|n| format!("component-{n}").into_bytes()).collect();
    let expected: String = deep.iter().rev().map(|part| format!("/{}", String::from_utf8_lossy(part))).collect();
    assert!(expected.len() > 512, "longer than the buffer on the stack");
    for (components, expected) in [
        (vec![], "/"),
        (vec![b"bin".to_vec()], "/bin"),
        (vec![b"b".to_vec(), b"a".to_vec()], "/a/b"),
        (vec![b"memfd:x".to_vec()], "/memfd:x"),
        (vec![vec![b'x'; 510]], &*format!("/{}", "x".repeat(510))),
        (vec![vec![b'x'; 511]], &*format!("/{}", "x".repeat(511))),
        (vec![vec![b'x'; 512]], &*format!("/{}", "x".repeat(512))),
        (deep, &*expected),
    ] {
        let exec = exec_with(&Strings { exe: components, ..strings() }, |_| {});
        assert_eq!(exec.image.exe.as_deref(), Some(expected));
    }
}

/// Decoding caches strings by their bytes. The same bytes with other boundaries or captures are other strings.
#[test]
fn the_same_bytes_with_other_boundaries_are_other_paths() {
    let part = |path: &[u8]| vec![path.to_vec()];
    let exe_and_cwd = |exe: &[&[u8]], cwd: &[&[u8]]| {
        let both = |parts: &[&[u8]]| parts.iter().map(|part| part.to_vec()).collect();
        exec_with(&Strings { exe: both(exe), cwd: both(cwd), ..strings() }, |_| {})
    };
    for _ in 0..4 {
        let (one, other) = (exe_and_cwd(&[b"c", b"b"], &[b"a"]), exe_and_cwd(&[b"c"], &[b"b", b"a"]));
        assert_eq!((one.image.exe.as_deref(), one.image.cwd.as_deref()), (Some("/b/c"), Some("/a")));
        assert_eq!((other.image.exe.as_deref(), other.image.cwd.as_deref()), (Some("/c"), Some("/a/b")));
        let cut = exec_with(&Strings { exe: part(b"c"), ..strings() }, |raw| raw.exe_state = raw::FIELD_CUT);
        assert_eq!((cut.image.exe.as_deref(), cut.exe_capture), (Some("…/c"), Some(Capture::Cut)));
        let whole = exec_with(&Strings { exe: part(b"c"), ..strings() }, |_| {});
        assert_eq!((whole.image.exe.as_deref(), whole.exe_capture), (Some("/c"), None));
    }
}

#[test]
fn the_same_strings_under_another_name_are_another_image() {
    for _ in 0..3 {
        for name in ["run", "run", "runner"] {
            let exec = exec_with(&strings(), |raw| raw.comm = comm(name));
            assert_eq!((exec.image.comm.as_deref(), exec.image.exe.as_deref()), (Some(name), Some("/usr/bin/dash")));
        }
    }
}

#[test]
fn a_path_whose_walk_was_truncated_does_not_look_absolute() {
    let cut = exec_with(&strings(), |raw| raw.exe_state = raw::FIELD_CUT);
    assert_eq!((cut.image.exe.as_deref(), cut.exe_capture), (Some("…/usr/bin/dash"), Some(Capture::Cut)));
    let nothing = exec_with(&Strings { cwd: vec![], ..strings() }, |raw| raw.cwd_state = raw::FIELD_CUT);
    assert_eq!((nothing.image.cwd.as_deref(), nothing.cwd_capture), (Some(CUT_ROOT), Some(Capture::Cut)));
}

#[test]
fn a_field_says_what_is_missing_of_it() {
    for (state, capture) in [
        (raw::FIELD_COMPLETE, None),
        (raw::FIELD_CUT, Some(Capture::Cut)),
        (raw::FIELD_UNREADABLE, Some(Capture::Unreadable)),
        (raw::FIELD_DEGRADED, Some(Capture::Degraded)),
        (200, Some(Capture::Unreadable)),
    ] {
        let exec = exec_with(&strings(), |raw| {
            (raw.exe_state, raw.cwd_state, raw.filename_state) = (state, state, state);
            (raw.interp_state, raw.argv_state) = (state, state);
        });
        assert_eq!([exec.exe_capture, exec.cwd_capture, exec.argv_capture], [capture; 3]);
        assert!(exec.image.argv.is_some() && exec.filename.is_some(), "the captured part is shown");
    }
}

#[test]
fn unreadable_parts_are_none() {
    let exec = exec_with(&Strings::default(), |raw| {
        (raw.exe_state, raw.cwd_state, raw.filename_state) = (2, 2, 2);
        (raw.interp_state, raw.argv_state) = (2, 2);
    });
    assert_eq!(*exec.image, Image::new(text("run"), None, None, None));
    assert_eq!((exec.filename, exec.interpreter), (None, None));
    assert_eq!([exec.exe_capture, exec.cwd_capture, exec.argv_capture], [Some(Capture::Unreadable); 3]);
}

#[test]
fn an_empty_argv_is_an_empty_list() {
    let exec = exec_with(&Strings { argv: vec![], ..strings() }, |raw| raw.argc = 0);
    assert_eq!(exec.image.argv, Some(Arguments::default()));
}

#[test]
fn an_interpreter_that_is_the_file_itself_is_none() {
    let exec = exec_with(&Strings { interpreter: b"./run".to_vec(), ..strings() }, |_| {});
    assert_eq!(exec.interpreter, None);
}

#[test]
fn bytes_that_are_not_utf8_are_kept() {
    let exec = exec_with(
        &Strings { exe: vec![b"\xff".to_vec(), b"d".to_vec()], argv: vec![b"a\xfe".to_vec()], ..strings() },
        |_| {},
    );
    let (exe, argv) = (Text::new(b"/d/\xff"), Argv::new(b"a\xfe\0"));
    assert!(exe.b64.is_some() && argv.b64.is_some());
    assert_eq!(*exec.image, Image::new(text("run"), Some(exe), text("/home/me"), Some(argv)));
}
