//! Looks for what is asked, again and again until it is there or the container has ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::UnboundedSender;

use super::engines::Engines;
use super::files::read;
use super::{docker, files, memory};
use crate::enrich::info::{Answer, Ask, Info};
use crate::kernel::hierarchy::Mount;

/// Between two looks, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// After this time only its end brings another look.
const PATIENCE: Duration = Duration::from_secs(30);
/// Containers that are remembered; of those that never came to be, nobody tells the end.
const MOST: usize = 4096;

/// What is known of a container that was asked for.
#[derive(Debug)]
struct Open {
    bundle: Option<PathBuf>,
    /// Of the runtime, 0 if unknown.
    pid: u32,
    info: Info,
    /// All there is to know is known.
    done: bool,
    since: Instant,
    wait: Duration,
    due: Option<Instant>,
}

/// Reads the files. By itself, or as a thread ([`super::Names`]).
#[derive(Debug, Default)]
pub struct Worker {
    memory: Option<Mount>,
    engines: Engines,
    open: FxHashMap<Arc<str>, Open>,
}

impl Worker {
    /// One that asks the memory controller which is mounted there.
    pub fn new(memory: Option<Mount>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Serves until nobody can ask any more.
    pub(super) fn work(mut self, asks: &Receiver<Ask>, out: &UnboundedSender<Answer>) {
        loop {
            let due = self.open.values().filter_map(|open| open.due).min();
            let asked = match due {
                Some(due) => asks.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => asks.recv().map_err(RecvTimeoutError::from),
            };
            match asked {
                Ok(ask) => {
                    self.take(ask).map(|answer| out.send(answer));
                }
                Err(RecvTimeoutError::Timeout) => {
                    for answer in self.look_again(Instant::now()) {
                        let _ = out.send(answer);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers one question, if there is anything to say.
    pub fn take(&mut self, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Look { id, bundle, runtime, pid } => {
                if self.open.len() >= MOST {
                    self.open.retain(|_, open| open.due.is_some());
                }
                let now = Instant::now();
                let fresh = || Open {
                    bundle: None,
                    pid: 0,
                    info: Info::default(),
                    done: false,
                    since: now,
                    wait: FIRST_WAIT,
                    due: None,
                };
                let open = self.open.entry(id.clone()).or_insert_with(fresh);
                if let Some(bundle) = bundle {
                    // It is made anew: what was known of another of this id is not true of this one.
                    if open.bundle.as_deref() != Some(Path::new(&*bundle)) || runtime.is_some() {
                        *open = fresh();
                    }
                    (open.bundle, open.pid) = (Some(PathBuf::from(&*bundle)), pid);
                }
                if runtime.is_some() {
                    open.info.runtime = runtime;
                }
                let info = self.look(&id);
                info.map(|info| Answer { id, info: Some(info), last: false, peak_memory_bytes: None })
            }
            Ask::Last { id, cgroup } => {
                // First of all: the cgroup is about to go.
                let peak_memory_bytes = self.memory.as_ref().and_then(|mount| memory::peak(mount, &cgroup));
                let info = self.look(&id);
                if let Some(open) = self.open.get_mut(&id) {
                    open.due = None;
                }
                Some(Answer { id, info, last: true, peak_memory_bytes })
            }
            Ask::Forget { id } => {
                self.open.remove(&id);
                None
            }
        }
    }

    fn look_again(&mut self, now: Instant) -> Vec<Answer> {
        let due = self.open.iter().filter(|(_, open)| open.due.is_some_and(|due| due <= now));
        let ids: Vec<Arc<str>> = due.map(|(id, _)| id.clone()).collect();
        let look =
            |id: Arc<str>| Some(Answer { info: Some(self.look(&id)?), id, last: false, peak_memory_bytes: None });
        ids.into_iter().filter_map(look).collect()
    }

    /// All that is known of a container, if a look shows more than was known.
    fn look(&mut self, id: &str) -> Option<Arc<Info>> {
        let mut open = self.open.remove(id)?;
        let mut found = None;
        if !open.done {
            let before = open.info.clone();
            open.done = self.read_files(id, &mut open) || (self.engines.refresh() && self.read_files(id, &mut open));
            found = (open.info != before).then(|| Arc::new(open.info.clone()));
            let now = Instant::now();
            open.due = (!open.done && now < open.since + PATIENCE).then(|| now + open.wait);
            open.wait = (open.wait * 2).min(LONGEST_WAIT);
        }
        self.open.insert(id.into(), open);
        found
    }

    /// Reads what there is. True if that is all there will be.
    fn read_files(&self, id: &str, open: &mut Open) -> bool {
        if open.bundle.is_none() {
            open.bundle = self.engines.bundles.get(id).cloned();
        }
        let bundle = open.bundle.clone();
        let config = bundle.as_deref().and_then(|bundle| see(&bundle.join("config.json"), open.pid));
        let spec = config.is_some_and(|json| files::bundle(&json, &mut open.info));
        if let Some(bundle) = bundle.as_deref().filter(|_| spec) {
            open.info.bundle = bundle.to_str().map(Into::into);
        }
        if self.docker(id, &mut open.info) {
            return spec;
        }
        // Its bundle is `<store>/<driver>-containers/<id>/userdata`.
        let store =
            bundle.as_deref().filter(|bundle| bundle.ends_with("userdata")).and_then(|at| at.parent()?.parent());
        if let Some(store) = store {
            let file = |name: &str| see(&store.join(name), open.pid);
            let known = ["containers.json", "volatile-containers.json"]
                .iter()
                .filter_map(|name| file(name))
                .any(|json| files::podman(&json, id, &mut open.info));
            return spec && known;
        }
        // Plain runtimes know no more than the bundle; containerd's annotations are in it.
        spec && !bundle.is_some_and(|bundle| is_dockers(&bundle))
    }

    /// Docker keeps its own file of each.
    fn docker(&self, id: &str, info: &mut Info) -> bool {
        // No path is made of what could be anything.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        self.engines.docker.iter().any(|root| {
            let json = read(&root.join("containers").join(id).join("config.v2.json"));
            json.is_some_and(|json| docker::container(&json, info))
        })
    }
}

/// True for the bundles that Docker has containerd make: those in its namespace.
fn is_dockers(bundle: &Path) -> bool {
    bundle.parent().is_some_and(|above| above.ends_with("moby"))
}

/// A file as we see it, or as a process sees it that has mounts of its own.
fn see(path: &Path, pid: u32) -> Option<Vec<u8>> {
    read(path).or_else(|| read(&docker::inside(Path::new(&format!("/proc/{pid}/root")), path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &[u8] = include_bytes!("../../../tests/files/podman.config.json");
    const STORE: &[u8] = include_bytes!("../../../tests/files/podman.containers.json");

    fn look(id: &str, bundle: &Path) -> Ask {
        let bundle = Some(bundle.to_str().unwrap().into());
        Ask::Look { id: id.into(), bundle, runtime: Some("runc".into()), pid: 0 }
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_looked_for_again_and_at_the_end() {
        let place = tempfile::tempdir().unwrap();
        let store: serde_json::Value = serde_json::from_slice(STORE).unwrap();
        let id = store[0]["id"].as_str().unwrap();
        let bundle = place.path().join(id).join("userdata");
        std::fs::create_dir_all(&bundle).unwrap();
        let mut worker = Worker::new(None);
        let known = |answer: Option<Answer>| answer.and_then(|answer| answer.info);
        let first = known(worker.take(look(id, &bundle)));
        assert_eq!(first, None, "nothing is there");
        std::fs::write(bundle.join("config.json"), BUNDLE).unwrap();
        let later = Instant::now() + LONGEST_WAIT;
        let second = worker.look_again(later).remove(0).info.unwrap();
        assert_eq!((second.hostname.as_deref(), second.name.as_deref()), (Some("weba"), None));
        assert_eq!(second.runtime.as_deref(), Some("runc"));
        assert!(worker.look_again(later + LONGEST_WAIT).is_empty(), "nothing new");
        std::fs::write(place.path().join("containers.json"), STORE).unwrap();
        let last = worker.take(Ask::Last { id: id.into(), cgroup: "/x".into() }).unwrap();
        assert!(last.last && last.peak_memory_bytes.is_none());
        assert_eq!(last.info.unwrap().name.as_deref(), Some("pweb"));
        assert!(worker.look_again(later + PATIENCE).is_empty(), "it is over");
    }

    #[test]
    fn what_is_known_whole_is_not_looked_for_again() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("config.json"), BUNDLE).unwrap();
        let mut worker = Worker::new(None);
        assert!(worker.take(look("web", place.path())).is_some());
        assert!(worker.look_again(Instant::now() + PATIENCE).is_empty());
        // One of the same id is made: it is another.
        assert!(worker.take(look("web", place.path())).is_some());
        assert!(worker.take(Ask::Forget { id: "web".into() }).is_none() && worker.open.is_empty());
    }
}
