use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::{ContainerEnd, ProcessContainer, Provenance};

const S: i64 = 1_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000 * S + seconds * S)
}

fn process(pid: u32, container: Option<&str>, argv: &str) -> Process {
    let mut process = Process::new(ProcessId::from_ticks(100 * u64::from(pid), pid), Provenance::Kernel);
    process.container = container.map(|id| Arc::new(ProcessContainer::new(id.into())));
    process.cgroup = container.map(|id| format!("/docker/{id}").into());
    process.image_mut().argv = Some(argv.split(' ').collect());
    process.start_time = Some(at(i64::from(pid)));
    process
}

fn line(kind: Kind, seconds: i64, process: Process) -> Event {
    // A snapshot has no time of the boot clock.
    let boot_ns = (kind != Kind::Process).then_some((seconds * S) as u64);
    Event { process: Some(process), boot_ns, ..Event::new(kind.into(), at(seconds)) }
}

fn about(kind: Kind, seconds: i64, id: &str, change: impl FnOnce(&mut Container)) -> Event {
    let mut event = Event::new(kind.into(), at(seconds));
    let container = event.detail.container_mut().unwrap();
    *container = Container::new(id.into(), format!("/docker/{id}").into());
    container.engine = Some("docker".into());
    change(container);
    event.boot_ns = Some((seconds * S) as u64);
    event
}

fn roster(events: &[Event]) -> Roster {
    let mut roster = Roster::new(0);
    for event in events {
        roster.apply(event);
    }
    roster
}

fn only(frame: RosterFrame) -> Listed {
    let mut all = frame.containers;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn ended(container: &mut Container) {
    container.end =
        Some(ContainerEnd { code: Some(3), processes: 4, execs: 2, lifetime_ns: Some(5), ..Default::default() });
}

#[test]
fn a_container_is_tracked_from_creation_to_removal() {
    let web = Some("web");
    let mut roster = roster(&[
        about(Kind::ContainerCreate, 9, "web", |_| {}),
        line(Kind::Fork, 10, process(10, web, "runc init")),
        line(Kind::Exec, 10, process(10, web, "runc init")),
    ]);
    let first = only(roster.first(11 * S as u64, at(11)));
    assert_eq!(
        (first.state, first.created, first.started, first.up_ns),
        (ContainerState::Created, Some(at(9)), None, None)
    );
    assert_eq!((first.processes, first.execs_ever), (1, 0), "the runtime's own exec does not count");
    let start = Event { process: Some(process(10, web, "sh")), ..about(Kind::ContainerStart, 12, "web", |_| {}) };
    for event in [
        about(Kind::ContainerInfo, 11, "web", |container| {
            container.name = Some("blog".into());
            container.runtime = Some("runc".into());
        }),
        line(Kind::Exec, 12, process(10, web, "sh")),
        start,
        line(Kind::Fork, 13, process(11, web, "sh")),
        line(Kind::Exec, 13, process(11, web, "ls")),
        line(Kind::Exit, 14, process(11, web, "ls")),
    ] {
        roster.apply(&event);
    }
    let running = only(roster.tick(20 * S as u64, at(20)));
    assert_eq!((running.state, running.up_ns), (ContainerState::Running, Some(10 * S as u64)));
    assert_eq!((running.processes, running.processes_ever, running.execs_ever), (1, 2, 2));
    assert!((running.execs_per_second - 0.1).abs() < 1e-9);
    assert_eq!((&**running.called(), running.runtime().as_deref()), ("blog", Some("docker/runc")));
    for event in [
        line(Kind::Exit, 21, process(10, web, "sh")),
        about(Kind::ContainerExit, 21, "web", ended),
        about(Kind::ContainerRemove, 22, "web", |_| {}),
    ] {
        roster.apply(&event);
    }
    let gone = only(roster.tick(30 * S as u64, at(30)));
    assert_eq!(
        (gone.state, gone.removed, gone.ended, gone.up_ns),
        (ContainerState::Exited, true, Some(at(21)), Some(5))
    );
    assert_eq!((gone.status().as_deref(), gone.failed()), (Some("3"), true));
    assert_eq!((gone.processes, gone.processes_ever, gone.execs_per_second), (0, 4, 0.0));
    assert_eq!(&**gone.called(), "blog", "known facts are kept");
    // Created again it is another container. Its name is not reported again.
    roster.apply(&about(Kind::ContainerCreate, 40, "web", |_| {}));
    let again = only(roster.first(41 * S as u64, at(41)));
    assert_eq!(
        (again.state, again.removed, again.status(), again.processes_ever),
        (ContainerState::Created, false, None, 0)
    );
    assert_eq!(&**again.called(), "blog");
}

#[test]
fn uptime_does_not_depend_on_the_wall_clock() {
    let mut roster = roster(&[
        Event { process: Some(process(10, Some("web"), "sh")), ..about(Kind::ContainerStart, 10, "web", |_| {}) },
        line(Kind::Process, 11, process(7, Some("old"), "sh")),
    ]);
    for step in [3600, -3600] {
        let frame = roster.tick(20 * S as u64, at(20 + step));
        let up: BTreeMap<_, _> = frame.containers.iter().map(|one| (&*one.container.id, one.up_ns)).collect();
        assert_eq!(up, BTreeMap::from([("old", Some(13 * S as u64)), ("web", Some(10 * S as u64))]), "{step}");
    }
    let end = Event { time: at(-3580), ..about(Kind::ContainerExit, 20, "web", |_| {}) };
    roster.apply(&end);
    let up: Vec<_> =
        roster.last().containers.iter().filter(|one| &*one.container.id == "web").map(|one| one.up_ns).collect();
    assert_eq!(up, [Some(10 * S as u64)]);
}

#[test]
fn running_containers_are_found_by_their_processes() {
    let id = "a".repeat(64);
    let mut host = process(30, Some(&id), "sh");
    host.origin = Some(Origin::Host);
    host.cgroup = Some("/user.slice".into());
    let mut stage = process(40, Some("other"), "runc init");
    stage.cgroup = Some("/other".into());
    let roster = roster(&[
        line(Kind::Process, 50, host),
        line(Kind::Process, 50, process(32, Some(&id), "nginx")),
        line(Kind::Process, 50, process(31, Some(&id), "nginx")),
        line(Kind::Process, 50, stage),
    ]);
    let mut all = roster.first(60 * S as u64, at(60)).containers;
    all.sort_by_key(|one| one.processes);
    let [created, running] = &all[..] else { panic!("{all:?}") };
    assert_eq!((running.state, running.started, running.processes), (ContainerState::Running, Some(at(31)), 3));
    assert_eq!(running.runtime().as_deref(), Some("docker"));
    assert_eq!(&*running.container.cgroup, format!("/docker/{id}"), "not that of the process from outside");
    assert_eq!((created.state, &*created.container.cgroup), (ContainerState::Created, "/other"));
}

#[test]
fn a_container_that_never_started_was_removed() {
    let roster =
        roster(&[about(Kind::ContainerCreate, 1, "web", |_| {}), about(Kind::ContainerRemove, 2, "web", |_| {})]);
    let one = only(roster.first(3 * S as u64, at(3)));
    assert_eq!((one.state, one.status(), one.failed()), (ContainerState::Removed, None, false));
}

#[test]
fn ended_containers_are_kept_up_to_a_bound_and_living_ones_all() {
    let mut roster = Roster::default();
    for n in 0..GONE_KEPT + 20 {
        let id = format!("c{n}");
        roster.apply(&about(Kind::ContainerCreate, 1, &id, |_| {}));
        if n >= 10 {
            roster.apply(&about(Kind::ContainerExit, 2, &id, ended));
            roster.apply(&about(Kind::ContainerRemove, 2, &id, |_| {}));
        }
    }
    let all = roster.first(3 * S as u64, at(3)).containers;
    assert_eq!(all.iter().filter(|one| one.state == ContainerState::Created).count(), 10);
    assert_eq!(all.len(), 10 + GONE_KEPT);
    let known = |id: &str| all.iter().any(|one| &*one.container.id == id);
    assert!(!known("c10") && !known("c19") && known("c20"), "the oldest go first");
}

#[test]
fn a_recording_is_one_interval() {
    let mut roster = Roster::default();
    for line in include_str!("../../../tests/captures/docker.jsonl").lines() {
        roster.apply(&serde_json::from_str(line).unwrap());
    }
    let one = only(roster.last());
    assert_eq!((one.state, one.status().as_deref(), one.removed), (ContainerState::Exited, Some("0"), true));
    assert_eq!(one.runtime().as_deref(), Some("docker/runc"));
    let called = (one.container.name.as_deref(), one.container.image.as_deref());
    assert_eq!(called, (Some("web"), Some("shop:1")));
    assert_eq!((one.processes, one.execs_ever), (0, one.container.end.as_ref().unwrap().execs));
    assert!(one.execs_per_second > 0.0 && one.interval_ns > 0);
}

proptest! {
    /// A process is where its last event says, whatever came before.
    #[test]
    fn each_process_is_in_one_container(lines in proptest::collection::vec((0u8..5, 1u32..8, 0u8..4), 0..80)) {
        let mut roster = Roster::default();
        let mut model: BTreeMap<u32, &str> = BTreeMap::new();
        let mut entered: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, pid, place) in lines {
            let container = ["", "a", "b", "c"][usize::from(place)];
            let inside = Some(container).filter(|container| !container.is_empty());
            let kind = [Kind::Process, Kind::Fork, Kind::Exec, Kind::Exit, Kind::Reparent][usize::from(kind)];
            roster.apply(&line(kind, 1, process(pid, inside, "sh")));
            let before = match inside.filter(|_| kind != Kind::Exit) {
                Some(container) => model.insert(pid, container),
                None => model.remove(&pid),
            };
            if let Some(container) = inside.filter(|_| kind != Kind::Exit && before != inside) {
                *entered.entry(container).or_default() += 1;
            }
        }
        for one in roster.first(2 * S as u64, at(2)).containers {
            let id = &*one.container.id;
            prop_assert_eq!(one.processes, model.values().filter(|of| **of == id).count() as u64);
            prop_assert_eq!(one.processes_ever, entered[id]);
        }
    }
}
