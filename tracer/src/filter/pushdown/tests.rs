use super::*;
use crate::enrich::Container;
use crate::event::Kind;
use crate::filter::parse::glob;

fn pushed(filter: &Filter, needs: Needs) -> (Pushdown, Option<Filtering>) {
    of(filter, needs).unwrap()
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
    let (pushdown, filtering) = pushed(&Filter::default(), Needs::default());
    assert!(pushdown.selection == Selection::All && filtering.is_none());
}

#[test]
fn the_kernel_side_does_one_thing_and_user_space_the_rest() {
    let names_and_user = Filter::comm("ssh*").with(Filter::uid(1000));
    let in_container = names_and_user.clone().with(Filter::container("web"));
    let (pushdown, filtering) = pushed(&in_container.clone().with(Filter::tree(7)), Needs::default());
    // Descent from 7 is only known where all processes between are reported.
    assert!(pushdown.selection == Selection::Subtree(vec![7]));
    let filtering = filtering.unwrap();
    assert_eq!((filtering.kernel, filtering.user), (names(&["pid"]), names(&["uid", "comm", "container"])));
    let (pushdown, filtering) = pushed(&in_container.with(Filter::cgroup("/a")), Needs::default());
    assert!(pushdown.selection == Selection::Containers && pushdown.cgroups().is_some());
    assert_eq!(filtering.unwrap().kernel, names(&["container", "cgroup"]));
    let (pushdown, _) = pushed(&names_and_user, Needs::default());
    assert!(pushdown.selection == Selection::Users(vec![1000]));
}

#[test]
fn what_needs_other_processes_keeps_the_filter_in_user_space() {
    let user = Filter::uid(1000);
    let nothing = Needs::default();
    for (filter, needs, word) in [
        (&user, Needs { ancestors: true, ..nothing }, "--ancestors"),
        (&user, Needs { storms: true, ..nothing }, "storms"),
        (&user, Needs { reaps: true, ..nothing }, "--reap"),
        (&user, Needs { in_user_space: true, ..nothing }, "--filter-in"),
        (&Filter::tree(3).with(Filter::tree(1)), nothing, "init"),
        (&Filter::tree(1).with(Filter::uid(1000)), nothing, "init"),
        (&Filter::kind(Kind::Exec), nothing, "kinds"),
        (&Filter::pid(7), nothing, "descendants"),
    ] {
        let (pushdown, filtering) = pushed(filter, needs);
        let filtering = filtering.unwrap();
        assert!(pushdown.selection == Selection::All, "{word}");
        assert!(filtering.kernel.is_empty() && !filtering.user.is_empty(), "{filtering:?}");
        assert!(filtering.why.as_ref().unwrap().contains(word), "{filtering:?}");
    }
}

#[test]
fn cgroups_match_by_their_path() {
    let places = |filter: Filter| CgroupFilter::new(&filter.wanted).unwrap();
    let below = places(Filter::cgroup("/a/b/"));
    let verdicts = ["/a/b", "/a/b/c", "/a/bc", "/"].map(|path| below.verdict(&cgroup(path, None, None), Name::Unknown));
    assert_eq!(verdicts, [Verdict::Yes, Verdict::Yes, Verdict::No, Verdict::No]);
    let unit = places(Terms { units: vec![glob("ssh*").unwrap()], cgroups: names(&["/s"]), ..Terms::default() }.into());
    assert_eq!(unit.verdict(&cgroup("/s/x", Some("ssh.service"), None), Name::Unknown), Verdict::Yes);
    assert_eq!(unit.verdict(&cgroup("/t/x", Some("ssh.service"), None), Name::Unknown), Verdict::No);
    assert_eq!(unit.verdict(&cgroup("/s/x", Some("cron.service"), None), Name::Unknown), Verdict::No);
}

#[test]
fn a_container_is_not_given_up_before_its_name_is_known() {
    let places = CgroupFilter::new(&Terms { containers: names(&["abc", "web"]), ..Terms::default() }).unwrap();
    let of = |id, name| places.verdict(&cgroup("/x", None, Some(id)), name);
    assert_eq!(of("abcdef", Name::Unknown), Verdict::Yes);
    assert_eq!(of("0123", Name::Unknown), Verdict::Open);
    assert_eq!((of("0123", Name::Known("web")), of("0123", Name::Known("db"))), (Verdict::Yes, Verdict::No));
    // Its runtime may still report it as a container's.
    assert_eq!(places.verdict(&cgroup("/x", None, None), Name::Unknown), Verdict::Open);
}

#[test]
fn a_user_is_the_real_or_the_effective_one() {
    let pushdown = Pushdown { selection: Selection::Users(vec![1000]), ..Pushdown::default() };
    let mut process = Process::new(crate::event::id::ProcessId::from_ticks(1, 2), crate::event::Provenance::Kernel);
    assert!(!pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(1000), Some(0));
    assert!(pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(0), Some(1000));
    assert!(pushdown.matches(&process, None, Name::Unknown));
    (process.uid, process.euid) = (Some(0), None);
    assert!(!pushdown.matches(&process, None, Name::Unknown));
}

#[test]
fn what_is_not_wanted_is_left_out_in_user_space() {
    let not = (!Filter::uid(0)).with(!Filter::kind(Kind::Exec));
    let (pushdown, filtering) = pushed(&not, Needs::default());
    let filtering = filtering.unwrap();
    assert!(pushdown.selection == Selection::All && filtering.kernel.is_empty());
    assert_eq!(filtering.user, names(&["!uid", "!event"]));
    assert!(filtering.why.is_some_and(|why| why.contains('!')));
    let (pushdown, filtering) = pushed(&not.with(Filter::uid(7)), Needs::default());
    assert!(pushdown.selection == Selection::Users(vec![7]));
    assert_eq!(filtering.unwrap().user, names(&["!uid", "!event"]));
}

#[test]
fn units_of_users_and_slices_are_cgroups() {
    let path = "/user.slice/user-7.slice/user@7.service/app.slice/foo.service";
    for unit in ["user.slice", "foo.service", "app.slice/foo.service", "user@7.service"] {
        let cgroups = CgroupFilter::new(&Terms { units: vec![glob(unit).unwrap()], ..Terms::default() }).unwrap();
        assert_eq!(cgroups.verdict(&cgroup(path, Some("user@7.service"), None), Name::Unknown), Verdict::Yes, "{unit}");
        assert_eq!(cgroups.verdict(&cgroup("/other.slice", None, None), Name::Unknown), Verdict::No, "{unit}");
    }
}
