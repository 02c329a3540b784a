use std::sync::Arc;

use proptest::prelude::*;

use super::parse::glob;
use super::*;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Event, Process, ProcessContainer, Provenance};

fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(7, pid)
}

fn event(kind: Kind, pid: u32, parent: u32) -> Event {
    let mut process = Process::new(id(pid), Provenance::Kernel);
    process.parent_id = Some(id(parent));
    let mut event = Event::new(kind.into(), Timestamp(0));
    event.process = Some(process);
    event
}

fn named(comm: &str, exe: &str, uid: u32, euid: Option<u32>) -> Event {
    let mut event = event(Kind::Exec, 1, 0);
    let process = event.process.as_mut().unwrap();
    process.image_mut().comm = Some(comm.into());
    process.image_mut().exe = Some(exe.into());
    (process.uid, process.euid) = (Some(uid), euid);
    event
}

fn filter(filter: impl Into<Filter>) -> Matcher {
    Matcher::new(&filter.into()).unwrap()
}

fn subtree(pids: &[u32]) -> Matcher {
    filter(Terms { trees: pids.to_vec(), ..Terms::default() })
}

/// An event of a process of this cgroup, unit and container.
fn placed(cgroup: &str, unit: Option<&str>, container: Option<&str>) -> Event {
    let mut event = event(Kind::Fork, 1, 0);
    let process = event.process.as_mut().unwrap();
    process.cgroup = Some(cgroup.into());
    (process.unit, process.container) =
        (unit.map(Into::into), container.map(|id| Arc::new(ProcessContainer::new(id.into()))));
    event
}

#[test]
fn places_are_containers_units_and_control_groups() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let mut container = filter(Terms { containers: texts(&["abc", "web"]), ..Terms::default() });
    assert!(container.admits(&placed("/", None, Some("abcdef"))) && container.admits(&placed("/", None, Some("web"))));
    assert!(!container.admits(&placed("/", None, Some("ab"))) && !container.admits(&placed("/abc", None, None)));
    let mut called = placed("/", None, Some("0123"));
    let shown = ProcessContainer { name: Some("web".into()), ..ProcessContainer::new("0123".into()) };
    called.process.as_mut().unwrap().container = Some(Arc::new(shown));
    assert!(container.admits(&called), "by its name");
    let mut unit = filter(Terms { units: vec![glob("ssh@*.service").unwrap()], ..Terms::default() });
    assert!(
        unit.admits(&placed("/", Some("ssh@1.service"), None)) && !unit.admits(&placed("/", Some("ssh.socket"), None))
    );
    let mut cgroup = filter(Terms { cgroups: texts(&["/a/b/"]), ..Terms::default() });
    assert!(cgroup.admits(&placed("/a/b", None, None)) && cgroup.admits(&placed("/a/b/c", None, None)));
    assert!(!cgroup.admits(&placed("/a/bc", None, None)) && !cgroup.admits(&event(Kind::Fork, 1, 0)));
    let mut all = filter(Terms { cgroups: texts(&["/"]), ..Terms::default() });
    assert!(all.admits(&placed("/x", None, None)) && all.admits(&placed("/", None, None)));
}

#[test]
fn nothing_asked_for_is_everything() {
    let mut filter = filter(Filter::default());
    assert!(Kind::ALL.iter().all(|&kind| filter.admits(&event(kind, 1, 0))));
    assert!(filter.admits(&Event::new(Kind::Fork.into(), Timestamp(0))));
}

#[test]
fn framing_passes_every_filter() {
    let kinds = vec![Kind::Exec];
    let mut filter =
        filter(Terms { trees: vec![1], uids: vec![1], comm: vec![glob("x").unwrap()], kinds, ..Terms::default() });
    for &kind in Kind::ALL {
        assert_eq!(filter.admits(&Event::new(kind.into(), Timestamp(0))), kind.is_framing(), "{kind}");
    }
}

#[test]
fn alternatives_of_one_option_and_all_options_together() {
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| glob(pattern).unwrap()).collect();
    let mut comm = filter(Terms { comm: globs(&["ssh*", "ba[st]h"]), ..Terms::default() });
    for (name, shown) in
        [("sshd", true), ("bash", true), ("bath", true), ("bach", false), ("ss", false), ("xsshd", false)]
    {
        assert_eq!(comm.admits(&named(name, "/x", 0, None)), shown, "{name}");
    }
    let mut exe = filter(Terms { exe: globs(&["/usr/{bin,sbin}/*", "*/python3*"]), ..Terms::default() });
    for (path, shown) in [
        ("/usr/bin/a/b", true),
        ("/usr/sbin/x", true),
        ("/opt/v/bin/python3.12", true),
        ("/bin/x", false),
        ("python", false),
    ] {
        assert_eq!(exe.admits(&named("x", path, 0, None)), shown, "{path}");
    }
    let spec = Terms { comm: globs(&["a"]), uids: vec![1000], kinds: vec![Kind::Exec, Kind::Exit], ..Terms::default() };
    let mut all = filter(spec);
    assert!(all.admits(&named("a", "/a", 1000, None)));
    assert!(all.admits(&named("a", "/a", 0, Some(1000))), "the effective user counts too");
    assert!(!all.admits(&named("a", "/a", 0, None)));
    assert!(!all.admits(&named("b", "/a", 1000, None)));
    let mut fork = named("a", "/a", 1000, None);
    fork.detail = Kind::Fork.into();
    assert!(!all.admits(&fork));
    let unknown = event(Kind::Exec, 1, 0);
    assert!(
        !exe.admits(&unknown) && !comm.admits(&unknown) && !all.admits(&unknown),
        "what is not known does not match"
    );
}

#[test]
fn descendants_stay_through_exec_and_a_change_of_parent() {
    let mut filter = subtree(&[10]);
    assert!(!filter.admits(&event(Kind::Process, 1, 0)));
    assert!(filter.admits(&event(Kind::Process, 10, 1)));
    assert!(filter.admits(&event(Kind::Fork, 11, 10)));
    assert!(filter.admits(&event(Kind::Fork, 12, 11)));
    assert!(!filter.admits(&event(Kind::Fork, 13, 1)));
    assert!(filter.admits(&event(Kind::Exec, 12, 11)));
    assert!(filter.admits(&event(Kind::Exit, 11, 10)));
    assert!(filter.admits(&event(Kind::Reparent, 12, 1)));
    assert!(filter.admits(&event(Kind::Fork, 14, 12)), "below one that was adopted from outside");
    assert!(filter.admits(&event(Kind::Exit, 12, 1)));
    assert!(!filter.admits(&event(Kind::Exec, 13, 1)));
}

#[test]
fn a_sibling_made_with_clone_parent_belongs_to_its_creator() {
    let mut filter = subtree(&[10]);
    assert!(filter.admits(&event(Kind::Process, 10, 1)));
    let mut sibling = event(Kind::Fork, 11, 1);
    sibling.process.as_mut().unwrap().creator_id = Some(id(10));
    assert!(filter.admits(&sibling));
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut filter = subtree(&[10]);
    assert!(filter.admits(&event(Kind::Process, 10, 1)));
    assert!(filter.admits(&event(Kind::Exit, 10, 1)));
    let mut later = event(Kind::Fork, 10, 1);
    later.process.as_mut().unwrap().id = ProcessId::from_ticks(8, 10);
    assert!(!filter.admits(&later));
}

#[test]
fn what_is_not_shown_still_makes_descendants() {
    let mut filter = filter(Terms { trees: vec![10], kinds: vec![Kind::Exec], ..Terms::default() });
    assert!(!filter.admits(&event(Kind::Process, 10, 1)));
    assert!(!filter.admits(&event(Kind::Fork, 11, 10)));
    assert!(filter.admits(&event(Kind::Exec, 11, 10)));
    assert!(!filter.admits(&event(Kind::Exec, 12, 1)));
}

proptest! {
    /// A snapshot says the same in whatever order it names processes.
    #[test]
    fn a_snapshot_may_come_in_any_order(
        parents in proptest::collection::vec(0usize..30, 30),
        root in 1u32..30,
        order in Just((1u32..30).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        // The parent of each has a smaller pid: a tree.
        let parent = |pid: u32| if pid <= 1 { 0 } else { 1 + parents[pid as usize] as u32 % (pid - 1) };
        let below = |pid: u32| std::iter::successors(Some(pid), |&pid| (pid > 1).then(|| parent(pid))).any(|pid| pid == root);
        let snapshot: Vec<_> = order.iter().map(|&pid| event(Kind::Process, pid, parent(pid))).collect();
        let mut filter = subtree(&[root]);
        filter.learn(&snapshot);
        for process in &snapshot {
            let pid = process.process.as_ref().unwrap().pid;
            prop_assert_eq!(filter.admits(process), below(pid), "{}", pid);
        }
    }
}

#[test]
fn with_engines_what_daemons_start_is_in_too() {
    let ran = |pid: u32, parent: u32, argv: &[&str]| {
        let mut event = event(Kind::Exec, pid, parent);
        event.process.as_mut().unwrap().image_mut().argv = Some(argv.iter().collect());
        event
    };
    let about = |kind: Kind, process: Option<Event>| {
        let mut event = process.unwrap_or_else(|| Event::new(kind.into(), Timestamp(0)));
        event.detail = kind.into();
        *event.detail.container_mut().unwrap() = crate::event::Container::new("abc".into(), "/abc".into());
        event
    };
    for engines in [true, false] {
        let mut filter = filter(Filter { engines, ..Filter::tree(5) });
        assert!(filter.admits(&ran(5, 1, &["docker", "run", "web"])));
        assert!(!filter.admits(&ran(6, 1, &["cron"])) && !filter.admits(&about(Kind::ContainerInfo, None)));
        assert_eq!(filter.admits(&ran(10, 1, &["/usr/bin/containerd"])), engines);
        let runtime = ran(11, 10, &["runc", "create", "abc"]);
        assert_eq!(filter.admits(&runtime), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerCreate, Some(runtime))), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerExit, None)), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerRemove, None)), engines);
        assert!(!filter.admits(&about(Kind::ContainerExit, None)), "it is no more");
    }
}

#[test]
fn what_is_not_wanted_is_left_out_whatever_else_fits() {
    let mut cron = filter(!Filter::comm("cron*"));
    assert!(!cron.admits(&named("crond", "/usr/sbin/crond", 0, None)) && cron.admits(&named("sh", "/bin/sh", 0, None)));
    assert!(cron.admits(&Event::new(Kind::Hello.into(), Timestamp(0))), "what frames a stream passes");
    let mut both = filter(Filter::uid(7).with(!Filter::exe("/bin/*")).with(!Filter::uid(0)));
    assert!(both.admits(&named("x", "/opt/x", 7, None)) && !both.admits(&named("x", "/bin/x", 7, None)));
    assert!(!both.admits(&named("x", "/opt/x", 7, Some(0))) && !both.admits(&named("x", "/opt/x", 8, None)));
    let mut places = filter((!Filter::cgroup("/a")).with(!Filter::container("web")));
    assert!(!places.admits(&placed("/a/b", None, None)) && places.admits(&placed("/ab", None, None)));
    assert!(!places.admits(&placed("/", None, Some("web1"))) && places.admits(&placed("/", None, Some("db"))));
    let mut kinds = filter(!Filter::kind(Kind::Exec).with(Filter::kind(Kind::Hello)));
    assert!(!kinds.admits(&event(Kind::Exec, 1, 0)) && kinds.admits(&event(Kind::Fork, 1, 0)));
}

#[test]
fn descendants_that_are_not_wanted_are_left_out_of_others() {
    let mut all_but = filter(Filter::tree(1).with(!Filter::tree(5)));
    all_but.learn(&[event(Kind::Process, 1, 0), event(Kind::Process, 5, 1), event(Kind::Process, 6, 5)]);
    for (pid, parent, shown) in [(1, 0, true), (5, 1, false), (6, 5, false), (7, 6, false), (8, 1, true), (9, 0, false)]
    {
        assert_eq!(all_but.admits(&event(Kind::Fork, pid, parent)), shown, "{pid}");
    }
    assert!(!all_but.admits(&event(Kind::Exit, 7, 6)));
    assert!(all_but.admits(&event(Kind::Fork, 7, 1)), "the number is another process's now");
}

#[test]
fn it_is_over_when_no_descendant_is_left() {
    let mut of = subtree(&[5]);
    of.learn(&[event(Kind::Process, 5, 1)]);
    assert!(!of.is_over());
    for (kind, pid, parent, over) in [
        (Kind::Fork, 6, 5, false),
        (Kind::Exit, 5, 1, false),
        (Kind::Fork, 7, 6, false),
        (Kind::Exit, 6, 1, false),
        (Kind::Exit, 9, 1, false),
        (Kind::Exit, 7, 1, true),
    ] {
        of.admits(&event(kind, pid, parent));
        assert_eq!(of.is_over(), over, "{kind} of {pid}");
    }
    assert!(!filter(Filter::uid(0)).is_over());
    // Of a zombie there is nothing left to report, unless it is that it is reaped.
    let mut zombie = event(Kind::Process, 5, 1);
    zombie.process.as_mut().unwrap().zombie = true;
    for until_reaped in [false, true] {
        let mut of = filter(Filter { until_reaped, ..Filter::tree(5) });
        of.learn(std::slice::from_ref(&zombie));
        assert_eq!(of.is_over(), !until_reaped);
        assert!(of.admits(&zombie));
    }
}

#[test]
fn a_name_that_the_kernel_cut_is_found_whole() {
    let shim = named("containerd-shim", "/usr/bin/containerd-shim-runc-v2", 0, None);
    let by = |text: &str| filter(Terms { comm: vec![glob(text).unwrap()], ..Terms::default() });
    for text in ["containerd-shim-runc-v2", "containerd-shim-runc-*", "containerd-shim", "containerd*"] {
        assert!(by(text).admits(&shim), "{text}");
    }
    assert!(!by("containerd-shim-runc-v1").admits(&shim) && !by("containerd-shim-").admits(&shim));
    let mut script = named("unattended-upgr", "/usr/bin/python3.11", 0, None);
    script.process.as_mut().unwrap().image_mut().argv =
        Some(["/usr/bin/python3", "/usr/bin/unattended-upgrade", "x"].into_iter().collect());
    assert!(by("unattended-upgrade").admits(&script) && !by("python3.11").admits(&script));
    assert!(!by("/usr/bin/unattended-upgrade").admits(&script));
    // A shorter name is whole: what it was started by does not count.
    assert!(!by("containerd-shim-runc-v2").admits(&named("shim", "/usr/bin/containerd-shim-runc-v2", 0, None)));
}

#[test]
fn units_are_those_that_systemctl_shows() {
    let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/below.service";
    let user = placed(path, Some("user@1000.service"), None);
    let by = |text: &str| filter(Terms { units: vec![glob(text).unwrap()], ..Terms::default() });
    for text in
        ["user@1000.service", "user.slice", "user-1000.slice", "app.slice", "foo.service", "app.slice/foo.service"]
    {
        assert!(by(text).admits(&user), "{text}");
    }
    assert!(by("user@*.service/app.slice/foo.service").admits(&user) && !by("below.service").admits(&user));
    assert!(!by("slice/foo.service").admits(&user) && !by("system.slice").admits(&user));
    let inside = placed("/system.slice/docker-abc.scope/system.slice/ssh.service", Some("docker-abc.scope"), None);
    assert!(!by("ssh.service").admits(&inside), "a unit of the container's own systemd");
    assert!(by("system.slice").admits(&inside));
    let escaped = placed(r"/system.slice/foo\x2dbar.service", Some(r"foo\x2dbar.service"), None);
    assert!(by(r"foo\\x2dbar.service").admits(&escaped));
}
