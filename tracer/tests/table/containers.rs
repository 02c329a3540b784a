//! What is summed up at the end of a container, from exits whose usage is known.

use std::sync::Arc;

use tracer::enrich::info::{Info, InfoReply, InfoRequest};
use tracer::event::{ContainerEnd, Event, Kind, Kubernetes, ProcessContainer};
use tracer::record::Record;
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{MS, exit, exited, task};
use crate::origins::{FIRST, IN_CONTAINER, INSIDE, ON_HOST, Place, RUNC, SHELL, World, cgroup};

const PAGE: u64 = 4096;

/// It ends with this status, after so much time in user mode and in the kernel, when children that used as much as that had
/// been waited for; with this many pages at most.
fn ends_having_used(
    task: raw::TaskRef,
    boot_ns: u64,
    status: u32,
    own: [u64; 2],
    children: [u64; 2],
    pages: u64,
) -> Record {
    let [utime, stime] = own;
    let [cutime, cstime] = children;
    // A child's largest is the child's: 9999 pages are nobody's own here.
    let cmaxrss_pages = if cutime > 0 { 9999 } else { 0 };
    let usage = raw::Usage {
        utime,
        stime,
        runtime: utime + stime,
        cutime,
        cstime,
        maxrss_pages: pages,
        cmaxrss_pages,
        ..raw::Usage::default()
    };
    let ids = raw::Ids { cgroup: INSIDE, mnt_ns: 0, pid_ns: 0, ..exit(task, FIRST, boot_ns).ids };
    exited(raw::Exit { status, usage, ids, ..exit(task, FIRST, boot_ns) })
}

fn ends(world: &World) -> Vec<&ContainerEnd> {
    let of = world.events.iter().filter(|event| event.kind() == Kind::ContainerExit);
    of.map(|event| event.container().unwrap().end.as_ref().unwrap()).collect()
}

/// The entrypoint, two children of which one was waited for by the other, one that `runc exec` put there, and one from outside: each
/// counts once, for what it used itself.
#[test]
fn its_end_sums_up_what_each_of_its_processes_used_itself() {
    let mut world = World::with_container();
    let stage = task(51, 150 * MS);
    let [child, grandchild, other, outside] = [70, 71, 72, 73].map(|pid| task(pid, u64::from(pid) * 10 * MS));
    let by_exec = [(80, 800), (81, 805)].map(|(pid, at)| task(pid, at * MS));
    let inside = |pid| Place { inside: Some((30, pid)), ..IN_CONTAINER };
    world.apply([
        ends_having_used(stage, 230 * MS, 0, [2 * MS, MS], [0, 0], 30),
        inside(10).born(child, FIRST),
        IN_CONTAINER.runs(child, "make", 702 * MS),
        inside(11).born(grandchild, child),
        IN_CONTAINER.runs(grandchild, "cc", 712 * MS),
        // What runs beside it is not in it.
        ON_HOST.born(outside, SHELL),
        ends_having_used(grandchild, 715 * MS, 0, [7 * MS, 3 * MS], [0, 0], 50),
        inside(12).born(other, FIRST),
        ON_HOST.runs(by_exec[0], "runc exec web ls", 801 * MS),
        ends_having_used(other, 802 * MS, 9, [100, 23], [0, 0], 5),
        ends_having_used(child, 803 * MS, 0, [20 * MS, 4 * MS], [7 * MS, 3 * MS], 60),
        ON_HOST.born(by_exec[0], SHELL),
        inside(13).born(by_exec[1], by_exec[0]),
        IN_CONTAINER.runs(by_exec[1], "ls", 810 * MS),
        ends_having_used(by_exec[1], 820 * MS, 1 << 8, [MS, 2 * MS], [0, 0], 70),
        // Had it been in the container, it would be the largest.
        exited(raw::Exit {
            usage: raw::Usage { utime: 500 * MS, runtime: 500 * MS, maxrss_pages: 7000, ..raw::Usage::default() },
            ..exit(outside, SHELL, 830 * MS)
        }),
    ]);
    assert!(ends(&world).is_empty(), "it lives");
    world.apply([ends_having_used(FIRST, 900 * MS, 3 << 8, [1000 * MS, 200 * MS], [20 * MS, 4 * MS], 40)]);
    let wanted = ContainerEnd {
        code: Some(3),
        signal: None,
        init_id: Some(tracer::event::id::ProcessId::from_ns(FIRST.start_ns, FIRST.tgid)),
        lifetime_ns: Some(900 * MS - FIRST.start_ns),
        // Its maker's stage and its hook (`World::with_container`), the entrypoint, three below that, and one by exec.
        processes: 7,
        // The hook, the entrypoint, make, cc and ls.
        execs: 5,
        user_ns: (2 + 7 + 20 + 1 + 1000) * MS + 100,
        system_ns: (1 + 3 + 4 + 2 + 200) * MS + 23,
        max_rss_bytes: 70 * PAGE,
        peak_memory_bytes: None,
    };
    assert_eq!(ends(&world), [&wanted]);
    world.apply([cgroup(raw::CGROUP_REMOVED, INSIDE, "/web", RUNC, 950 * MS)]);
    assert_eq!(ends(&world).len(), 1, "told once");
}

/// Its lifetime is that of its first process, whoever is left longer, and the sums are of all of them.
#[test]
fn who_outlives_the_first_process_is_in_the_sums() {
    let mut world = World::with_container();
    let late = task(70, 700 * MS);
    world.apply([
        Place { inside: Some((30, 10)), ..IN_CONTAINER }.born(late, FIRST),
        ends_having_used(FIRST, 800 * MS, 9, [5 * MS, 5 * MS], [0, 0], 10),
    ]);
    assert!(ends(&world).is_empty(), "one is left");
    // runc's stage, which made the first process, may be waited for later still.
    let stage = task(51, 150 * MS);
    world.apply([
        ends_having_used(late, 850 * MS, 9, [2 * MS, MS], [0, 0], 20),
        ends_having_used(stage, 860 * MS, 0, [MS, MS], [0, 0], 1),
        cgroup(raw::CGROUP_REMOVED, INSIDE, "/web", RUNC, 950 * MS),
    ]);
    let [end] = ends(&world)[..] else { panic!("one end") };
    assert_eq!((end.signal.as_deref(), end.lifetime_ns), (Some("SIGKILL"), Some(600 * MS)));
    assert_eq!((end.user_ns, end.system_ns, end.max_rss_bytes), (8 * MS, 7 * MS, 20 * PAGE));
}

/// Who takes the records late asks late, and waits from then on.
#[test]
fn its_end_waits_for_an_answer_from_when_it_was_asked_for() {
    let ended = || {
        let mut world = World::with_container_and(TableOptions { look_up: true, ..TableOptions::default() });
        world.apply([
            ends_having_used(task(51, 150 * MS), 230 * MS, 0, [MS, MS], [0, 0], 1),
            ends_having_used(FIRST, 900 * MS, 0, [MS, MS], [0, 0], 1),
        ]);
        world
    };
    let mut world = ended();
    let late = 5000 * MS;
    let asks = world.table.take_requests(late);
    assert!(asks.iter().any(|ask| matches!(ask, InfoRequest::Final { id, .. } if &**id == "web")), "{asks:?}");
    world.table.tick(late, &mut world.events);
    assert!(ends(&world).is_empty(), "it was asked for just now");
    let answer = InfoReply { id: "web".into(), info: None, last: true, peak_memory_bytes: Some(4711) };
    world.table.apply_reply(answer, late + 1, &mut world.events);
    assert_eq!(ends(&world).iter().map(|end| end.peak_memory_bytes).collect::<Vec<_>>(), [Some(4711)]);

    let mut world = ended();
    // Asked for again where there was no room, it does not begin anew.
    let asks = world.table.take_requests(late);
    world.table.return_requests(asks);
    world.table.take_requests(late + 500 * MS);
    world.table.tick(late + 999 * MS, &mut world.events);
    assert!(ends(&world).is_empty());
    world.table.tick(late + 1000 * MS, &mut world.events);
    assert_eq!(ends(&world).len(), 1, "no answer");
}

/// From the answer on, every line of every process in the container has its names, and all share one copy of them.
#[test]
fn every_line_has_the_names_of_the_container_once_they_are_known() {
    let mut world = World::with_container_and(TableOptions { look_up: true, ..TableOptions::default() });
    let child = task(70, 700 * MS);
    let inside = |pid| Place { inside: Some((30, pid)), ..IN_CONTAINER };
    let kubernetes = Kubernetes { pod: Some("web-0".into()), namespace: Some("shop".into()), ..Kubernetes::default() };
    let info = Info {
        name: Some("front".into()),
        image: Some("nginx:1".into()),
        kubernetes: Some(kubernetes),
        ..Info::default()
    };
    let shown = |events: &[Event]| -> Vec<Arc<ProcessContainer>> {
        events.iter().filter_map(|event| event.process.as_ref()?.container.clone()).collect()
    };
    let before = shown(&world.events);
    assert!(!before.is_empty() && before.iter().all(|of| **of == ProcessContainer::new("web".into())), "{before:?}");

    world.events.clear();
    let answer = InfoReply { id: "web".into(), info: Some(info.into()), last: false, peak_memory_bytes: None };
    world.table.apply_reply(answer, 650 * MS, &mut world.events);
    world.apply([
        inside(10).born(child, FIRST),
        IN_CONTAINER.runs(child, "make", 702 * MS),
        ends_having_used(child, 803 * MS, 0, [MS, MS], [0, 0], 6),
        ends_having_used(FIRST, 900 * MS, 0, [MS, MS], [0, 0], 1),
    ]);
    for kind in [Kind::Fork, Kind::Exec, Kind::Exit] {
        assert!(world.events.iter().any(|event| event.kind() == kind), "{kind}");
    }
    let after = shown(&world.events);
    let wanted = ProcessContainer {
        id: "web".into(),
        name: Some("front".into()),
        image: Some("nginx:1".into()),
        pod: Some("web-0".into()),
        namespace: Some("shop".into()),
    };
    assert!(after.len() >= 4, "fork, exec and two exits: {after:?}");
    assert!(after.iter().all(|of| **of == wanted && Arc::ptr_eq(of, &after[0])), "{after:?}");
}
