//! Looks for what is asked, again and again until it is there or the container has ended; then for what changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::UnboundedSender;

use super::cgroup::Mounts;
use super::engines::{Engines, Place, Realm};
use super::{Job, docker, files};
use crate::enrich::info::{Answer, Ask, Bundle, Info};
use crate::untrusted::{Named, Owner, Pool, Signature, read, signature};

/// Between two looks, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// After this time only its end brings another look.
const PATIENCE: Duration = Duration::from_secs(30);
/// Containers that are remembered; the end of those that never started is not reported.
const MOST: usize = 4096;
/// Containers of one user other than root that are described: the files are that user's, the memory is ours.
const MOST_OF_USER: usize = 256;
/// Between two looks at what may change: names, and whether a container is paused.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The file that names a container, and what it looked like when it was read.
#[derive(Clone, Debug)]
struct NamedBy {
    place: Place,
    path: PathBuf,
    signature: Option<Signature>,
}

/// What is known of a container that was asked for.
#[derive(Debug)]
struct Open {
    bundle: Option<Place>,
    /// The files of its bundle were used by a runtime of root.
    vouched: bool,
    cgroup: Option<Arc<str>>,
    /// Uid of whoever may make containers there.
    owner: u32,
    info: Info,
    /// All there is to know is known.
    done: bool,
    /// The file that names it, and what that looked like when it was read.
    named_by: Option<NamedBy>,
    since: Instant,
    wait: Duration,
    due: Option<Instant>,
}

impl Open {
    fn new(now: Instant) -> Self {
        Self {
            bundle: None,
            vouched: false,
            cgroup: None,
            owner: 0,
            info: Info::default(),
            done: false,
            named_by: None,
            since: now,
            wait: FIRST_WAIT,
            due: None,
        }
    }
}

/// Reads the files. By itself, or as a thread ([`super::Names`]).
#[derive(Debug, Default)]
pub struct Worker {
    mounts: Mounts,
    engines: Engines,
    pool: Pool,
    open: FxHashMap<Arc<str>, Open>,
    watch_at: Option<Instant>,
}

impl Worker {
    /// One that asks the controllers which are mounted there.
    pub fn new(mounts: Mounts) -> Self {
        Self { mounts, ..Self::default() }
    }

    /// Serves until nobody can ask any more.
    pub(super) fn work(mut self, jobs: &Receiver<Job>, out: &UnboundedSender<Answer>) {
        loop {
            let due = self.open.values().filter_map(|open| open.due).chain(self.watch_at).min();
            let asked = match due {
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => jobs.recv().map_err(RecvTimeoutError::from),
            };
            match asked {
                Ok(Job::Ask(ask)) => {
                    self.take(ask).map(|answer| out.send(answer));
                }
                Ok(Job::Sync(done)) => {
                    // Nobody may wait for it any more.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also while there are always more questions.
            let now = Instant::now();
            if due.is_some_and(|due| due <= now) {
                for answer in self.look_again(now).into_iter().chain(self.watch(now)) {
                    let _ = out.send(answer);
                }
            }
        }
    }

    /// Answers one question, if there is anything to say.
    pub fn take(&mut self, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Look { id, cgroup, bundle, runtime } => {
                self.ask_for(&id, cgroup, bundle, runtime);
                let info = self.look(&id);
                info.map(|info| found(id, info))
            }
            Ask::Last { id, cgroup } => {
                // First of all: the cgroup is about to go.
                let peak_memory_bytes = cgroup.and_then(|cgroup| self.mounts.peak(&cgroup));
                let info = self.look(&id);
                if let Some(open) = self.open.get_mut(&id) {
                    (open.due, open.cgroup, open.named_by) = (None, None, None);
                }
                Some(Answer { id, info, last: true, peak_memory_bytes })
            }
            Ask::Forget { id } => {
                self.open.remove(&id);
                None
            }
        }
    }

    fn ask_for(&mut self, id: &Arc<str>, cgroup: Option<Arc<str>>, bundle: Option<Bundle>, runtime: Option<Arc<str>>) {
        if self.open.len() >= MOST {
            self.open.retain(|_, open| open.due.is_some() || open.cgroup.is_some());
        }
        let now = Instant::now();
        let open = self.open.entry(id.clone()).or_insert_with(|| Open::new(now));
        if let Some(bundle) = bundle {
            let place = Place {
                path: PathBuf::from(&*bundle.path),
                seen_by: Some(bundle.runtime),
                realm: Realm { uid: 0, within: bundle.within },
            };
            // It is made anew: what was known of another of this id is not true of this one.
            if open.bundle.as_ref() != Some(&place) {
                *open = Open { bundle: Some(place), vouched: true, ..Open::new(now) };
            }
        }
        if let Some(cgroup) = cgroup {
            open.owner = self.mounts.owner(&cgroup);
            open.cgroup = Some(cgroup);
            self.watch_at.get_or_insert(now + WATCH_EVERY);
        }
        if runtime.is_some() {
            open.info.runtime = runtime;
        }
        let owner = open.owner;
        if owner != 0 && self.open.values().filter(|open| open.owner == owner).count() > MOST_OF_USER {
            tracing::debug!("user {owner} has more than {MOST_OF_USER} containers: {id} is not described");
            self.open.remove(id);
        }
    }

    fn look_again(&mut self, now: Instant) -> Vec<Answer> {
        let due = self.open.iter().filter(|(_, open)| open.due.is_some_and(|due| due <= now));
        let ids: Vec<Arc<str>> = due.map(|(id, _)| id.clone()).collect();
        ids.into_iter().filter_map(|id| self.look(&id).map(|info| found(id, info))).collect()
    }

    /// Looks at what can change while a container lives: what it is called, and whether it is paused.
    fn watch(&mut self, now: Instant) -> Vec<Answer> {
        if self.watch_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let living = self.open.iter().filter(|(_, open)| open.cgroup.is_some() || open.named_by.is_some());
        let ids: Vec<Arc<str>> = living.map(|(id, _)| id.clone()).collect();
        self.watch_at = (!ids.is_empty()).then_some(now + WATCH_EVERY);
        let seen = self.signatures();
        let mut answers = Vec::new();
        for id in ids {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let before = open.info.clone();
            let changed = open.named_by.as_ref().is_some_and(|by| {
                seen.get(&(open.owner, by.path.clone())).is_some_and(|now| Some(now) != by.signature.as_ref())
            });
            open.info.paused = open.cgroup.as_ref().is_some_and(|cgroup| self.mounts.is_frozen(cgroup));
            if changed {
                open.done = false;
                self.look(&id);
            }
            let now = self.open.get(&id).filter(|open| open.info != before);
            answers.extend(now.map(|open| found(id, Arc::new(open.info.clone()))));
        }
        answers
    }

    /// What the files that name containers look like now: one look at each, however many it names, and one piece of work for
    /// each user.
    fn signatures(&mut self) -> FxHashMap<(u32, PathBuf), Signature> {
        let mut files: FxHashMap<u32, FxHashMap<PathBuf, Named>> = FxHashMap::default();
        for open in self.open.values() {
            let Some(by) = &open.named_by else { continue };
            let of_owner = files.entry(open.owner).or_default();
            if !of_owner.contains_key(&by.path)
                && let Some(file) = by.place.file(by.path.clone())
            {
                of_owner.insert(by.path.clone(), file);
            }
        }
        let mut seen = FxHashMap::default();
        for (uid, files) in files {
            let signatures = self.pool.run(uid, move || {
                let of = |(path, file): (PathBuf, Named)| Some((path, signature(&file).ok()?));
                files.into_iter().filter_map(of).collect::<Vec<_>>()
            });
            seen.extend(signatures.into_iter().flatten().map(|(path, signature)| ((uid, path), signature)));
        }
        seen
    }

    /// All that is known of a container, if a look shows more than was known.
    fn look(&mut self, id: &str) -> Option<Arc<Info>> {
        let mut open = self.open.remove(id)?;
        let mut found = None;
        if !open.done {
            let before = open.info.clone();
            open.done = self.read_files(id, &mut open)
                || (self.engines.refresh(&mut self.pool) && self.read_files(id, &mut open));
            found = (open.info != before).then(|| Arc::new(open.info.clone()));
            let now = Instant::now();
            open.due = (!open.done && now < open.since + PATIENCE).then(|| now + open.wait);
            open.wait = (open.wait * 2).min(LONGEST_WAIT);
            if open.named_by.is_some() {
                self.watch_at.get_or_insert(now + WATCH_EVERY);
            }
        }
        self.open.insert(id.into(), open);
        found
    }

    /// Reads what there is. True if that is all there will be.
    fn read_files(&mut self, id: &str, open: &mut Open) -> bool {
        let cgroup = open.cgroup.clone().unwrap_or_default();
        // A runtime inside a container is gone, and its view with it: the engine in there may have the same.
        open.bundle = open.bundle.take().filter(|bundle| bundle.realm.within.is_none() || bundle.is_seen());
        if open.bundle.is_none() {
            open.bundle = self.engines.bundle(id, open.owner, &cgroup).cloned();
            open.vouched = false;
        }
        // A runtime inside a container describes what is inside that, and nothing before it is known where that is.
        let within = |place: &Place| place.realm.within.is_none() || place.realm.covers(open.owner, &cgroup);
        let bundle = open.bundle.clone().filter(within);
        let config = bundle.as_ref().and_then(|bundle| {
            let owner = if open.vouched { Owner::Vouched } else { Owner::of(bundle.realm.uid) };
            self.see(bundle, &bundle.path.join("config.json"), owner).map(|(json, _)| json)
        });
        let spec = config.is_some_and(|json| files::bundle(&json, &mut open.info));
        if let Some(bundle) = bundle.as_ref().filter(|_| spec) {
            open.info.bundle = bundle.path.to_str().map(Into::into);
        }
        if self.docker(id, &cgroup, open) {
            return spec;
        }
        // Its bundle is `<store>/<driver>-containers/<id>/userdata`.
        let store = bundle.as_ref().filter(|bundle| bundle.path.ends_with("userdata"));
        if let Some((bundle, store)) = store.and_then(|bundle| Some((bundle, bundle.path.parent()?.parent()?))) {
            let owner = Owner::of(bundle.realm.uid);
            let known = ["containers.json", "volatile-containers.json"].iter().any(|name| {
                let Some((json, by)) = self.see(bundle, &store.join(name), owner) else { return false };
                let known = files::podman(&json, id, &mut open.info);
                if known {
                    open.named_by = Some(by);
                }
                known
            });
            return spec && known;
        }
        // Plain runtimes know no more than the bundle; containerd's annotations are in it.
        spec && !bundle.is_some_and(|bundle| is_dockers(&bundle.path))
    }

    /// Docker keeps its own file of each.
    fn docker(&mut self, id: &str, cgroup: &str, open: &mut Open) -> bool {
        // No path is made of what could be anything.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        let roots: Vec<Place> =
            self.engines.docker.iter().filter(|root| root.realm.covers(open.owner, cgroup)).cloned().collect();
        roots.iter().any(|root| {
            let file = root.path.join("containers").join(id).join("config.v2.json");
            let Some((json, by)) = self.see(root, &file, Owner::of(root.realm.uid)) else { return false };
            let known = docker::container(&json, &mut open.info);
            if known {
                open.named_by = Some(by);
            }
            known
        })
    }

    /// A file where a process sees it that has mounts of its own, or else where tracer does; and what it looked like before it
    /// was read. What a user or a process inside a container names is looked for nowhere else than there.
    fn see(&mut self, place: &Place, path: &Path, owner: Owner) -> Option<(Vec<u8>, NamedBy)> {
        let host = Place { seen_by: None, ..place.clone() };
        let only = place.realm.within.is_some() || place.realm.uid != 0 || place.seen_by.is_none();
        let ways = if only { vec![place] } else { vec![place, &host] };
        ways.into_iter().find_map(|place| {
            let file = place.named(path.to_owned(), owner)?;
            let (signature, bytes) = self.pool.run(place.realm.uid, move || (signature(&file).ok(), read(&file)))?;
            match bytes {
                Ok(bytes) => Some((bytes, NamedBy { place: place.clone(), path: path.to_owned(), signature })),
                Err(error) => {
                    tracing::trace!("{} is not read: {error}", path.display());
                    None
                }
            }
        })
    }
}

fn found(id: Arc<str>, info: Arc<Info>) -> Answer {
    Answer { id, info: Some(info), last: false, peak_memory_bytes: None }
}

/// True for the bundles that Docker has containerd make: those in its namespace.
fn is_dockers(bundle: &Path) -> bool {
    bundle.parent().is_some_and(|above| above.ends_with("moby"))
}

#[cfg(test)]
mod tests;
