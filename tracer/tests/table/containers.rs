//! The totals at the exit of a container, summed from exits with known usage.

use std::sync::Arc;

use tracer::enrich::info::{Info, InfoReply, InfoRequest};
use tracer::event::{ContainerEnd, Event, Kind, Kubernetes, ProcessContainer};
use tracer::record::Record;
use tracer::table::TableOptions;
use tracer_common::record as raw;

use crate::kit::{MS, exit, exited, task};
use crate::origins::{FIRST, IN_CONTAINER, INSIDE, Location, ON_HOST, RUNC, SHELL, World, cgroup};

const PAGE: u64 = 4096;

/// A process exits with this status, after this CPU time in user mode and in the kernel. The children that it reaped
/// used `cutime`. Its peak memory is given in pages.
fn exits_with_usage(
    task: raw::TaskRef,
    boot_ns: u64,
    status: u32,
    own: [u64; 2],
    children: [u64; 2],
    pages: u64,
) -> Record {
    let [utime, stime] = own;
    let [cutime, cstime] = children;
    // The children's peak is separate: 9999 pages belong to no process here.
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

/// The entrypoint, two children of which one reaped the other, one by `runc exec`, and one from outside. Each counts
/// once, for its own usage.
#[test]
fn its_exit_sums_the_own_usage_of_its_processes() {
    let mut world = World::with_container();
    let stage = task(51, 150 * MS);
    let [child, grandchild, other, outside] = [70, 71, 72, 73].map(|pid| task(pid, u64::from(pid) * 10 * MS));
    let by_exec = [(80, 800), (81, 805)].map(|(pid, at)| task(pid, at * MS));
    let inside = |pid| Location { inside: Some((30, pid)), ..IN_CONTAINER };
    world.apply([
        exits_with_usage(stage, 230 * MS, 0, [2 * MS, MS], [0, 0], 30),
        inside(10).forks(child, FIRST),
        IN_CONTAINER.runs(child, "make", 702 * MS),
        inside(11).forks(grandchild, child),
        IN_CONTAINER.runs(grandchild, "cc", 712 * MS),
        // A process outside is not counted.
        ON_HOST.forks(outside, SHELL),
        exits_with_usage(grandchild, 715 * MS, 0, [7 * MS, 3 * MS], [0, 0], 50),
        inside(12).forks(other, FIRST),
        ON_HOST.runs(by_exec[0], "runc exec web ls", 801 * MS),
        exits_with_usage(other, 802 * MS, 9, [100, 23], [0, 0], 5),
        exits_with_usage(child, 803 * MS, 0, [20 * MS, 4 * MS], [7 * MS, 3 * MS], 60),
        ON_HOST.forks(by_exec[0], SHELL),
        inside(13).forks(by_exec[1], by_exec[0]),
        IN_CONTAINER.runs(by_exec[1], "ls", 810 * MS),
        exits_with_usage(by_exec[1], 820 * MS, 1 << 8, [MS, 2 * MS], [0, 0], 70),
        // In the container it would have the largest peak.
        exited(raw::Exit {
            usage: raw::Usage { utime: 500 * MS, runtime: 500 * MS, maxrss_pages: 7000, ..raw::Usage::default() },
            ..exit(outside, SHELL, 830 * MS)
        }),
    ]);
    assert!(ends(&world).is_empty(), "it runs");
    world.apply([exits_with_usage(FIRST, 900 * MS, 3 << 8, [1000 * MS, 200 * MS], [20 * MS, 4 * MS], 40)]);
    let wanted = ContainerEnd {
        code: Some(3),
        signal: None,
        init_id: Some(tracer::event::id::ProcessId::from_ns(FIRST.start_ns, FIRST.tgid)),
        lifetime_ns: Some(900 * MS - FIRST.start_ns),
        // Its creator's stage and its hook (`World::with_container`), the entrypoint, three below that, and one by
        // exec.
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
    assert_eq!(ends(&world).len(), 1, "reported once");
}

/// Its lifetime is that of its first process, even if others outlive that. The sums contain all of them.
#[test]
fn processes_that_outlive_the_first_are_in_the_sums() {
    let mut world = World::with_container();
    let late = task(70, 700 * MS);
    world.apply([
        Location { inside: Some((30, 10)), ..IN_CONTAINER }.forks(late, FIRST),
        exits_with_usage(FIRST, 800 * MS, 9, [5 * MS, 5 * MS], [0, 0], 10),
    ]);
    assert!(ends(&world).is_empty(), "one still runs");
    // runc's stage, which forked the first process, may be reaped even later.
    let stage = task(51, 150 * MS);
    world.apply([
        exits_with_usage(late, 850 * MS, 9, [2 * MS, MS], [0, 0], 20),
        exits_with_usage(stage, 860 * MS, 0, [MS, MS], [0, 0], 1),
        cgroup(raw::CGROUP_REMOVED, INSIDE, "/web", RUNC, 950 * MS),
    ]);
    let [end] = ends(&world)[..] else { panic!("one exit") };
    assert_eq!((end.signal.as_deref(), end.lifetime_ns), (Some("SIGKILL"), Some(600 * MS)));
    assert_eq!((end.user_ns, end.system_ns, end.max_rss_bytes), (8 * MS, 7 * MS, 20 * PAGE));
}

/// A source that takes the records late sends the query late, and the timeout starts then.
#[test]
fn its_exit_waits_for_an_answer_from_the_query_on() {
    let ended = || {
        let mut world = World::with_container_and(TableOptions { look_up: true, ..TableOptions::default() });
        world.apply([
            exits_with_usage(task(51, 150 * MS), 230 * MS, 0, [MS, MS], [0, 0], 1),
            exits_with_usage(FIRST, 900 * MS, 0, [MS, MS], [0, 0], 1),
        ]);
        world
    };
    let mut world = ended();
    let late = 5000 * MS;
    let asks = world.table.take_requests(late);
    assert!(asks.iter().any(|ask| matches!(ask, InfoRequest::Final { id, .. } if &**id == "web")), "{asks:?}");
    world.table.tick(late, &mut world.events);
    assert!(ends(&world).is_empty(), "the query was sent just now");
    let answer = InfoReply { id: "web".into(), info: None, last: true, peak_memory_bytes: Some(4711) };
    world.table.apply_reply(answer, late + 1, &mut world.events);
    assert_eq!(ends(&world).iter().map(|end| end.peak_memory_bytes).collect::<Vec<_>>(), [Some(4711)]);

    let mut world = ended();
    // A query that is repeated because the queue was full does not restart the timeout.
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
    let inside = |pid| Location { inside: Some((30, pid)), ..IN_CONTAINER };
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
        inside(10).forks(child, FIRST),
        IN_CONTAINER.runs(child, "make", 702 * MS),
        exits_with_usage(child, 803 * MS, 0, [MS, MS], [0, 0], 6),
        exits_with_usage(FIRST, 900 * MS, 0, [MS, MS], [0, 0], 1),
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
