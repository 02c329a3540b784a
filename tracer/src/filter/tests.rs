use proptest::prelude::*;

use super::*;
use crate::event::time::Timestamp;
use crate::event::{ProcessContainer, Source};

fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(7, pid)
}

fn event(kind: Kind, pid: u32, parent: u32) -> Event {
    let mut process = Process::new(id(pid), Source::Kernel);
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

fn filter(spec: &Spec) -> Filter {
    Filter::new(spec).unwrap()
}

fn only(criteria: Criteria) -> Filter {
    filter(&criteria.into())
}

fn not(not: Criteria) -> Filter {
    filter(&Spec { not, ..Spec::default() })
}

fn subtree(pids: &[u32]) -> Filter {
    only(Criteria { pids: pids.to_vec(), ..Criteria::default() })
}

/// An event of a process with this cgroup, unit and container.
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
    let mut container = only(Criteria { containers: texts(&["abc", "web"]), ..Criteria::default() });
    assert!(container.admits(&placed("/", None, Some("abcdef"))) && container.admits(&placed("/", None, Some("web"))));
    assert!(!container.admits(&placed("/", None, Some("ab"))) && !container.admits(&placed("/abc", None, None)));
    let mut called = placed("/", None, Some("0123"));
    let shown = ProcessContainer { name: Some("web".into()), ..ProcessContainer::new("0123".into()) };
    called.process.as_mut().unwrap().container = Some(Arc::new(shown));
    assert!(container.admits(&called), "by its name");
    let mut unit = only(Criteria { units: vec![glob("ssh@*.service").unwrap()], ..Criteria::default() });
    assert!(
        unit.admits(&placed("/", Some("ssh@1.service"), None)) && !unit.admits(&placed("/", Some("ssh.socket"), None))
    );
    let mut cgroup = only(Criteria { cgroups: texts(&["/a/b/"]), ..Criteria::default() });
    assert!(cgroup.admits(&placed("/a/b", None, None)) && cgroup.admits(&placed("/a/b/c", None, None)));
    assert!(!cgroup.admits(&placed("/a/bc", None, None)) && !cgroup.admits(&event(Kind::Fork, 1, 0)));
    let mut all = only(Criteria { cgroups: texts(&["/"]), ..Criteria::default() });
    assert!(all.admits(&placed("/x", None, None)) && all.admits(&placed("/", None, None)));
}

#[test]
fn an_empty_filter_shows_everything() {
    let mut filter = filter(&Spec::default());
    assert!(Kind::ALL.iter().all(|&kind| filter.admits(&event(kind, 1, 0))));
    assert!(filter.admits(&Event::new(Kind::Fork.into(), Timestamp(0))));
}

#[test]
fn framing_passes_every_filter() {
    let kinds = vec![Kind::Exec];
    let comm = vec![glob("x").unwrap()];
    let mut filter = only(Criteria { pids: vec![1], uids: vec![1], comm, kinds, ..Criteria::default() });
    for &kind in Kind::ALL {
        assert_eq!(filter.admits(&Event::new(kind.into(), Timestamp(0))), kind.is_framing(), "{kind}");
    }
}

#[test]
fn alternatives_of_one_option_and_all_options_together() {
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| glob(pattern).unwrap()).collect();
    let mut comm = only(Criteria { comm: globs(&["ssh*", "ba[st]h"]), ..Criteria::default() });
    for (name, shown) in
        [("sshd", true), ("bash", true), ("bath", true), ("bach", false), ("ss", false), ("xsshd", false)]
    {
        assert_eq!(comm.admits(&named(name, "/x", 0, None)), shown, "{name}");
    }
    let mut exe = only(Criteria { exe: globs(&["/usr/{bin,sbin}/*", "*/python3*"]), ..Criteria::default() });
    for (path, shown) in [
        ("/usr/bin/a/b", true),
        ("/usr/sbin/x", true),
        ("/opt/v/bin/python3.12", true),
        ("/bin/x", false),
        ("python", false),
    ] {
        assert_eq!(exe.admits(&named("x", path, 0, None)), shown, "{path}");
    }
    let kinds = vec![Kind::Exec, Kind::Exit];
    let mut all = only(Criteria { comm: globs(&["a"]), uids: vec![1000], kinds, ..Criteria::default() });
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
        "an unknown value does not match"
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
    assert!(filter.admits(&event(Kind::Fork, 14, 12)), "below a process that was reparented");
    assert!(filter.admits(&event(Kind::Exit, 12, 1)));
    assert!(!filter.admits(&event(Kind::Exec, 13, 1)));
}

#[test]
fn a_sibling_forked_with_clone_parent_belongs_to_its_creator() {
    let mut filter = subtree(&[10]);
    assert!(filter.admits(&event(Kind::Process, 10, 1)));
    let mut sibling = event(Kind::Fork, 11, 1);
    sibling.process.as_mut().unwrap().creator_id = Some(id(10));
    assert!(filter.admits(&sibling));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut filter = subtree(&[10]);
    assert!(filter.admits(&event(Kind::Process, 10, 1)));
    assert!(filter.admits(&event(Kind::Exit, 10, 1)));
    let mut later = event(Kind::Fork, 10, 1);
    later.process.as_mut().unwrap().id = ProcessId::from_ticks(8, 10);
    assert!(!filter.admits(&later));
}

#[test]
fn a_fork_that_is_filtered_out_still_makes_a_descendant() {
    let mut filter = only(Criteria { pids: vec![10], kinds: vec![Kind::Exec], ..Criteria::default() });
    assert!(!filter.admits(&event(Kind::Process, 10, 1)));
    assert!(!filter.admits(&event(Kind::Fork, 11, 10)));
    assert!(filter.admits(&event(Kind::Exec, 11, 10)));
    assert!(!filter.admits(&event(Kind::Exec, 12, 1)));
}

proptest! {
    /// The order of a snapshot does not matter.
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
fn with_engines_the_descendants_of_daemons_are_members_too() {
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
        let only = Criteria { pids: vec![5], ..Criteria::default() };
        let mut filter = filter(&Spec { only, engines, ..Spec::default() });
        assert!(filter.admits(&ran(5, 1, &["docker", "run", "web"])));
        assert!(!filter.admits(&ran(6, 1, &["cron"])) && !filter.admits(&about(Kind::ContainerInfo, None)));
        assert_eq!(filter.admits(&ran(10, 1, &["/usr/bin/containerd"])), engines);
        let runtime = ran(11, 10, &["runc", "create", "abc"]);
        assert_eq!(filter.admits(&runtime), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerCreate, Some(runtime))), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerExit, None)), engines);
        assert_eq!(filter.admits(&about(Kind::ContainerRemove, None)), engines);
        assert!(!filter.admits(&about(Kind::ContainerExit, None)), "the container was removed");
    }
}

#[test]
fn a_negated_value_filters_out_whatever_else_matches() {
    let globs = |text: &str| vec![glob(text).unwrap()];
    let mut cron = not(Criteria { comm: globs("cron*"), ..Criteria::default() });
    assert!(!cron.admits(&named("crond", "/usr/sbin/crond", 0, None)) && cron.admits(&named("sh", "/bin/sh", 0, None)));
    assert!(cron.admits(&Event::new(Kind::Hello.into(), Timestamp(0))), "framing events pass");
    let only_user = Criteria { uids: vec![7], ..Criteria::default() };
    let not_root = Criteria { exe: globs("/bin/*"), uids: vec![0], ..Criteria::default() };
    let mut both = filter(&Spec { only: only_user, not: not_root, ..Spec::default() });
    assert!(both.admits(&named("x", "/opt/x", 7, None)) && !both.admits(&named("x", "/bin/x", 7, None)));
    assert!(!both.admits(&named("x", "/opt/x", 7, Some(0))) && !both.admits(&named("x", "/opt/x", 8, None)));
    let (cgroups, containers) = (vec!["/a".to_owned()], vec!["web".to_owned()]);
    let mut places = not(Criteria { cgroups, containers, ..Criteria::default() });
    assert!(!places.admits(&placed("/a/b", None, None)) && places.admits(&placed("/ab", None, None)));
    assert!(!places.admits(&placed("/", None, Some("web1"))) && places.admits(&placed("/", None, Some("db"))));
    let mut kinds = not(Criteria { kinds: vec![Kind::Exec, Kind::Hello], ..Criteria::default() });
    assert!(!kinds.admits(&event(Kind::Exec, 1, 0)) && kinds.admits(&event(Kind::Fork, 1, 0)));
}

#[test]
fn negated_descendants_are_filtered_out_of_others() {
    let pid = |pid: u32| Criteria { pids: vec![pid], ..Criteria::default() };
    let mut all_but = filter(&Spec { only: pid(1), not: pid(5), ..Spec::default() });
    all_but.learn(&[event(Kind::Process, 1, 0), event(Kind::Process, 5, 1), event(Kind::Process, 6, 5)]);
    for (pid, parent, shown) in [(1, 0, true), (5, 1, false), (6, 5, false), (7, 6, false), (8, 1, true), (9, 0, false)]
    {
        assert_eq!(all_but.admits(&event(Kind::Fork, pid, parent)), shown, "{pid}");
    }
    assert!(!all_but.admits(&event(Kind::Exit, 7, 6)));
    assert!(all_but.admits(&event(Kind::Fork, 7, 1)), "another process has the pid now");
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
    assert!(!only(Criteria { uids: vec![0], ..Criteria::default() }).is_over());
    // Only the reap of a zombie remains to be reported.
    let mut zombie = event(Kind::Process, 5, 1);
    zombie.process.as_mut().unwrap().zombie = true;
    for until_reaped in [false, true] {
        let only = Criteria { pids: vec![5], ..Criteria::default() };
        let mut of = filter(&Spec { only, until_reaped, ..Spec::default() });
        of.learn(std::slice::from_ref(&zombie));
        assert_eq!(of.is_over(), !until_reaped);
        assert!(of.admits(&zombie));
    }
}

#[test]
fn a_truncated_comm_matches_by_the_full_name() {
    let shim = named("containerd-shim", "/usr/bin/containerd-shim-runc-v2", 0, None);
    let by = |text: &str| only(Criteria { comm: vec![glob(text).unwrap()], ..Criteria::default() });
    for text in ["containerd-shim-runc-v2", "containerd-shim-runc-*", "containerd-shim", "containerd*"] {
        assert!(by(text).admits(&shim), "{text}");
    }
    assert!(!by("containerd-shim-runc-v1").admits(&shim) && !by("containerd-shim-").admits(&shim));
    let mut script = named("unattended-upgr", "/usr/bin/python3.11", 0, None);
    script.process.as_mut().unwrap().image_mut().argv =
        Some(["/usr/bin/python3", "/usr/bin/unattended-upgrade", "x"].into_iter().collect());
    assert!(by("unattended-upgrade").admits(&script) && !by("python3.11").admits(&script));
    assert!(!by("/usr/bin/unattended-upgrade").admits(&script));
    // A shorter comm is not truncated, so the executable does not count.
    assert!(!by("containerd-shim-runc-v2").admits(&named("shim", "/usr/bin/containerd-shim-runc-v2", 0, None)));
}

#[test]
fn units_are_the_ones_that_systemctl_shows() {
    let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/below.service";
    let user = placed(path, Some("user@1000.service"), None);
    let by = |text: &str| only(Criteria { units: vec![glob(text).unwrap()], ..Criteria::default() });
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
