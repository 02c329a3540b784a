//! How a process entered its container: as its first process, by the runtime's `exec`, or from outside.

use std::sync::Arc;
use tracer::event::id::ProcessId;

use tracer::event::{Event, Image, Kind, Origin, Process, Provenance};
use tracer::proc::Seed;
use tracer::record::{Cgroup, Exec, Fork, Record};
use tracer::table::{Table, TableOptions};
use tracer_common::record as raw;

use crate::kit::{IDS, MS, exec, execed, exit, exited, fork, header, task, text, with_argv};

/// Numbers of mount and pid namespaces.
const HOST: u32 = 10;
const MOUNTS: u32 = 20;
const PIDS: u32 = 30;

pub(crate) const INIT: raw::TaskRef = raw::TaskRef { start_ns: 10 * MS, tgid: 1, tid: 1 };
pub(crate) const SHELL: raw::TaskRef = raw::TaskRef { start_ns: 20 * MS, tgid: 40, tid: 40 };
pub(crate) const RUNC: raw::TaskRef = raw::TaskRef { start_ns: 100 * MS, tgid: 50, tid: 50 };
pub(crate) const FIRST: raw::TaskRef = raw::TaskRef { start_ns: 200 * MS, tgid: 60, tid: 60 };
/// Cgroups: that of the host's processes, and that of the container.
const OUTSIDE: u64 = 77;
pub(crate) const INSIDE: u64 = 900;

/// The cgroup and namespaces of a process.
#[derive(Clone, Copy)]
pub(crate) struct Location {
    pub(crate) cgroup: u64,
    pub(crate) mnt_ns: u32,
    /// Number of the pid namespace, and its pid there.
    pub(crate) inside: Option<(u32, u32)>,
}

pub(crate) const ON_HOST: Location = Location { cgroup: OUTSIDE, mnt_ns: HOST, inside: None };
pub(crate) const IN_CONTAINER: Location = Location { cgroup: INSIDE, mnt_ns: MOUNTS, inside: Some((PIDS, 9)) };

impl Location {
    fn ids(self) -> raw::Ids {
        let pid_ns = self.inside.map_or(0, |(number, _)| number);
        // A process of root.
        raw::Ids { uid: 0, euid: 0, cgroup: self.cgroup, mnt_ns: self.mnt_ns, pid_ns, ..IDS }
    }

    pub(crate) fn forks(self, child: raw::TaskRef, creator: raw::TaskRef) -> Record {
        let raw = raw::Fork { ids: self.ids(), ns_level: self.inside.is_some().into(), ..fork(child, creator) };
        Record::Fork(Fork { raw, ns_pids: self.inside.map(|(_, pid)| [child.tgid, pid].into()) })
    }

    /// Returns its exec. The record has no pid namespace.
    pub(crate) fn runs(self, task: raw::TaskRef, argv: &str, boot_ns: u64) -> Record {
        let mut plain = exec(task, INIT, boot_ns);
        plain.image = image_of(argv);
        let argv: Vec<u8> = argv.split(' ').flat_map(|word| word.bytes().chain([0])).collect();
        let raw = raw::Exec { ids: raw::Ids { pid_ns: 0, ..self.ids() }, old_euid: 0, ..plain.raw };
        execed(with_argv(Exec { raw, ..plain }, &argv))
    }

    /// Returns its exit. The record has no namespaces.
    pub(crate) fn ends(self, task: raw::TaskRef, boot_ns: u64) -> Record {
        exited(raw::Exit { ids: raw::Ids { mnt_ns: 0, pid_ns: 0, ..self.ids() }, ..exit(task, INIT, boot_ns) })
    }

    /// Returns its entry in the snapshot.
    pub(crate) fn found(self, task: raw::TaskRef, parent: raw::TaskRef, argv: &str) -> Seed {
        let mut process = Process::new(ProcessId::from_ns(task.start_ns, task.tgid), Provenance::Procfs);
        process.image_mut().argv = Some(argv.split(' ').collect());
        process.uid = Some(0);
        process.cgroup = Some(if self.cgroup == INSIDE { "/web" } else { "/user" }.into());
        process.ns_pids = self.inside.map(|(_, pid)| [task.tgid, pid].into());
        Seed {
            process,
            ppid: parent.tgid,
            start_ticks: task.start_ns / 10_000_000,
            start_ns: 0,
            tty: 0,
            cgroup_id: 0,
            mnt_ns: self.mnt_ns,
            pid_ns: self.inside.map_or(0, |(number, _)| number),
            exiting: false,
            gone: false,
            read_from_ns: 50 * MS,
            read_until_ns: 50 * MS,
            image_until_ns: 50 * MS,
        }
    }
}

/// Returns the program that a command line names.
pub(crate) fn image_of(argv: &str) -> Arc<Image> {
    let program = argv.split(' ').next().unwrap_or_default();
    let exe = if program.starts_with('/') { program.to_owned() } else { format!("/usr/bin/{program}") };
    Image::new(text(program), text(&exe), text("/w"), None).into()
}

pub(crate) fn cgroup(deed: u32, id: u64, path: &str, task: raw::TaskRef, boot_ns: u64) -> Record {
    let header = header(raw::KIND_CGROUP, boot_ns);
    let raw = raw::Cgroup { header, id, task, action: deed, path_len: path.len() as u32 + 1 };
    Record::Cgroup(Cgroup { raw, path: path.into() })
}

pub(crate) struct World {
    pub(crate) table: Table,
    pub(crate) events: Vec<Event>,
}

impl World {
    fn new() -> Self {
        Self::with(TableOptions::default())
    }

    pub(crate) fn with(options: TableOptions) -> Self {
        let mut world = Self { table: Table::new(options), events: Vec::new() };
        world.table.learn_cgroups([(OUTSIDE, "/user".to_owned())]);
        let none = raw::TaskRef::default();
        let seeds = vec![ON_HOST.found(INIT, none, "init"), ON_HOST.found(SHELL, INIT, "sh")];
        world.table.seed(seeds, &mut world.events);
        world
    }

    pub(crate) fn apply(&mut self, records: impl IntoIterator<Item = Record>) {
        records.into_iter().for_each(|record| self.table.apply(record, &mut self.events));
    }

    /// `runc run web`, up to the entrypoint's exec, with a hook before that.
    pub(crate) fn with_container() -> Self {
        Self::with_container_and(TableOptions::default())
    }

    /// Likewise, in a table with these options.
    pub(crate) fn with_container_and(options: TableOptions) -> Self {
        let mut world = Self::with(options);
        let [stage, hook] = [task(51, 150 * MS), task(61, 210 * MS)];
        let first = Location { inside: Some((PIDS, 1)), ..IN_CONTAINER };
        world.apply([
            ON_HOST.forks(RUNC, SHELL),
            ON_HOST.runs(RUNC, "runc run web", 110 * MS),
            cgroup(raw::CGROUP_MADE, INSIDE, "/web", RUNC, 120 * MS),
            ON_HOST.forks(stage, RUNC),
            ON_HOST.runs(stage, "runc init", 155 * MS),
            cgroup(raw::CGROUP_JOINED, INSIDE, "/web", stage, 160 * MS),
            first.forks(FIRST, stage),
            Location { inside: Some((PIDS, 2)), ..IN_CONTAINER }.forks(hook, FIRST),
            IN_CONTAINER.runs(hook, "nvidia-hook", 215 * MS),
            IN_CONTAINER.ends(hook, 216 * MS),
            IN_CONTAINER.runs(FIRST, "sleep 300", 220 * MS),
        ]);
        world
    }

    /// Returns container and origin on each line of a process, except for changes of its parent.
    pub(crate) fn lines(&self, pid: u32) -> Vec<(Kind, Option<&str>, Option<Origin>)> {
        let own = |event: &&Event| event.container().is_none() && event.kind() != Kind::Reparent;
        let of = self.events.iter().filter(own).filter_map(|event| {
            let process = event.process.as_ref().filter(|process| process.pid == pid)?;
            Some((event.kind(), process.container_id().map(|id| &**id), process.origin))
        });
        of.collect()
    }

    fn pids_of(&self, kind: Kind) -> Vec<u32> {
        let of = self.events.iter().filter(|event| event.kind() == kind);
        of.map(|event| event.process.as_ref().map_or(0, |process| process.pid)).collect()
    }
}

const WEB: Option<&str> = Some("web");
const HOST_ORIGIN: Option<Origin> = Some(Origin::Host);

#[test]
fn the_first_process_is_the_entrypoint_and_its_hooks_are_not() {
    let world = World::with_container();
    let entrypoint = Some(Origin::Entrypoint);
    assert_eq!(world.lines(60), [(Kind::Fork, WEB, entrypoint), (Kind::Exec, WEB, entrypoint)]);
    assert_eq!(world.lines(51).last(), Some(&(Kind::Exec, None, None)), "before it was moved there");
    assert_eq!(world.pids_of(Kind::ContainerStart), [60]);
}

/// `nsenter -t PID -a sh`: it joins, and its child forks there.
#[test]
fn a_fork_into_a_containers_pid_namespace_comes_from_outside() {
    for mnt_ns in [MOUNTS, HOST] {
        let mut world = World::with_container();
        let [nsenter, child, grandchild] = [task(70, 300 * MS), task(71, 310 * MS), task(72, 320 * MS)];
        let place = Location { cgroup: OUTSIDE, mnt_ns, inside: Some((PIDS, 12)) };
        world.apply([
            ON_HOST.forks(nsenter, SHELL),
            ON_HOST.runs(nsenter, "nsenter -t 60 -a sh", 305 * MS),
            place.forks(child, nsenter),
            place.runs(child, "sh", 315 * MS),
            place.forks(grandchild, child),
            place.ends(grandchild, 330 * MS),
            place.ends(child, 331 * MS),
            ON_HOST.ends(nsenter, 332 * MS),
        ]);
        assert!(world.lines(70).iter().all(|(_, container, origin)| container.is_none() && origin.is_none()));
        for (pid, kinds) in [(71, [Kind::Fork, Kind::Exec, Kind::Exit].as_slice()), (72, &[Kind::Fork, Kind::Exit])] {
            let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, WEB, HOST_ORIGIN)).collect();
            assert_eq!(world.lines(pid), wanted, "mount namespace {mnt_ns}");
        }
        assert!(world.pids_of(Kind::ContainerExec).is_empty());
        let process = world.events.iter().rev().find_map(|event| event.process.as_ref().filter(|p| p.pid == 71));
        assert_eq!(process.unwrap().cgroup.as_deref(), Some("/user"), "as the kernel reports it");
    }
}

/// `nsenter -t PID -m sh`: no new process, so its exec is the first event there. It can also leave again.
#[test]
fn an_exec_in_a_containers_mount_namespace_comes_from_outside() {
    let mut world = World::with_container();
    let nsenter = task(70, 300 * MS);
    let joined = Location { mnt_ns: MOUNTS, ..ON_HOST };
    world.apply([
        ON_HOST.forks(nsenter, SHELL),
        ON_HOST.runs(nsenter, "nsenter -t 60 -m sh", 305 * MS),
        joined.runs(nsenter, "sh", 310 * MS),
        joined.forks(task(71, 320 * MS), nsenter),
        ON_HOST.runs(nsenter, "nsenter -t 1 -m sh", 330 * MS),
        ON_HOST.forks(task(72, 340 * MS), nsenter),
        ON_HOST.ends(nsenter, 350 * MS),
    ]);
    let lines: Vec<_> = world.lines(70).into_iter().map(|(_, container, origin)| (container, origin)).collect();
    let none = (None, None);
    assert_eq!(lines, [none, none, (WEB, HOST_ORIGIN), none, none]);
    assert_eq!(world.lines(71), [(Kind::Fork, WEB, HOST_ORIGIN)]);
    assert_eq!(world.lines(72), [(Kind::Fork, None, None)]);
}

#[test]
fn a_process_moved_to_the_cgroup_from_outside_comes_from_outside() {
    let mut world = World::with_container();
    let moved = task(70, 300 * MS);
    world.apply([
        ON_HOST.forks(moved, SHELL),
        cgroup(raw::CGROUP_JOINED, INSIDE, "/web", moved, 310 * MS),
        Location { cgroup: INSIDE, ..ON_HOST }.runs(moved, "sh", 320 * MS),
        cgroup(raw::CGROUP_JOINED, OUTSIDE, "/user", moved, 330 * MS),
        ON_HOST.ends(moved, 340 * MS),
    ]);
    let wanted = [(Kind::Fork, None, None), (Kind::Exec, WEB, HOST_ORIGIN), (Kind::Exit, None, None)];
    assert_eq!(world.lines(70), wanted);
}

/// LXC moves the first process into the cgroup after its fork.
#[test]
fn the_first_process_may_enter_the_cgroup_later() {
    let mut world = World::new();
    let [engine, first] = [task(50, 100 * MS), task(60, 200 * MS)];
    world.apply([
        ON_HOST.forks(engine, SHELL),
        ON_HOST.runs(engine, "lxc-start -n web", 110 * MS),
        cgroup(raw::CGROUP_MADE, INSIDE, "/lxc.payload.web", engine, 120 * MS),
        Location { cgroup: OUTSIDE, inside: Some((PIDS, 1)), ..IN_CONTAINER }.forks(first, engine),
        cgroup(raw::CGROUP_JOINED, INSIDE, "/lxc.payload.web", first, 210 * MS),
        IN_CONTAINER.runs(first, "/sbin/init", 220 * MS),
    ]);
    assert_eq!(world.lines(60), [(Kind::Fork, None, None), (Kind::Exec, WEB, Some(Origin::Entrypoint))]);
    assert_eq!(world.pids_of(Kind::ContainerStart), [60]);
}

/// `docker run --pid=host`: no process is pid 1, and the host's pid namespace belongs to no container.
#[test]
fn a_container_in_the_hosts_pid_namespace_has_a_first_process_and_exec_too() {
    let mut world = World::new();
    let inside = Location { inside: None, ..IN_CONTAINER };
    let [stage, first] = [task(51, 150 * MS), FIRST];
    world.apply([
        ON_HOST.forks(RUNC, SHELL),
        ON_HOST.runs(RUNC, "runc run web", 110 * MS),
        cgroup(raw::CGROUP_MADE, INSIDE, "/web", RUNC, 120 * MS),
        ON_HOST.forks(stage, RUNC),
        ON_HOST.runs(stage, "runc init", 155 * MS),
        cgroup(raw::CGROUP_JOINED, INSIDE, "/web", stage, 160 * MS),
        inside.forks(first, stage),
        inside.runs(first, "sleep 300", 220 * MS),
        inside.forks(task(62, 230 * MS), first),
        ON_HOST.forks(task(80, 300 * MS), SHELL),
        ON_HOST.runs(task(80, 300 * MS), "runc exec web sh", 310 * MS),
        ON_HOST.forks(task(81, 320 * MS), task(80, 300 * MS)),
        ON_HOST.runs(task(81, 320 * MS), "runc init", 325 * MS),
        cgroup(raw::CGROUP_JOINED, INSIDE, "/web", task(81, 320 * MS), 330 * MS),
        inside.forks(task(82, 340 * MS), task(81, 320 * MS)),
        inside.runs(task(82, 340 * MS), "sh", 350 * MS),
        inside.ends(first, 400 * MS),
        inside.ends(task(82, 340 * MS), 401 * MS),
        cgroup(raw::CGROUP_REMOVED, INSIDE, "/web", RUNC, 500 * MS),
    ]);
    assert_eq!(world.pids_of(Kind::ContainerStart), [60]);
    assert_eq!(world.pids_of(Kind::ContainerExec), [82]);
    assert_eq!(world.pids_of(Kind::ContainerExit).len(), 1);
    assert_eq!(world.lines(62)[0].2, Some(Origin::Entrypoint));
    assert_eq!(world.lines(82).last().unwrap().2, Some(Origin::Exec));
}

/// The number of a removed namespace is soon used again.
#[test]
fn namespaces_are_a_containers_only_while_its_first_process_lives() {
    let mut world = World::with_container();
    let [before, after] = [task(70, 300 * MS), task(71, 400 * MS)];
    let joined = Location { mnt_ns: MOUNTS, ..ON_HOST };
    world.apply([
        ON_HOST.forks(before, SHELL),
        joined.runs(before, "sh", 310 * MS),
        IN_CONTAINER.ends(FIRST, 390 * MS),
        ON_HOST.forks(after, SHELL),
        joined.runs(after, "unshare -m sh", 410 * MS),
        joined.runs(before, "ls", 420 * MS),
    ]);
    assert_eq!(world.lines(71), [(Kind::Fork, None, None), (Kind::Exec, None, None)]);
    assert_eq!(world.lines(70).last(), Some(&(Kind::Exec, WEB, HOST_ORIGIN)), "it was there before");
}

#[test]
fn a_container_without_separate_namespaces_has_no_process_by_them() {
    let mut world = World::new();
    let own = Location { mnt_ns: HOST, ..IN_CONTAINER };
    world.apply([
        ON_HOST.forks(RUNC, SHELL),
        ON_HOST.runs(RUNC, "runc run web", 110 * MS),
        cgroup(raw::CGROUP_MADE, INSIDE, "/web", RUNC, 120 * MS),
        Location { inside: Some((PIDS, 1)), ..own }.forks(FIRST, RUNC),
        own.runs(FIRST, "sleep 300", 220 * MS),
        ON_HOST.forks(task(70, 300 * MS), SHELL),
        ON_HOST.runs(task(70, 300 * MS), "ls", 310 * MS),
    ]);
    assert_eq!(world.lines(70), [(Kind::Fork, None, None), (Kind::Exec, None, None)]);
}

#[test]
fn origins_of_running_processes_are_found() {
    let mut world = World::new();
    world.table.name_containers([tracer::enrich::runtime_state::RuntimeState {
        id: "web".into(),
        runtime: "runc",
        cgroup: "/web".into(),
        bundle: None,
    }]);
    world.table.learn_cgroups([(INSIDE, "/web".to_owned())]);
    let shim = task(49, 100 * MS);
    let first = Location { inside: Some((PIDS, 1)), ..IN_CONTAINER };
    let by_mounts = Location { mnt_ns: MOUNTS, ..ON_HOST };
    let [entered, put_in, child, orphan, exec_child] =
        [70, 71, 72, 73, 74].map(|pid| task(pid, u64::from(pid) * 10 * MS));
    let old = task(39, 15 * MS);
    let seeds = vec![
        ON_HOST.found(shim, INIT, "containerd-shim"),
        first.found(FIRST, shim, "sleep 300"),
        // It is older than the container, so it entered later.
        by_mounts.found(old, SHELL, "sh"),
        Location { cgroup: OUTSIDE, ..IN_CONTAINER }.found(entered, SHELL, "sh"),
        IN_CONTAINER.found(put_in, shim, "sh"),
        Location { cgroup: INSIDE, ..ON_HOST }.found(child, SHELL, "sh"),
        IN_CONTAINER.found(orphan, FIRST, "daemon"),
        IN_CONTAINER.found(exec_child, put_in, "ls"),
    ];
    world.table.seed(seeds, &mut world.events);
    for (pid, origin) in [
        (60, Some(Origin::Entrypoint)),
        (39, HOST_ORIGIN),
        (70, HOST_ORIGIN),
        (71, Some(Origin::Exec)),
        (72, HOST_ORIGIN),
        (73, None),
        (74, Some(Origin::Exec)),
    ] {
        assert_eq!(world.lines(pid), [(Kind::Process, WEB, origin)], "{pid}");
    }
    assert_eq!(world.lines(49), [(Kind::Process, None, None)]);
    // New processes get their origin from that.
    let nsenter = task(80, 900 * MS);
    world.apply([ON_HOST.forks(nsenter, SHELL), by_mounts.runs(nsenter, "sh", 910 * MS)]);
    assert_eq!(world.lines(80).last(), Some(&(Kind::Exec, WEB, HOST_ORIGIN)));
}

/// A container that was created but not started yet, as `runc create` leaves it.
#[test]
fn a_container_that_was_only_created_starts_with_its_exec() {
    let mut world = World::new();
    world.table.name_containers([tracer::enrich::runtime_state::RuntimeState {
        id: "web".into(),
        runtime: "runc",
        cgroup: "/web".into(),
        bundle: None,
    }]);
    world.table.learn_cgroups([(INSIDE, "/web".to_owned())]);
    let first = Location { inside: Some((PIDS, 1)), ..IN_CONTAINER };
    world.table.seed(vec![first.found(FIRST, INIT, "runc init")], &mut world.events);
    assert!(world.pids_of(Kind::ContainerStart).is_empty());
    world.apply([IN_CONTAINER.runs(FIRST, "sleep 300", 900 * MS)]);
    assert_eq!(world.pids_of(Kind::ContainerStart), [60]);
}

/// A lost exit of the first process ends the container too.
#[test]
fn a_missed_exit_of_the_first_process_ends_the_container() {
    let mut world = World::with_container();
    let none = raw::TaskRef::default();
    let alive = vec![ON_HOST.found(INIT, none, "init"), ON_HOST.found(SHELL, INIT, "sh")];
    world.table.resync(alive, &rustc_hash::FxHashSet::default(), 500 * MS, &mut world.events);
    let end = world.events.iter().find(|event| event.kind() == Kind::ContainerExit).unwrap();
    let end = end.container().unwrap().end.as_ref().unwrap();
    assert_eq!((end.code, end.signal.as_deref(), end.lifetime_ns), (None, None, Some(300 * MS)));
}
