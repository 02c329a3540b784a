//! The cgroup of each process: cgroups as they are made, joined and removed.

use tracer::event::{Event, Kind};
use tracer::record::{Cgroup, Fork, Record};
use tracer::table::{Table, TableOptions};
use tracer_common::record as raw;

use crate::kit::{IDS, INIT_TASK, MS, exec, execed, exit, exited, fork, forked, header, task, with_argv};
use crate::origins::image_of;

fn cgroup(deed: u32, id: u64, path: &str, task: raw::TaskRef, boot_ns: u64) -> Record {
    let header = header(raw::KIND_CGROUP, boot_ns);
    let raw = raw::Cgroup { header, id, task, action: deed, path_len: path.len() as u32 + 1 };
    Record::Cgroup(Cgroup { raw, path: path.into() })
}

fn command(task: raw::TaskRef, argv: &[u8], boot_ns: u64) -> Record {
    let mut exec = exec(task, INIT_TASK, boot_ns);
    // Both the process and the program that the command line names are root's.
    (exec.raw.old_euid, exec.raw.ids.uid, exec.raw.ids.euid) = (0, 0, 0);
    exec.image = image_of(std::str::from_utf8(argv.split(|byte| *byte == 0).next().unwrap()).unwrap());
    execed(with_argv(exec, argv))
}

fn apply(table: &mut Table, records: impl IntoIterator<Item = Record>) -> Vec<Event> {
    let mut events = Vec::new();
    records.into_iter().for_each(|record| table.apply(record, &mut events));
    events
}

/// A fork in a cgroup, in a nested pid namespace if `inside` is given.
fn fork_in(child: raw::TaskRef, creator: raw::TaskRef, cgroup: u64, inside: Option<u32>) -> Record {
    let mut raw = fork(child, creator);
    raw.ids.cgroup = cgroup;
    let ns_pids = inside.map(|pid| [child.tgid, pid].into());
    raw.ns_level = inside.is_some().into();
    Record::Fork(Fork { raw, ns_pids })
}

/// Returns cgroup and container on the last event of a process.
fn cgroup_and_container(events: &[Event], pid: u32) -> (Option<&str>, Option<&str>) {
    let mut of = events.iter().rev().filter_map(|event| event.process.as_ref());
    let process = of.find(|process| process.pid == pid).unwrap();
    (process.cgroup.as_deref(), process.container_id().map(|id| &**id))
}

const RUNTIME: raw::TaskRef = raw::TaskRef { start_ns: 100 * MS, tgid: 50, tid: 50 };

#[test]
fn a_cgroup_is_known_from_the_first_line_in_it() {
    let mut table = Table::new(TableOptions::default());
    let events = apply(
        &mut table,
        [
            forked(fork(RUNTIME, INIT_TASK)),
            command(RUNTIME, b"runc\0run\0web\0", 110 * MS),
            cgroup(raw::CGROUP_MADE, 900, "/web", RUNTIME, 111 * MS),
            cgroup(raw::CGROUP_MADE, 901, "/system.slice/x.service", RUNTIME, 111 * MS),
            fork_in(task(60, 112 * MS), RUNTIME, 900, None),
            fork_in(task(61, 113 * MS), RUNTIME, 901, None),
        ],
    );
    assert_eq!(cgroup_and_container(&events, 60), (Some("/web"), Some("web")));
    assert_eq!(cgroup_and_container(&events, 61), (Some("/system.slice/x.service"), None));
    assert_eq!(events.last().unwrap().process.as_ref().unwrap().unit.as_deref(), Some("x.service"));
}

#[test]
fn a_process_moved_to_a_cgroup_is_in_it_from_then_on() {
    let mut table = Table::new(TableOptions::default());
    let moved = task(60, 112 * MS);
    let mut raw = exit(moved, RUNTIME, 130 * MS);
    raw.ids.cgroup = 900;
    let events = apply(
        &mut table,
        [
            forked(fork(RUNTIME, INIT_TASK)),
            fork_in(moved, RUNTIME, IDS.cgroup, None),
            cgroup(raw::CGROUP_MADE, 900, "/lxc.payload.web", RUNTIME, 111 * MS),
            cgroup(raw::CGROUP_JOINED, 900, "/lxc.payload.web", moved, 120 * MS),
            fork_in(task(61, 121 * MS), moved, 900, None),
            exited(raw),
            cgroup(raw::CGROUP_REMOVED, 900, "/lxc.payload.web", RUNTIME, 131 * MS),
        ],
    );
    assert_eq!(
        events
            .iter()
            .find(|event| event.process.as_ref().unwrap().pid == 60)
            .unwrap()
            .process
            .as_ref()
            .unwrap()
            .container,
        None
    );
    assert_eq!(cgroup_and_container(&events, 61), (Some("/lxc.payload.web"), Some("web")));
    assert_eq!(cgroup_and_container(&events, 60), (Some("/lxc.payload.web"), Some("web")));
    // Only events of processes.
    assert!(events.iter().all(|event| event.kind() != Kind::Lost));
}

/// crun moves its child into the cgroup after the fork; `runc exec` moves its last child after the fork.
#[test]
fn a_process_forked_for_a_container_belongs_to_it_before_the_move() {
    for (argv, stages) in [(&b"crun\0create\0--bundle\0/b\0web\0"[..], 0), (b"/usr/sbin/runc\0exec\0-t\0web\0sh\0", 2)]
    {
        let mut table = Table::new(TableOptions::default());
        table.learn_cgroups([(IDS.cgroup, "/".to_owned())]);
        let mut events = apply(&mut table, [forked(fork(RUNTIME, INIT_TASK)), command(RUNTIME, argv, 110 * MS)]);
        let mut creator = RUNTIME;
        for stage in 0..stages {
            let next = task(51 + stage, u64::from(120 + stage) * MS);
            events.extend(apply(
                &mut table,
                [fork_in(next, creator, IDS.cgroup, None), command(next, b"runc\0init\0", u64::from(125 + stage) * MS)],
            ));
            creator = next;
        }
        events.extend(apply(&mut table, [fork_in(task(70, 150 * MS), creator, IDS.cgroup, Some(1))]));
        assert_eq!(cgroup_and_container(&events, 70), (Some("/"), Some("web")));
        assert!((50..60).filter(|pid| *pid < 51 + stages).all(|pid| cgroup_and_container(&events, pid).1.is_none()));
    }
}

#[test]
fn an_unreported_cgroup_is_looked_up_and_then_known() {
    let mut table = Table::new(TableOptions::default());
    table.learn_cgroups([(IDS.cgroup, "/".to_owned())]);
    let child = task(60, 112 * MS);
    apply(&mut table, [forked(fork(RUNTIME, INIT_TASK)), fork_in(child, RUNTIME, 777, None)]);
    assert!(table.wants_cgroups() && !table.wants_cgroups());
    table.learn_cgroups([(777, "/docker/x".to_owned())]);
    let mut raw = exit(child, RUNTIME, 130 * MS);
    raw.ids.cgroup = 777;
    let events = apply(&mut table, [exited(raw)]);
    assert_eq!(cgroup_and_container(&events, 60), (Some("/docker/x"), None));
}

#[test]
fn a_renamed_cgroup_is_where_its_processes_are_from_then_on() {
    let mut table = Table::new(TableOptions::default());
    let (inside, below) = (task(60, 112 * MS), task(61, 113 * MS));
    let mut raw = exit(below, RUNTIME, 130 * MS);
    raw.ids.cgroup = 901;
    let events = apply(
        &mut table,
        [
            forked(fork(RUNTIME, INIT_TASK)),
            cgroup(raw::CGROUP_MADE, 900, "/a", RUNTIME, 111 * MS),
            cgroup(raw::CGROUP_MADE, 901, "/a/x.service", RUNTIME, 111 * MS),
            fork_in(inside, RUNTIME, 900, None),
            fork_in(below, RUNTIME, 901, None),
            cgroup(raw::CGROUP_RENAMED, 900, "/b", RUNTIME, 120 * MS),
            fork_in(task(62, 125 * MS), inside, 900, None),
            exited(raw),
        ],
    );
    assert_eq!(cgroup_and_container(&events, 62), (Some("/b"), None), "forked there");
    assert_eq!(cgroup_and_container(&events, 61), (Some("/b/x.service"), None), "it was there before");
    let mut exec = exec(inside, RUNTIME, 140 * MS);
    exec.raw.ids.cgroup = 900;
    assert_eq!(
        cgroup_and_container(&apply(&mut table, [execed(exec)]), 60),
        (Some("/b"), None),
        "it was there before, too"
    );
    assert_eq!(table.by_pid(62).unwrap().process().cgroup.as_deref(), Some("/b"));
}
