//! Records that no kernel would make: the table stays consistent with any input.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use rustc_hash::FxHashSet;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Image, Kind, Process, Provenance};
use tracer::proc::Seed;
use tracer::record::text::{Argv, Text};
use tracer::record::{Exec, Fork, Record};
use tracer::table::{Table, TableOptions};
use tracer_common::record as raw;

/// One of few tasks, so that they occur repeatedly; 0 is no task, and a start of 0 is unknown.
fn task() -> impl Strategy<Value = raw::TaskRef> {
    (0..9u32, 0..5u64, 0..2u32).prop_map(|(tgid, start, thread)| raw::TaskRef {
        start_ns: start * 4_000_000,
        tgid,
        tid: tgid + thread,
    })
}

fn header(kind: u16) -> impl Strategy<Value = raw::Header> {
    (0..100_000_000u64, any::<bool>()).prop_map(move |(boot_ns, clock)| raw::Header {
        kind,
        boot_ns,
        rq_clock: if clock { boot_ns + 7 } else { 0 },
        ..raw::Header::default()
    })
}

fn comm() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![Just([0; 16]), Just([b'a'; 16]), any::<[u8; 16]>()]
}

prop_compose! {
    fn fork()(
        header in header(raw::KIND_FORK), child in task(), parent in task(), creator in task(), comm in comm(),
        flags in 0..4u32, nested: bool, last in 0..3u32,
    ) -> Record {
        let raw = raw::Fork { header, child, parent, creator, comm, flags, ..raw::Fork::default() };
        Record::Fork(Fork { raw, ns_pids: nested.then(|| [child.tgid, last].into()) })
    }
}

prop_compose! {
    fn exec()(header in header(raw::KIND_EXEC), task in task(), parent in task(), comm in comm(), flags: u32) -> Record {
        let text = || Some(Text::new(b"/x"));
        let image = Image::new(Some(Text::from_padded(&comm)), text(), None, Some(Argv::new(b"x\0")));
        Record::Exec(Box::new(Exec {
            raw: raw::Exec { header, task, parent, comm, flags, ..raw::Exec::default() },
            image: image.into(),
            filename: text(),
            interpreter: text(),
            exe_capture: None,
            cwd_capture: None,
            argv_capture: None,
        }))
    }
}

prop_compose! {
    fn exit()(
        header in header(raw::KIND_EXIT), task in task(), parent in task(), reaper in task(), comm in comm(),
        flags in 0..64u32, group in prop::bool::weighted(0.8), status: u32,
    ) -> Record {
        let flags = if group { flags | raw::EXIT_GROUP } else { flags };
        Record::Exit(Box::new(raw::Exit { header, task, parent, reaper, comm, flags, status, ..raw::Exit::default() }))
    }
}

prop_compose! {
    fn signal()(header in header(raw::KIND_SIGNAL), target in task(), sender in task(), signal in 0..70u32) -> Record {
        Record::Signal(raw::Signal { header, target, sender, signal, ..raw::Signal::default() })
    }
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![4 => fork(), 2 => exec(), 3 => exit(), 1 => signal()]
}

prop_compose! {
    fn seed()(pid in 1..9u32, start_ticks in 0..3u64, ppid in 0..10u32, zombie: bool, read in 0..100_000_000u64) -> Seed {
        let id = ProcessId::from_ticks(start_ticks, pid);
        let mut process = Process::new(id, Provenance::Procfs);
        process.zombie = zombie;
        Seed {
            process, ppid, start_ticks, start_ns: 0, tty: pid, cgroup_id: 0, mnt_ns: 1 + pid / 4, pid_ns: 0, exiting: zombie, gone: false,
            read_from_ns: read, read_until_ns: read, image_until_ns: read,
        }
    }
}

/// Asserts that links and counts agree.
fn check(table: &Table) {
    let living: BTreeSet<(u32, u64)> = table.living().map(|process| (process.pid(), process.start_ns())).collect();
    assert_eq!(table.len_living(), living.len());
    assert_eq!(table.dead().count(), table.len_dead());
    let pids: BTreeSet<u32> = living.iter().map(|&(pid, _)| pid).collect();
    assert_eq!(pids.len(), living.len(), "one pid, one living process");
    let mut children = 0;
    for process in table.living() {
        assert!(process.is_living() && process.end_ns().is_none());
        assert_eq!(table.by_pid(process.pid()).map(|found| found.start_ns()), Some(process.start_ns()));
        children += process.children().take(100).count();
        for child in process.children().take(100) {
            assert!(child.is_living());
            assert_eq!(child.parent_id(), Some(process.id()));
            assert_eq!(child.ppid(), Some(process.pid()));
        }
        let ppid = process.ppid();
        assert_eq!(ppid.filter(|&ppid| ppid != 0), process.parent_id().map(ProcessId::pid));
        process.process();
    }
    assert!(children <= living.len(), "no process has two parents");
    for process in table.dead() {
        assert!(!process.is_living() && process.end_ns().is_some());
    }
    for process in table.unsettled() {
        assert!(process.is_living());
    }
}

fn check_event(event: &Event) {
    let process = event.process.as_ref().expect("the table's events have a process");
    assert!(matches!(
        event.kind(),
        Kind::Process | Kind::Fork | Kind::Exec | Kind::Exit | Kind::Reparent | Kind::ThreadStart | Kind::ThreadExit
    ));
    assert_eq!(process.pid, process.id.pid());
    assert_eq!(event.kind() == Kind::Reparent, event.reparent().is_some());
    assert_eq!(matches!(event.kind(), Kind::Exit | Kind::ThreadExit), event.exit().is_some());
    assert_eq!(
        event.kind() == Kind::Exec && !event.is_inferred(),
        event.exec().is_some() && event.argv_info().is_some()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_table_stays_consistent_with_any_input(
        max_dead in 0..200usize, seeds in vec(seed(), 0..12), records in vec(record(), 1..150), late in vec(seed(), 0..4),
    ) {
        let mut table = Table::new(TableOptions { max_dead, ancestors: max_dead % 2 == 0, ..TableOptions::default() });
        let mut events = Vec::new();
        table.seed(seeds, &mut events);
        check(&table);
        for record in records {
            table.apply(record, &mut events);
            check(&table);
        }
        for seed in &late {
            table.settle(seed, &mut events);
            check(&table);
        }
        table.seed(late.clone(), &mut events);
        check(&table);
        table.resync(late, &FxHashSet::default(), 100_000_000, &mut events);
        check(&table);
        prop_assert!(table.len_dead() <= max_dead.max(64));
        events.iter().for_each(check_event);
        for (a, b) in table.living().zip(table.dead()) {
            table.is_descendant_of(a.id(), b.id());
            table.is_descendant_of(b.id(), a.id());
        }
    }
}
