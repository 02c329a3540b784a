//! Random records, complete and broken.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tracer::event::Image;
use tracer::record::decode::decode;
use tracer::record::text::{Argv, Text};
use tracer::record::{Cgroup, Exec, ExecFailed, Fork, Record};
use tracer_common::limits::MAX_NS_LEVEL;
use tracer_common::record as raw;
use zerocopy::FromBytes;

use crate::encode::{Strings, encode};
use crate::{all_kinds, strings, whole, with_len};

/// Returns an ABI structure: any bytes are valid.
fn any_raw<T: FromBytes + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>()).prop_filter_map("its size", |bytes| T::read_from_bytes(&bytes).ok())
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![4 => b'a'..=b'z', 1 => 1..=255u8], 1..40).prop_map(|mut name| {
        name.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = b'_');
        name
    })
}

prop_compose! {
    fn any_fork()(raw in any_raw::<raw::Fork>(), pids in vec(any::<u32>(), 1..=MAX_NS_LEVEL + 1)) -> (Record, Strings) {
        let ns_pids: Option<Arc<[u32]>> = (pids.len() > 1).then(|| pids.clone().into());
        let raw = raw::Fork { header: of_kind(raw::KIND_FORK, raw.header), ns_level: pids.len() as u32 - 1, ..raw };
        (Record::Fork(Fork { raw, ns_pids }), Strings::default())
    }
}

prop_compose! {
    fn any_exec()(
        raw in any_raw::<raw::Exec>(),
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
            header: of_kind(raw::KIND_EXEC, raw.header),
            argv_captured: flat.len() as u32,
            exe_len: len(&exe) as u16,
            cwd_len: len(&cwd) as u16,
            filename_len: one(&filename),
            interp_len: one(&interpreter),
            exe_state: raw::FIELD_COMPLETE,
            cwd_state: raw::FIELD_COMPLETE,
            filename_state: raw::FIELD_COMPLETE,
            interp_state: raw::FIELD_COMPLETE,
            argv_state: raw::FIELD_COMPLETE,
            ..raw
        };
        let shown = !interpreter.is_empty() && interpreter != filename;
        let record = Record::Exec(Box::new(Exec {
            raw,
            image: Image::new(
                Some(Text::from_padded(&raw.comm)),
                Some(path(&exe)),
                Some(path(&cwd)),
                Some(Argv::new(&flat)),
            )
            .into(),
            filename: Some(Text::new(&filename)),
            interpreter: shown.then(|| Text::new(&interpreter)),
            exe_capture: None,
            cwd_capture: None,
            argv_capture: None,
        }));
        (record, Strings { exe, cwd, filename, interpreter, argv })
    }
}

fn of_kind(kind: u16, header: raw::Header) -> raw::Header {
    raw::Header { kind, ..header }
}

fn any_exit() -> impl Strategy<Value = (Record, Strings)> {
    any_raw::<raw::Exit>().prop_map(|raw| {
        let exit = raw::Exit { header: of_kind(raw::KIND_EXIT, raw.header), ..raw };
        (Record::Exit(Box::new(exit)), Strings::default())
    })
}

fn any_signal() -> impl Strategy<Value = (Record, Strings)> {
    any_raw::<raw::Signal>().prop_map(|raw| {
        let signal = raw::Signal { header: of_kind(raw::KIND_SIGNAL, raw.header), ..raw };
        (Record::Signal(signal), Strings::default())
    })
}

prop_compose! {
    fn any_exec_failed()(
        raw in any_raw::<raw::ExecFailed>(), kind in prop_oneof![Just(raw::KIND_EXEC_FAILED), Just(raw::KIND_EXECAT_FAILED)],
        filename in any_name(), argv in vec(prop_oneof![1 => Just(Vec::new()), 4 => any_name()], 0..12),
    ) -> (Record, Strings) {
        let flat: Vec<u8> = argv.iter().flat_map(|a| a.iter().copied().chain([0])).collect();
        let raw = raw::ExecFailed {
            header: of_kind(kind, raw.header),
            argv_captured: flat.len() as u32,
            filename_len: filename.len() as u16 + 1,
            filename_state: raw::FIELD_COMPLETE,
            argv_state: raw::FIELD_COMPLETE,
            ..raw
        };
        let record = ExecFailed { raw, filename: whole(Text::new(&filename)), argv: whole(Argv::new(&flat)) };
        (Record::ExecFailed(Box::new(record)), Strings { filename, argv, ..Strings::default() })
    }
}

prop_compose! {
    fn any_cgroup()(raw in any_raw::<raw::Cgroup>(), path in "[^\0]{0,1023}") -> (Record, Strings) {
        let raw = raw::Cgroup { header: of_kind(raw::KIND_CGROUP, raw.header), path_len: path.len() as u32 + 1, ..raw };
        (Record::Cgroup(Cgroup { raw, path: path.into() }), Strings::default())
    }
}

fn any_reap() -> impl Strategy<Value = (Record, Strings)> {
    any_raw::<raw::Reap>().prop_map(|raw| {
        let reap = raw::Reap { header: of_kind(raw::KIND_REAP, raw.header), ..raw };
        (Record::Reap(reap), Strings::default())
    })
}

proptest! {
    #[test]
    fn any_record_is_decoded_as_encoded(
        (record, strings) in prop_oneof![any_fork(), any_exec(), any_exit(), any_signal(), any_exec_failed(), any_cgroup(), any_reap()], beyond in 0usize..64,
    ) {
        let mut bytes = encode(&record, &strings);
        let len = bytes.len();
        bytes.resize(len + beyond, 0xff);
        prop_assert_eq!(decode(&bytes), Ok(with_len(record, len)));
    }
}

/// A small generator (xorshift64*), so that ten million records take little time besides decoding.
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

/// Changes a few bytes of a good record, sometimes with its length; or returns random bytes.
fn mutate(random: &mut Random, good: &[Vec<u8>], buffer: &mut [u8; 1024]) -> usize {
    let source = &good[random.below(good.len())];
    let mut len = source.len();
    buffer[..len].copy_from_slice(source);
    let what = random.next();
    if what.is_multiple_of(16) {
        let words = 8 + random.below(16);
        for word in buffer[..words * 8].chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_ne_bytes());
        }
        len = words * 8;
        buffer[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        buffer[4..6].copy_from_slice(&((what >> 32) as u16 % 10).to_ne_bytes());
    }
    for _ in 0..what % 4 {
        // Half of them are where an exec has its lengths.
        let at = if what & 32 == 0 { random.below(len) } else { 130 + random.below(30) };
        buffer[at.min(len - 1)] = random.next() as u8;
    }
    if what & 64 != 0 {
        len = random.below(len + 1);
        if what & 128 != 0 && len >= 4 {
            buffer[..4].copy_from_slice(&(len as u32).to_ne_bytes());
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
        let mut buffer = [0; 1024];
        let mut counts = [0u64; 2];
        for _ in 0..EACH {
            let len = mutate(&mut random, &good, &mut buffer);
            counts[usize::from(decode(&buffer[..len]).is_ok())] += 1;
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
