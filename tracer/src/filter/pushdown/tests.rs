use super::*;
use crate::enrich::Container;

fn none() -> Criteria {
    Criteria::default()
}

fn pushed(only: &Criteria, needs: Needs) -> (Pushdown, Option<Filtering>) {
    of(&only.clone().into(), needs).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn cgroup(path: &str, unit: Option<&str>, container: Option<&str>) -> Cgroup {
    let container = container.map(|id| Container::new(id, None, None, path.into()));
    Cgroup { path: path.into(), unit: unit.map(Into::into), container }
}

#[test]
fn without_a_filter_everything_is_reported_and_hello_has_no_filter() {
    let (pushdown, filtering) = pushed(&none(), Needs::default());
    assert!(pushdown.selection == Selection::All && filtering.is_none());
}

#[test]
fn the_kernel_side_does_one_thing_and_user_space_the_rest() {
    let all = Criteria {
        pids: vec![7],
        uids: vec![1000],
        comm: vec![filter::glob("ssh*").unwrap()],
        containers: names(&["web"]),
        ..none()
    };
    let (pushdown, filtering) = pushed(&all, Needs::default());
    // Descent from 7 is known only if all processes in between are reported.
    assert!(pushdown.selection == Selection::Subtree(vec![7]));
    let filtering = filtering.unwrap();
    assert_eq!((filtering.kernel, filtering.user), (names(&["pid"]), names(&["uid", "comm", "container"])));
    let places = Criteria { pids: vec![], cgroups: names(&["/a"]), ..all };
    let (pushdown, filtering) = pushed(&places, Needs::default());
    assert!(pushdown.selection == Selection::Containers && pushdown.cgroups().is_some());
    assert_eq!(filtering.unwrap().kernel, names(&["container", "cgroup"]));
    let (pushdown, _) = pushed(&Criteria { containers: vec![], cgroups: vec![], ..places }, Needs::default());
    assert!(pushdown.selection == Selection::Users(vec![1000]));
}

#[test]
fn outputs_that_need_other_processes_keep_the_filter_in_user_space() {
    let user = Criteria { uids: vec![1000], ..none() };
    let nothing = Needs::default();
    for (only, needs, word) in [
        (&user, Needs { ancestors: true, ..nothing }, "--ancestors"),
        (&user, Needs { storms: true, ..nothing }, "storms"),
        (&user, Needs { reaps: true, ..nothing }, "--reap"),
        (&user, Needs { in_user_space: true, ..nothing }, "--filter-in"),
        (&Criteria { pids: vec![3, 1], ..none() }, nothing, "init"),
        (&Criteria { pids: vec![1], uids: vec![1000], ..none() }, nothing, "init"),
        (&Criteria { kinds: vec![crate::event::Kind::Exec], ..none() }, nothing, "kinds"),
    ] {
        let (pushdown, filtering) = pushed(only, needs);
        let filtering = filtering.unwrap();
        assert!(pushdown.selection == Selection::All, "{word}");
        assert!(filtering.kernel.is_empty() && !filtering.user.is_empty(), "{filtering:?}");
        assert!(filtering.why.as_ref().unwrap().contains(word), "{filtering:?}");
    }
}

#[test]
fn cgroups_match_by_their_path() {
    let places = |only: Criteria| CgroupFilter::new(&only).unwrap();
    let below = places(Criteria { cgroups: names(&["/a/b/"]), ..none() });
    let verdicts = ["/a/b", "/a/b/c", "/a/bc", "/"].map(|path| below.verdict(&cgroup(path, None, None), Name::Unknown));
    assert_eq!(verdicts, [Verdict::Yes, Verdict::Yes, Verdict::No, Verdict::No]);
    let unit = places(Criteria { units: vec![filter::glob("ssh*").unwrap()], cgroups: names(&["/s"]), ..none() });
    assert_eq!(unit.verdict(&cgroup("/s/x", Some("ssh.service"), None), Name::Unknown), Verdict::Yes);
    assert_eq!(unit.verdict(&cgroup("/t/x", Some("ssh.service"), None), Name::Unknown), Verdict::No);
    assert_eq!(unit.verdict(&cgroup("/s/x", Some("cron.service"), None), Name::Unknown), Verdict::No);
}

#[test]
fn a_container_is_undecided_until_its_name_is_known() {
    let places = CgroupFilter::new(&Criteria { containers: names(&["abc", "web"]), ..none() }).unwrap();
    let of = |id, name| places.verdict(&cgroup("/x", None, Some(id)), name);
    assert_eq!(of("abcdef", Name::Unknown), Verdict::Yes);
    assert_eq!(of("0123", Name::Unknown), Verdict::Open);
    assert_eq!((of("0123", Name::Known("web")), of("0123", Name::Known("db"))), (Verdict::Yes, Verdict::No));
    // Its runtime may still report that it belongs to a container.
    assert_eq!(places.verdict(&cgroup("/x", None, None), Name::Unknown), Verdict::Open);
}

#[test]
fn a_user_is_the_real_or_the_effective_one() {
    let pushdown = Pushdown { selection: Selection::Users(vec![1000]), ..Pushdown::default() };
    let mut process = Process::new(crate::event::id::ProcessId::from_ticks(1, 2), crate::event::Source::Kernel);
    assert!(!pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(1000), Some(0));
    assert!(pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(0), Some(1000));
    assert!(pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(0), None);
    assert!(!pushdown.matches(&process, None, Name::Unknown));
}

#[test]
fn negated_values_are_filtered_in_user_space() {
    let not = Criteria { uids: vec![0], kinds: vec![crate::event::Kind::Exec], ..none() };
    let pushed = |only, not| of(&Spec { only, not, ..Spec::default() }, Needs::default()).unwrap();
    let (pushdown, filtering) = pushed(none(), not.clone());
    let filtering = filtering.unwrap();
    assert!(pushdown.selection == Selection::All && filtering.kernel.is_empty());
    assert_eq!(filtering.user, names(&["!uid", "!event"]));
    assert!(filtering.why.is_some_and(|why| why.contains('!')));
    let (pushdown, filtering) = pushed(Criteria { uids: vec![7], ..none() }, not);
    assert!(pushdown.selection == Selection::Users(vec![7]));
    assert_eq!(filtering.unwrap().user, names(&["!uid", "!event"]));
}

#[test]
fn user_units_and_slices_are_cgroups() {
    let path = "/user.slice/user-7.slice/user@7.service/app.slice/foo.service";
    for unit in ["user.slice", "foo.service", "app.slice/foo.service", "user@7.service"] {
        let cgroups = CgroupFilter::new(&Criteria { units: vec![filter::glob(unit).unwrap()], ..none() }).unwrap();
        assert_eq!(cgroups.verdict(&cgroup(path, Some("user@7.service"), None), Name::Unknown), Verdict::Yes, "{unit}");
        assert_eq!(cgroups.verdict(&cgroup("/other.slice", None, None), Name::Unknown), Verdict::No, "{unit}");
    }
}
