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

fn look_up(id: &str, bundle: &Path) -> InfoRequest {
    request_by(id, bundle, 1 << 21)
}

/// A request with a bundle from a runtime with this pid, which has exited.
fn request_by(id: &str, bundle: &Path, pid: u32) -> InfoRequest {
    let path = bundle.to_str().unwrap().into();
    let bundle = Some(Bundle { path, runtime: ProcessId::from_ticks(1, pid), within: None });
    InfoRequest::LookUp { id: id.into(), cgroup: None, bundle, runtime: Some("runc".into()) }
}

fn known(reply: Option<InfoReply>) -> Option<Arc<Info>> {
    reply.and_then(|reply| reply.info)
}

/// The files read here belong to the user who runs the tests, as if that were root.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_missing_file_is_retried_and_read_at_the_exit() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let store: serde_json::Value = serde_json::from_slice(STORE).unwrap();
    let id = store[0]["id"].as_str().unwrap();
    let bundle = place.path().join(id).join("userdata");
    fs::create_dir_all(&bundle).unwrap();
    let mut worker = patient();
    let first = known(worker.handle(look_up(id, &bundle)));
    assert_eq!(first, None, "nothing is there");
    fs::write(bundle.join("config.json"), BUNDLE).unwrap();
    let later = Instant::now() + MAX_WAIT;
    let second = worker.retry_due(later).remove(0).info.unwrap();
    assert_eq!((second.hostname.as_deref(), second.name.as_deref()), (Some("weba"), None));
    assert_eq!(second.runtime.as_deref(), Some("runc"));
    assert!(worker.retry_due(later + MAX_WAIT).is_empty(), "nothing new");
    fs::write(place.path().join("containers.json"), STORE).unwrap();
    let last = worker.handle(InfoRequest::Final { id: id.into(), cgroup: Some("/x".into()) }).unwrap();
    assert!(last.last && last.peak_memory_bytes.is_none());
    assert_eq!(last.info.unwrap().name.as_deref(), Some("pweb"));
    assert!(worker.retry_due(later + RETRY_FOR).is_empty(), "it is over");
}

#[test]
fn a_complete_container_is_not_looked_up_again() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("config.json"), BUNDLE).unwrap();
    let mut worker = patient();
    assert!(worker.handle(request_by("web", place.path(), 5_000_000 & 0x3f_ffff)).is_some());
    assert!(worker.retry_due(Instant::now() + RETRY_FOR).is_empty());
    // A container with the same id is created: it is another one.
    assert!(worker.handle(request_by("web", place.path(), 4_100_000)).is_some());
    assert!(worker.handle(InfoRequest::Forget { id: "web".into() }).is_none() && worker.targets.is_empty());
}

/// Docker and Podman rename by replacing the file.
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
    let root = EnginePath { path: place.path().into(), view_of: None, scope: EngineScope::default() };
    worker.engines.docker.push(root.clone());
    let request = match look_up(&id, &bundle) {
        InfoRequest::LookUp { id, bundle, runtime, .. } => {
            InfoRequest::LookUp { id, cgroup: Some("/docker/x".into()), bundle, runtime }
        }
        other => other,
    };
    assert_eq!(known(worker.handle(request)).unwrap().name.as_deref(), Some("dweb"));
    let mut now = Instant::now() + WATCH_INTERVAL;
    assert!(worker.watch(now).is_empty(), "nothing new");
    replace(&file, &String::from_utf8_lossy(DOCKER).replace("/dweb", "/dweb2"));
    assert!(worker.watch(now).is_empty(), "not before it is due");
    now += WATCH_INTERVAL;
    let replies = worker.watch(now);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].info.as_ref().unwrap().name.as_deref(), Some("dweb2"));
    // Half a file names nothing, and the known name stays.
    replace(&file, "{");
    now += WATCH_INTERVAL;
    assert!(worker.watch(now).is_empty());
    // Engines were scanned again meanwhile, and this one is not a real process.
    worker.engines.docker.push(root);
    replace(&file, &String::from_utf8_lossy(DOCKER).replace("/dweb", "/dweb3"));
    now += WATCH_INTERVAL;
    assert_eq!(worker.watch(now)[0].info.as_ref().unwrap().name.as_deref(), Some("dweb3"));
    worker.handle(InfoRequest::Final { id: id.as_str().into(), cgroup: None });
    assert!(worker.watch(now + WATCH_INTERVAL).is_empty());
    assert_eq!(worker.watch_at, None, "nothing is left to watch");
}

/// An engine of a user cannot describe a container of root. An engine inside a container can only describe those below
/// it.
#[test]
fn an_engine_describes_only_containers_in_its_scope() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let id = "ab".repeat(32);
    let file = place.path().join("containers").join(&id).join("config.v2.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, DOCKER).unwrap();
    let request = |cgroup: &str| InfoRequest::LookUp {
        id: id.as_str().into(),
        cgroup: Some(cgroup.into()),
        bundle: None,
        runtime: None,
    };
    for (scope, cgroup, wanted) in [
        (EngineScope::default(), "/docker/x", Some("dweb")),
        (EngineScope { uid: 1000, within: None }, "/docker/x", None),
        (EngineScope { uid: 0, within: Some("/docker/outer".into()) }, "/docker/x", None),
        (EngineScope { uid: 0, within: Some("/docker/outer".into()) }, "/docker/outer/docker/x", Some("dweb")),
    ] {
        let mut worker = patient();
        worker.engines.docker.push(EnginePath { path: place.path().into(), view_of: None, scope: scope.clone() });
        let name = known(worker.handle(request(cgroup))).and_then(|info| info.name.clone());
        assert_eq!(name.as_deref(), wanted, "{scope:?} {cgroup}");
    }
}
