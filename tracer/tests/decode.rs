//! The decoder against every kind of record, whole, malformed and random.
#![allow(clippy::unwrap_used, clippy::unreadable_literal, clippy::format_collect, reason = "a test")]

mod encode;

use std::sync::Arc;

use encode::{Strings, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use tracer::decode::{CUT_ROOT, DecodeError, decode};
use tracer::event::Capture;
use tracer::record::{Exec, Field, Fork, Record};
use tracer::text::{Argv, Text};
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

fn whole<T>(value: T) -> Field<T> {
    Field { value: Some(value), capture: None }
}

fn text(text: &str) -> Field<Text> {
    whole(Text::new(text.as_bytes()))
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
        exe: text("/usr/bin/dash"),
        cwd: text("/home/me"),
        filename: text("./run"),
        interpreter: text("/bin/sh"),
        argv: whole(Argv::new(b"sh\0./run\0\0")),
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

fn all_kinds() -> Vec<(&'static str, Record)> {
    vec![
        ("fork", a_fork(&[])),
        ("nested fork", a_fork(&[20, 4, 1])),
        ("exec", an_exec()),
        ("exit", an_exit()),
        ("signal", a_signal()),
        ("unknown", Record::Unknown(header(99))),
    ]
}

/// The same record with the length that encoding gives it.
fn with_len(mut record: Record, len: usize) -> Record {
    let header = match &mut record {
        Record::Fork(fork) => &mut fork.raw.header,
        Record::Exec(exec) => &mut exec.raw.header,
        Record::Exit(exit) => &mut exit.header,
        Record::Signal(signal) => &mut signal.header,
        Record::Unknown(header) => header,
        _ => unreachable!("no other records yet"),
    };
    header.len = len as u32;
    record
}

#[test]
fn every_kind_comes_out_as_it_went_in() {
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
            // Fewer bytes than it says ...
            let error = decode(&bytes[..end]).unwrap_err();
            if end >= size_of::<raw::Header>() {
                assert_eq!(error, DecodeError::Length { len: bytes.len() as u32, have: end }, "{name}");
            } else {
                assert!(matches!(error, DecodeError::Short { .. }), "{name}: {error}");
            }
            // ... and as many as it says, but fewer than it takes.
            let mut short = bytes[..end].to_vec();
            if end >= 4 {
                short[..4].copy_from_slice(&(end as u32).to_ne_bytes());
            }
            assert!(decode(&short).is_err(), "{name} cut to {end} bytes");
        }
    }
}

#[test]
fn a_length_that_is_none_is_an_error() {
    for len in [0, 1, 31, 97, u32::MAX] {
        let mut bytes = encode(&a_signal(), &strings());
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Length { len, have: 96 }));
    }
}

#[test]
fn nothing_at_all_is_an_error() {
    assert_eq!(decode(&[]), Err(DecodeError::Short { wanted: 4, have: 0 }));
}

#[test]
fn variable_parts_longer_than_the_record_are_an_error() {
    let bytes = encode(&an_exec(), &strings());
    let have = bytes.len() - size_of::<raw::Exec>();
    // argv_captured, then the four lengths.
    for (at, size) in [(140, 4), (144, 2), (146, 2), (148, 2), (150, 2)] {
        let mut bytes = bytes.clone();
        bytes[at..at + size].copy_from_slice(&u32::MAX.to_ne_bytes()[..size]);
        let error = decode(&bytes).unwrap_err();
        let DecodeError::Variable { kind: raw::KIND_EXEC, announced, have: told } = error else {
            panic!("{error}");
        };
        assert_eq!(told, have);
        assert!(announced > have);
    }
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

/// One exec with one of its fields changed, decoded.
fn exec_with(strings: &Strings, change: impl FnOnce(&mut raw::Exec)) -> Exec {
    let Record::Exec(mut exec) = an_exec() else { unreachable!() };
    change(&mut exec.raw);
    match decode(&encode(&Record::Exec(exec), strings)) {
        Ok(Record::Exec(exec)) => *exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_are_turned_round() {
    let deep: Vec<Vec<u8>> = (0..60).map(|n| format!("component-{n}").into_bytes()).collect();
    let expected: String = deep.iter().rev().map(|part| format!("/{}", String::from_utf8_lossy(part))).collect();
    assert!(expected.len() > 512, "longer than what is put together on the stack");
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
        assert_eq!(exec.exe, text(expected));
    }
}

#[test]
fn a_path_whose_walk_was_cut_does_not_look_absolute() {
    let cut = exec_with(&strings(), |raw| raw.exe_state = raw::FIELD_CUT).exe;
    assert_eq!(cut, Field { value: Some(Text::new("…/usr/bin/dash".as_bytes())), capture: Some(Capture::Cut) });
    let nothing = exec_with(&Strings { cwd: vec![], ..strings() }, |raw| raw.cwd_state = raw::FIELD_CUT).cwd;
    assert_eq!(nothing, Field { value: Some(Text::new(CUT_ROOT.as_bytes())), capture: Some(Capture::Cut) });
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
        let fields = [exec.exe, exec.cwd, exec.filename, exec.interpreter].map(|field| field.capture);
        assert_eq!(fields, [capture; 4]);
        assert_eq!(exec.argv.capture, capture);
        assert!(exec.argv.value.is_some(), "what there is of it is shown");
    }
}

#[test]
fn what_could_not_be_read_is_none() {
    let exec = exec_with(&Strings::default(), |raw| {
        (raw.exe_state, raw.cwd_state, raw.filename_state) = (2, 2, 2);
        (raw.interp_state, raw.argv_state) = (2, 2);
    });
    let unreadable = Field { value: None, capture: Some(Capture::Unreadable) };
    assert_eq!([exec.exe, exec.cwd, exec.filename, exec.interpreter], [(); 4].map(|()| unreadable.clone()));
    assert_eq!(exec.argv, Field { value: None, capture: Some(Capture::Unreadable) });
}

#[test]
fn an_empty_argv_is_an_empty_list() {
    let exec = exec_with(&Strings { argv: vec![], ..strings() }, |raw| raw.argc = 0);
    assert_eq!(exec.argv, whole(Argv::new(b"")));
}

#[test]
fn an_interpreter_that_is_the_file_itself_is_none() {
    let exec = exec_with(&Strings { interpreter: b"./run".to_vec(), ..strings() }, |_| {});
    assert_eq!(exec.interpreter, Field { value: None, capture: None });
}

#[test]
fn bytes_that_are_not_utf8_are_kept() {
    let exec = exec_with(
        &Strings { exe: vec![b"\xff".to_vec(), b"d".to_vec()], argv: vec![b"a\xfe".to_vec()], ..strings() },
        |_| {},
    );
    assert_eq!(exec.exe.value, Some(Text::new(b"/d/\xff")));
    assert!(exec.exe.value.unwrap().b64.is_some());
    assert_eq!(exec.argv.value, Some(Argv::new(b"a\xfe\0")));
}

fn any_task() -> impl Strategy<Value = raw::TaskRef> {
    any::<(u64, u32, u32)>().prop_map(|(start_ns, tgid, tid)| raw::TaskRef { start_ns, tgid, tid })
}

fn any_header(kind: u16) -> impl Strategy<Value = raw::Header> {
    any::<(u16, u64, u64, u64)>().prop_map(move |(cpu, seq, boot_ns, rq_clock)| raw::Header {
        len: 0,
        kind,
        cpu,
        seq,
        boot_ns,
        rq_clock,
    })
}

fn any_ids() -> impl Strategy<Value = raw::Ids> {
    any::<([u32; 8], u64)>().prop_map(|([uid, gid, euid, egid, loginuid, sid, pgid, tty], cgroup)| raw::Ids {
        uid,
        gid,
        euid,
        egid,
        loginuid,
        sid,
        pgid,
        tty,
        cgroup,
    })
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![4 => b'a'..=b'z', 1 => 1..=255u8], 1..40).prop_map(|mut name| {
        name.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = b'_');
        name
    })
}

prop_compose! {
    fn any_fork()(
        header in any_header(raw::KIND_FORK), child in any_task(), parent in any_task(), creator in any_task(),
        ids in any_ids(), comm: [u8; 16], flags: u32, pids in vec(any::<u32>(), 1..=MAX_NS_LEVEL + 1),
    ) -> (Record, Strings) {
        let ns_pids: Option<Arc<[u32]>> = (pids.len() > 1).then(|| pids.clone().into());
        let raw = raw::Fork { header, child, parent, creator, ids, comm, flags, ns_level: pids.len() as u32 - 1 };
        (Record::Fork(Fork { raw, ns_pids }), Strings::default())
    }
}

prop_compose! {
    fn any_exec()(
        header in any_header(raw::KIND_EXEC), task in any_task(), parent in any_task(), ids in any_ids(),
        old: (u32, u32), comm: [u8; 16], flags: u32, argc: u32, argv_bytes: u32,
        exe in vec(any_name(), 0..20), cwd in vec(any_name(), 0..20), filename in any_name(),
        interpreter in prop_oneof![Just(Vec::new()), any_name()],
        argv in vec(prop_oneof![1 => Just(Vec::new()), 4 => any_name()], 0..12),
    ) -> (Record, Strings) {
        let path = |parts: &[Vec<u8>]| match parts {
            [] => Text::new(b"/"),
            _ => Text::new(&parts.iter().rev().flat_map(|p| [b"/", &p[..]].concat()).collect::<Vec<u8>>()),
        };
        let len = |parts: &[Vec<u8>]| parts.iter().map(|part| part.len() + 1).sum::<usize>();
        let one = |part: &Vec<u8>| if part.is_empty() { 0 } else { part.len() as u16 + 1 };
        let flat: Vec<u8> = argv.iter().flat_map(|a| a.iter().copied().chain([0])).collect();
        let raw = raw::Exec {
            header, task, parent, ids, old_euid: old.0, old_egid: old.1, comm, flags, argc, argv_bytes,
            argv_captured: flat.len() as u32,
            exe_len: len(&exe) as u16,
            cwd_len: len(&cwd) as u16,
            filename_len: one(&filename),
            interp_len: one(&interpreter),
            ..raw::Exec::default()
        };
        let shown = !interpreter.is_empty() && interpreter != filename;
        let record = Record::Exec(Box::new(Exec {
            raw,
            exe: whole(path(&exe)),
            cwd: whole(path(&cwd)),
            filename: whole(Text::new(&filename)),
            interpreter: Field { value: shown.then(|| Text::new(&interpreter)), capture: None },
            argv: whole(Argv::new(&flat)),
        }));
        (record, Strings { exe, cwd, filename, interpreter, argv })
    }
}

prop_compose! {
    fn any_exit()(
        header in any_header(raw::KIND_EXIT), task in any_task(), parent in any_task(), reaper in any_task(),
        ids in any_ids(), comm: [u8; 16], status: u32, flags: u32, n: [u64; 21],
    ) -> (Record, Strings) {
        let usage = raw::Usage {
            utime: n[0], stime: n[1], runtime: n[2], prev_utime: n[3], prev_stime: n[4], cutime: n[5], cstime: n[6],
            maxrss_pages: n[7], cmaxrss_pages: n[8], minflt: n[9], majflt: n[10], cminflt: n[11], cmajflt: n[12],
            nvcsw: n[13], nivcsw: n[14], cnvcsw: n[15], cnivcsw: n[16], read_bytes: n[17], write_bytes: n[18],
        };
        let exit = raw::Exit {
            header, task, parent, reaper, ids, comm, status, flags, usage, exec_start: n[19], rq_clock_task: n[20],
        };
        (Record::Exit(Box::new(exit)), Strings::default())
    }
}

prop_compose! {
    fn any_signal()(
        header in any_header(raw::KIND_SIGNAL), target in any_task(), sender in any_task(), sender_comm: [u8; 16],
        signal: u32, code: i32, flags: u32, sender_uid: u32,
    ) -> (Record, Strings) {
        let signal = raw::Signal { header, target, sender, sender_comm, signal, code, flags, sender_uid };
        (Record::Signal(signal), Strings::default())
    }
}

proptest! {
    #[test]
    fn any_record_comes_out_as_it_went_in(
        (record, strings) in prop_oneof![any_fork(), any_exec(), any_exit(), any_signal()], beyond in 0usize..64,
    ) {
        let mut bytes = encode(&record, &strings);
        let len = bytes.len();
        bytes.resize(len + beyond, 0xff);
        prop_assert_eq!(decode(&bytes), Ok(with_len(record, len)));
    }
}

/// A small generator (xorshift64*), so that ten million records take little time besides decoding them.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A few bytes of a good record changed, its length with them or not; or nothing but noise.
fn mutate(random: &mut Random, good: &[Vec<u8>], room: &mut [u8; 1024]) -> usize {
    let source = &good[random.below(good.len())];
    let mut len = source.len();
    room[..len].copy_from_slice(source);
    let what = random.next();
    if what.is_multiple_of(16) {
        let words = 8 + random.below(16);
        for word in room[..words * 8].chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_ne_bytes());
        }
        len = words * 8;
        room[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        room[4..6].copy_from_slice(&((what >> 32) as u16 % 6).to_ne_bytes());
    }
    for _ in 0..what % 4 {
        // Half of them where an exec has its lengths.
        let at = if what & 32 == 0 { random.below(len) } else { 130 + random.below(30) };
        room[at.min(len - 1)] = random.next() as u8;
    }
    if what & 64 != 0 {
        len = random.below(len + 1);
        if what & 128 != 0 && len >= 4 {
            room[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        }
    }
    len
}

#[test]
fn ten_million_broken_records_are_survived() {
    const EACH: u64 = 5_000_000;
    let good: Vec<Vec<u8>> = all_kinds().iter().map(|(_, record)| encode(record, &strings())).collect();
    let run = |seed: u64| {
        let mut random = Random(seed);
        let mut room = [0; 1024];
        let mut counts = [0u64; 2];
        for _ in 0..EACH {
            let len = mutate(&mut random, &good, &mut room);
            counts[usize::from(decode(&room[..len]).is_ok())] += 1;
        }
        counts
    };
    let run = &run;
    let counts = std::thread::scope(|scope| {
        [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]
            .map(|seed| scope.spawn(move || run(seed)))
            .map(|t| t.join().unwrap())
    });
    for [bad, good] in counts {
        assert_eq!(bad + good, EACH);
        assert!(bad > EACH / 10 && good > EACH / 10, "a test of both: {bad} bad, {good} good");
    }
}
