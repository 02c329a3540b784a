use std::fs;
use std::path::Path;

use super::*;
use crate::event::id::ProcessId;

const BUNDLE: &[u8] = include_bytes!("../../../../tests/files/podman.config.json");
const STORE: &[u8] = include_bytes!("../../../../tests/files/podman.containers.json");
const DOCKER: &[u8] = include_bytes!("../../../../tests/files/docker.config.v2.json");

fn patient() -> Worker {
    Worker { pool: Pool::patient(), ..Worker::default() }
}

fn look(id: &str, bundle: &Path) -> Ask {
    look_by(id, bundle, 1 << 21)
}

/// Asked for by the runtime that has this pid; it is gone.
fn look_by(id: &str, bundle: &Path, pid: u32) -> Ask {
    let path = bundle.to_str().unwrap().into();
    let bundle = Some(Bundle { path, runtime: ProcessId::from_ticks(1, pid), within: None });
    Ask::Look { id: id.into(), cgroup: None, bundle, runtime: Some("runc".into()) }
}

fn known(answer: Option<Answer>) -> Option<Arc<Info>> {
    answer.and_then(|answer| answer.info)
}

/// What is read here belongs to whoever runs the tests, as if that were root.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_file_that_is_not_there_yet_is_looked_for_again_and_at_the_end() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let store: serde_json::Value = serde_json::from_slice(STORE).unwrap();
    let id = store[0]["id"].as_str().unwrap();
    let bundle = place.path().join(id).join("userdata");
    fs::create_dir_all(&bundle).unwrap();
    let mut worker = patient();
    let first = known(worker.take(look(id, &bundle)));
    assert_eq!(first, None, "nothing is there");
    fs::write(bundle.join("config.json"), BUNDLE).unwrap();
    let later = Instant::now() + LONGEST_WAIT;
    let second = worker.look_again(later).remove(0).info.unwrap();
    assert_eq!((second.hostname.as_deref(), second.name.as_deref()), (Some("weba"), None));
    assert_eq!(second.runtime.as_deref(), Some("runc"));
    assert!(worker.look_again(later + LONGEST_WAIT).is_empty(), "nothing new");
    fs::write(place.path().join("containers.json"), STORE).unwrap();
    let last = worker.take(Ask::Last { id: id.into(), cgroup: Some("/x".into()) }).unwrap();
    assert!(last.last && last.peak_memory_bytes.is_none());
    assert_eq!(last.info.unwrap().name.as_deref(), Some("pweb"));
    assert!(worker.look_again(later + PATIENCE).is_empty(), "it is over");
}

#[test]
fn what_is_known_whole_is_not_looked_for_again() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("config.json"), BUNDLE).unwrap();
    let mut worker = patient();
    assert!(worker.take(look_by("web", place.path(), 5_000_000 & 0x3f_ffff)).is_some());
    assert!(worker.look_again(Instant::now() + PATIENCE).is_empty());
    // One of the same id is made: it is another.
    assert!(worker.take(look_by("web", place.path(), 4_100_000)).is_some());
    assert!(worker.take(Ask::Forget { id: "web".into() }).is_none() && worker.open.is_empty());
}

/// As Docker and Podman rename: a new file in the place of the old one.
#[test]
fn a_new_name_is_noticed() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let replace = |path: &Path, text: &str| {
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    };
    let id = "ab".repeat(32);
    let file = place.path().join("containers").join(&id).join("config.v2.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, DOCKER).unwrap();
    let bundle = place.path().join("moby").join(&id);
    fs::create_dir_all(&bundle).unwrap();
    fs::write(bundle.join("config.json"), BUNDLE).unwrap();
    let mut worker = patient();
    let root = Place { path: place.path().into(), seen_by: None, realm: Realm::default() };
    worker.engines.docker.push(root.clone());
    let ask = match look(&id, &bundle) {
        Ask::Look { id, bundle, runtime, .. } => Ask::Look { id, cgroup: Some("/docker/x".into()), bundle, runtime },
        other => other,
    };
    assert_eq!(known(worker.take(ask)).unwrap().name.as_deref(), Some("dweb"));
    let mut now = Instant::now() + WATCH_EVERY;
    assert!(worker.watch(now).is_empty(), "nothing new");
    replace(&file, &String::from_utf8_lossy(DOCKER).replace("/dweb", "/dweb2"));
    assert!(worker.watch(now).is_empty(), "not before it is due");
    now += WATCH_EVERY;
    let answers = worker.watch(now);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].info.as_ref().unwrap().name.as_deref(), Some("dweb2"));
    // Half a file names nobody, and the name that was known stays.
    replace(&file, "{");
    now += WATCH_EVERY;
    assert!(worker.watch(now).is_empty());
    // All engines were looked for again meanwhile, and this one is none of the machine's.
    worker.engines.docker.push(root);
    replace(&file, &String::from_utf8_lossy(DOCKER).replace("/dweb", "/dweb3"));
    now += WATCH_EVERY;
    assert_eq!(worker.watch(now)[0].info.as_ref().unwrap().name.as_deref(), Some("dweb3"));
    worker.take(Ask::Last { id: id.as_str().into(), cgroup: None });
    assert!(worker.watch(now + WATCH_EVERY).is_empty());
    assert_eq!(worker.watch_at, None, "nobody is left to watch");
}

/// An engine of a user names files that describe a container of root's, and one inside a container does.
#[test]
fn only_the_realm_of_an_engine_describes_a_container() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let id = "ab".repeat(32);
    let file = place.path().join("containers").join(&id).join("config.v2.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, DOCKER).unwrap();
    let ask =
        |cgroup: &str| Ask::Look { id: id.as_str().into(), cgroup: Some(cgroup.into()), bundle: None, runtime: None };
    for (realm, cgroup, wanted) in [
        (Realm::default(), "/docker/x", Some("dweb")),
        (Realm { uid: 1000, within: None }, "/docker/x", None),
        (Realm { uid: 0, within: Some("/docker/outer".into()) }, "/docker/x", None),
        (Realm { uid: 0, within: Some("/docker/outer".into()) }, "/docker/outer/docker/x", Some("dweb")),
    ] {
        let mut worker = patient();
        worker.engines.docker.push(Place { path: place.path().into(), seen_by: None, realm: realm.clone() });
        let name = known(worker.take(ask(cgroup))).and_then(|info| info.name.clone());
        assert_eq!(name.as_deref(), wanted, "{realm:?} {cgroup}");
    }
}
