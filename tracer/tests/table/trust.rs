//! What a command line proves: nothing, unless root executed the runtime that it names, outside of all containers.

use tracer::enrich::info::{Info, InfoReply, InfoRequest};
use tracer::event::Kind;
use tracer::record::Record;
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{MS, task};
use crate::origins::{FIRST, IN_CONTAINER, INIT, INSIDE, Location, ON_HOST, RUNC, SHELL, World, cgroup, image_of};

/// A fork into a pid namespace that no container has yet.
const APART: Location = Location { mnt_ns: 10, inside: Some((40, 1)), ..ON_HOST };

const FAKE: raw::TaskRef = raw::TaskRef { start_ns: 300 * MS, tgid: 70, tid: 70 };
const CHILD: raw::TaskRef = raw::TaskRef { start_ns: 320 * MS, tgid: 71, tid: 71 };

/// Returns a process with a runtime's command line and these ids before and after its exec. Its real program is
/// `program`.
fn claims(before: u32, [uid, euid]: [u32; 2], program: &str, argv: &str) -> [Record; 2] {
    let Record::Exec(mut exec) = ON_HOST.runs(FAKE, argv, 310 * MS) else { panic!("an exec") };
    (exec.raw.old_euid, exec.raw.ids.uid, exec.raw.ids.euid) = (before, uid, euid);
    let argv = exec.image.argv.clone();
    exec.image = image_of(program);
    std::sync::Arc::make_mut(&mut exec.image).argv = argv;
    [ON_HOST.forks(FAKE, SHELL), Record::Exec(exec)]
}

fn assert_no_container(mut world: World, records: [Record; 2], why: &str) {
    let before = world.events.len();
    world.apply(records);
    world.apply([
        APART.forks(CHILD, FAKE),
        APART.runs(CHILD, "sleep 5", 330 * MS),
        APART.ends(CHILD, 340 * MS),
        ON_HOST.ends(FAKE, 341 * MS),
    ]);
    for event in &world.events[before..] {
        assert!(event.container().is_none(), "{why}: {event:?}");
        assert!(event.process.as_ref().is_none_or(|process| process.container_id().is_none()), "{why}: {event:?}");
    }
}

#[test]
fn a_command_line_alone_puts_no_process_into_a_container() {
    for line in ["runc create web", "runc exec web sh", "crun run web", "/usr/bin/runc create other"] {
        for (before, ids, program, why) in [
            (1000, [1000, 1000], "runc", "a user's"),
            (1000, [1000, 0], "runc", "set-user-ID"),
            (1000, [0, 0], "runc", "set-user-ID, and all ids"),
            (0, [0, 1000], "runc", "root's that is a user's now"),
            (0, [0, 0], "unshare", "root's, of another program"),
        ] {
            let records = claims(before, ids, program, line);
            assert_no_container(World::with_container(), records, &format!("{line}, {why}"));
        }
    }
    // The same of root: then the claim is true.
    let mut world = World::with_container();
    world.apply(claims(0, [0, 0], "runc", "runc exec web sh"));
    world.apply([APART.forks(CHILD, FAKE)]);
    assert_eq!(world.lines(71)[0].1, Some("web"));
}

#[test]
fn a_program_with_the_set_user_id_bit_does_not_pass_its_command_line_on() {
    let mut world = World::with_container();
    world.apply(claims(1000, [1000, 0], "runc", "runc create web"));
    let stage = task(72, 315 * MS);
    // By now all of its ids are root's.
    world.apply([ON_HOST.forks(stage, FAKE), APART.forks(CHILD, stage), APART.ends(CHILD, 330 * MS)]);
    assert!(world.lines(71).iter().all(|(_, container, _)| container.is_none()));
}

#[test]
fn a_runtime_inside_a_container_proves_nothing_by_its_command_line() {
    let mut world = World::with_container();
    let [fake, child] = [task(70, 300 * MS), task(71, 320 * MS)];
    let deeper = Location { inside: Some((40, 1)), ..IN_CONTAINER };
    world.apply([
        IN_CONTAINER.forks(fake, FIRST),
        IN_CONTAINER.runs(fake, "runc create victim", 310 * MS),
        deeper.forks(child, fake),
        deeper.runs(child, "sleep 5", 330 * MS),
    ]);
    assert!(world.lines(71).iter().all(|(_, container, _)| *container == Some("web")));
}

fn bundles(asks: &[InfoRequest], wanted: &str) -> Vec<(String, u32)> {
    let of = asks.iter().filter_map(|ask| match ask {
        InfoRequest::LookUp { id, bundle: Some(bundle), .. } if **id == *wanted => {
            Some((bundle.path.to_string(), bundle.runtime.pid()))
        }
        _ => None,
    });
    of.collect()
}

fn looking() -> TableOptions {
    TableOptions { look_up: true, ..TableOptions::default() }
}

/// `runc run -b OTHER web` while web runs: runc refuses, and so its bundle describes nothing.
#[test]
fn a_command_that_fails_describes_nothing() {
    let mut world = World::with_container_and(looking());
    let first = world.table.take_requests(0);
    assert!(bundles(&first, "web").iter().all(|(path, pid)| path == "/w" && *pid == RUNC.tgid), "{first:?}");
    assert!(!bundles(&first, "web").is_empty());
    world.apply(claims(0, [0, 0], "runc", "runc run -b /other web"));
    assert_eq!(bundles(&world.table.take_requests(0), "web"), []);
    // Its cgroup is gone: a new container can be made.
    world.apply([
        IN_CONTAINER.ends(FIRST, 400 * MS),
        cgroup(raw::CGROUP_REMOVED, INSIDE, "/web", RUNC, 401 * MS),
        ON_HOST.runs(FAKE, "runc run -b /other web", 402 * MS),
    ]);
    assert_eq!(bundles(&world.table.take_requests(0), "web"), [("/other".into(), FAKE.tgid)]);
}

/// If two runtimes try to make a container of one id at the same time, the one that made it describes it.
#[test]
fn the_runtime_that_succeeds_describes_the_container() {
    let mut world = World::with(looking());
    world.apply([ON_HOST.forks(RUNC, SHELL), ON_HOST.runs(RUNC, "runc run -b /good web", 110 * MS)]);
    world.apply(claims(0, [0, 0], "runc", "runc run -b /bad web"));
    let asks = world.table.take_requests(0);
    assert_eq!(bundles(&asks, "web").last(), Some(&("/bad".into(), FAKE.tgid)));
    let info = Info { hostname: Some("bad".into()), ..Info::default() };
    let answer = InfoReply { id: "web".into(), info: Some(info.into()), last: false, peak_memory_bytes: None };
    world.table.apply_reply(answer, 0, &mut world.events);
    world.apply([cgroup(raw::CGROUP_MADE, INSIDE, "/web", RUNC, 320 * MS)]);
    assert_eq!(bundles(&world.table.take_requests(0), "web"), [("/good".into(), RUNC.tgid)]);
    assert!(world.events.iter().any(|event| event.kind() == Kind::ContainerCreate));
    assert!(world.events.iter().all(|event| event.kind() != Kind::ContainerInfo), "the other bundle is dropped");
}

/// crun works in a fork of itself, which joins the cgroup with the command line of its parent. That fork reports nothing new.
#[test]
fn a_fork_of_the_runtime_describes_nothing_else() {
    let mut world = World::with(looking());
    let first = Location { inside: Some((30, 1)), ..ON_HOST };
    world.apply([ON_HOST.forks(RUNC, SHELL), ON_HOST.runs(RUNC, "crun run -b /b web", 110 * MS)]);
    let info = Info { hostname: Some("box".into()), ..Info::default() };
    let answer = InfoReply { id: "web".into(), info: Some(info.into()), last: false, peak_memory_bytes: None };
    world.table.apply_reply(answer, 0, &mut world.events);
    world.apply([
        cgroup(raw::CGROUP_MADE, INSIDE, "/web", RUNC, 120 * MS),
        first.forks(FIRST, RUNC),
        cgroup(raw::CGROUP_JOINED, INSIDE, "/web", FIRST, 210 * MS),
        IN_CONTAINER.runs(FIRST, "sh", 220 * MS),
    ]);
    let asks = bundles(&world.table.take_requests(0), "web");
    assert!(asks.iter().all(|ask| *ask == ("/b".into(), RUNC.tgid)), "{asks:?}");
    let start = world.events.iter().find(|event| event.kind() == Kind::ContainerStart).expect("it started");
    assert_eq!(start.container().unwrap().hostname.as_deref(), Some("box"));
}

/// `podman run --cgroups=disabled`: the container is in the cgroup of its creator.
#[test]
fn a_container_without_a_cgroup_has_a_whole_life() {
    let mut world = World::with(looking());
    let first = Location { mnt_ns: 20, inside: Some((30, 1)), ..ON_HOST };
    let child = task(61, 230 * MS);
    world.apply([
        ON_HOST.forks(RUNC, SHELL),
        ON_HOST.runs(RUNC, "crun create -b /b web", 110 * MS),
        first.forks(FIRST, RUNC),
    ]);
    let info = Info { hostname: Some("box".into()), ..Info::default() };
    let answer = InfoReply { id: "web".into(), info: Some(info.into()), last: false, peak_memory_bytes: None };
    world.table.apply_reply(answer, 0, &mut world.events);
    world.apply([
        first.runs(FIRST, "sh", 220 * MS),
        Location { inside: Some((30, 2)), ..first }.forks(child, FIRST),
        first.ends(child, 240 * MS),
        first.ends(FIRST, 250 * MS),
    ]);
    let last = world.table.take_requests(0).into_iter().find_map(|ask| match ask {
        InfoRequest::Final { id, cgroup } => Some((id, cgroup)),
        _ => None,
    });
    assert_eq!(last, Some(("web".into(), None)), "the memory of that cgroup is not the container's");
    let answer = InfoReply { id: "web".into(), info: None, last: true, peak_memory_bytes: None };
    world.table.apply_reply(answer, 0, &mut world.events);
    let life: Vec<Kind> =
        world.events.iter().filter(|event| event.container().is_some()).map(tracer::event::Event::kind).collect();
    let wanted =
        [Kind::ContainerCreate, Kind::ContainerInfo, Kind::ContainerStart, Kind::ContainerExit, Kind::ContainerRemove];
    assert_eq!(life, wanted);
    assert!(world.lines(61).iter().all(|(_, container, _)| *container == Some("web")), "{:?}", world.lines(61));
}

/// `runc --root ELSEWHERE run -d web` before tracing began: no file names it, but its namespaces and its cgroup do.
#[test]
fn a_container_that_no_file_names_is_found_by_its_cgroup() {
    let first = Location { inside: Some((30, 1)), ..IN_CONTAINER };
    let seen = |path: &str, more: &[(Location, raw::TaskRef)]| {
        let mut world = World::with(TableOptions::default());
        world.table.learn_cgroups([(INSIDE, path.to_owned())]);
        let mut seeds = vec![first.found(FIRST, INIT, "sleep 300")];
        seeds.extend(more.iter().map(|(place, task)| place.found(*task, INIT, "sh")));
        for seed in &mut seeds {
            seed.process.cgroup = Some(path.into());
        }
        world.table.seed(seeds, &mut world.events);
        world.lines(FIRST.tgid)[0].1.map(ToOwned::to_owned)
    };
    assert_eq!(seen("/web", &[]).as_deref(), Some("web"));
    assert_eq!(seen("/part/web", &[(IN_CONTAINER, task(62, 210 * MS))]).as_deref(), Some("web"));
    assert_eq!(seen("/system.slice/foo.service", &[]), None, "a service can have namespaces too");
    assert_eq!(seen("/", &[]), None);
    let beside = Location { cgroup: INSIDE, ..ON_HOST };
    assert_eq!(seen("/web", &[(beside, task(62, 210 * MS))]), None, "a process from outside is in it");
}
