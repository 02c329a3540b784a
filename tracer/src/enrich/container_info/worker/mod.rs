//! Looks up details of containers: retries until they are found or the container exits, then watches for changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::UnboundedSender;

use super::cgroup::Mounts;
use super::engines::{EnginePath, EngineScope, Engines};
use super::{Job, docker, files};
use crate::enrich::info::{Bundle, Info, InfoReply, InfoRequest};
use crate::untrusted::{Named, Owner, Pool, Signature, read, signature};

/// Time between two lookups, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const MAX_WAIT: Duration = Duration::from_secs(1);
/// After this time only the container's exit triggers another lookup.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Maximum number of containers. Beyond it, containers that never started are dropped.
const MAX_TARGETS: usize = 4096;
/// Maximum number of described containers per user other than root: the files are the user's, the memory is ours.
const MAX_PER_USER: usize = 256;
/// Time between two checks for changes: names, and whether a container is paused.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The file that names a container, and its signature when it was read.
#[derive(Clone, Debug)]
struct NameSource {
    place: EnginePath,
    path: PathBuf,
    signature: Option<Signature>,
}

/// A container whose details are looked up.
#[derive(Debug)]
struct Target {
    bundle: Option<EnginePath>,
    /// A runtime of root used the files of its bundle.
    vouched: bool,
    cgroup: Option<Arc<str>>,
    /// Uid of the user who may create containers there.
    owner: u32,
    info: Info,
    /// Everything is known.
    done: bool,
    /// The file that names it.
    name_source: Option<NameSource>,
    since: Instant,
    wait: Duration,
    due: Option<Instant>,
}

impl Target {
    fn new(now: Instant) -> Self {
        Self {
            bundle: None,
            vouched: false,
            cgroup: None,
            owner: 0,
            info: Info::default(),
            done: false,
            name_source: None,
            since: now,
            wait: FIRST_WAIT,
            due: None,
        }
    }
}

/// Reads the files. Runs on its own, or in a thread ([`super::InfoLookup`]).
#[derive(Debug, Default)]
pub struct Worker {
    mounts: Mounts,
    engines: Engines,
    pool: Pool,
    targets: FxHashMap<Arc<str>, Target>,
    watch_at: Option<Instant>,
}

impl Worker {
    /// Returns a worker that reads cgroups at these mounts.
    pub fn new(mounts: Mounts) -> Self {
        Self { mounts, ..Self::default() }
    }

    /// Handles requests until all senders are gone.
    pub(super) fn work(mut self, jobs: &Receiver<Job>, out: &UnboundedSender<InfoReply>) {
        loop {
            let due = self.targets.values().filter_map(|target| target.due).chain(self.watch_at).min();
            let job = match due {
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => jobs.recv().map_err(RecvTimeoutError::from),
            };
            match job {
                Ok(Job::Request(request)) => {
                    self.handle(request).map(|reply| out.send(reply));
                }
                Ok(Job::Sync(done)) => {
                    // The sender may have stopped waiting.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also under a constant load of requests.
            let now = Instant::now();
            if due.is_some_and(|due| due <= now) {
                for reply in self.retry_due(now).into_iter().chain(self.watch(now)) {
                    let _ = out.send(reply);
                }
            }
        }
    }

    /// Handles one request. Returns a reply if there is something to report.
    pub fn handle(&mut self, request: InfoRequest) -> Option<InfoReply> {
        match request {
            InfoRequest::LookUp { id, cgroup, bundle, runtime } => {
                self.add_target(&id, cgroup, bundle, runtime);
                let info = self.look_up(&id);
                info.map(|info| reply(id, info))
            }
            InfoRequest::Final { id, cgroup } => {
                // First of all: the cgroup is about to be removed.
                let peak_memory_bytes = cgroup.and_then(|cgroup| self.mounts.peak(&cgroup));
                let info = self.look_up(&id);
                if let Some(target) = self.targets.get_mut(&id) {
                    (target.due, target.cgroup, target.name_source) = (None, None, None);
                }
                Some(InfoReply { id, info, last: true, peak_memory_bytes })
            }
            InfoRequest::Forget { id } => {
                self.targets.remove(&id);
                None
            }
        }
    }

    fn add_target(
        &mut self,
        id: &Arc<str>,
        cgroup: Option<Arc<str>>,
        bundle: Option<Bundle>,
        runtime: Option<Arc<str>>,
    ) {
        if self.targets.len() >= MAX_TARGETS {
            self.targets.retain(|_, target| target.due.is_some() || target.cgroup.is_some());
        }
        let now = Instant::now();
        let target = self.targets.entry(id.clone()).or_insert_with(|| Target::new(now));
        if let Some(bundle) = bundle {
            let place = EnginePath {
                path: PathBuf::from(&*bundle.path),
                view_of: Some(bundle.runtime),
                scope: EngineScope { uid: 0, within: bundle.within },
            };
            // The container is created again: details of an earlier one with this id are wrong now.
            if target.bundle.as_ref() != Some(&place) {
                *target = Target { bundle: Some(place), vouched: true, ..Target::new(now) };
            }
        }
        if let Some(cgroup) = cgroup {
            target.owner = self.mounts.owner(&cgroup);
            target.cgroup = Some(cgroup);
            self.watch_at.get_or_insert(now + WATCH_INTERVAL);
        }
        if runtime.is_some() {
            target.info.runtime = runtime;
        }
        let owner = target.owner;
        if owner != 0 && self.targets.values().filter(|target| target.owner == owner).count() > MAX_PER_USER {
            tracing::debug!("user {owner} has more than {MAX_PER_USER} containers: {id} is not described");
            self.targets.remove(id);
        }
    }

    fn retry_due(&mut self, now: Instant) -> Vec<InfoReply> {
        let due = self.targets.iter().filter(|(_, target)| target.due.is_some_and(|due| due <= now));
        let ids: Vec<Arc<str>> = due.map(|(id, _)| id.clone()).collect();
        ids.into_iter().filter_map(|id| self.look_up(&id).map(|info| reply(id, info))).collect()
    }

    /// Checks what can change while a container lives: its name, and whether it is paused.
    fn watch(&mut self, now: Instant) -> Vec<InfoReply> {
        if self.watch_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let living = self.targets.iter().filter(|(_, target)| target.cgroup.is_some() || target.name_source.is_some());
        let ids: Vec<Arc<str>> = living.map(|(id, _)| id.clone()).collect();
        self.watch_at = (!ids.is_empty()).then_some(now + WATCH_INTERVAL);
        let seen = self.signatures();
        let mut replies = Vec::new();
        for id in ids {
            let Some(target) = self.targets.get_mut(&id) else { continue };
            let before = target.info.clone();
            let changed = target.name_source.as_ref().is_some_and(|by| {
                seen.get(&(target.owner, by.path.clone())).is_some_and(|now| Some(now) != by.signature.as_ref())
            });
            target.info.paused = target.cgroup.as_ref().is_some_and(|cgroup| self.mounts.is_frozen(cgroup));
            if changed {
                target.done = false;
                self.look_up(&id);
            }
            let now = self.targets.get(&id).filter(|target| target.info != before);
            replies.extend(now.map(|target| reply(id, Arc::new(target.info.clone()))));
        }
        replies
    }

    /// Returns the current signatures of the files that name containers. Each file is checked once, in one task per
    /// user.
    fn signatures(&mut self) -> FxHashMap<(u32, PathBuf), Signature> {
        let mut files: FxHashMap<u32, FxHashMap<PathBuf, Named>> = FxHashMap::default();
        for target in self.targets.values() {
            let Some(by) = &target.name_source else { continue };
            let of_owner = files.entry(target.owner).or_default();
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

    /// Returns everything known about a container, if a lookup finds more than before.
    fn look_up(&mut self, id: &str) -> Option<Arc<Info>> {
        let mut target = self.targets.remove(id)?;
        let mut reply = None;
        if !target.done {
            let before = target.info.clone();
            target.done = self.read_files(id, &mut target)
                || (self.engines.refresh(&mut self.pool) && self.read_files(id, &mut target));
            reply = (target.info != before).then(|| Arc::new(target.info.clone()));
            let now = Instant::now();
            target.due = (!target.done && now < target.since + RETRY_FOR).then(|| now + target.wait);
            target.wait = (target.wait * 2).min(MAX_WAIT);
            if target.name_source.is_some() {
                self.watch_at.get_or_insert(now + WATCH_INTERVAL);
            }
        }
        self.targets.insert(id.into(), target);
        reply
    }

    /// Reads the files that exist. Returns true if no more are expected.
    fn read_files(&mut self, id: &str, target: &mut Target) -> bool {
        let cgroup = target.cgroup.clone().unwrap_or_default();
        // A runtime inside a container has exited, and its view with it. The engine in there may have the same view.
        target.bundle = target.bundle.take().filter(|bundle| bundle.scope.within.is_none() || bundle.view_exists());
        if target.bundle.is_none() {
            target.bundle = self.engines.bundle(id, target.owner, &cgroup).cloned();
            target.vouched = false;
        }
        // A runtime inside a container may only describe containers below that. While the cgroup is unknown, nothing is
        // read.
        let within = |place: &EnginePath| place.scope.within.is_none() || place.scope.covers(target.owner, &cgroup);
        let bundle = target.bundle.clone().filter(within);
        let config = bundle.as_ref().and_then(|bundle| {
            let owner = if target.vouched { Owner::Vouched } else { Owner::of(bundle.scope.uid) };
            self.read_in_view(bundle, &bundle.path.join("config.json"), owner).map(|(json, _)| json)
        });
        let spec = config.is_some_and(|json| files::bundle(&json, &mut target.info));
        if let Some(bundle) = bundle.as_ref().filter(|_| spec) {
            target.info.bundle = bundle.path.to_str().map(Into::into);
        }
        if self.docker(id, &cgroup, target) {
            return spec;
        }
        // Its bundle is `<store>/<driver>-containers/<id>/userdata`.
        let store = bundle.as_ref().filter(|bundle| bundle.path.ends_with("userdata"));
        if let Some((bundle, store)) = store.and_then(|bundle| Some((bundle, bundle.path.parent()?.parent()?))) {
            let owner = Owner::of(bundle.scope.uid);
            let known = ["containers.json", "volatile-containers.json"].iter().any(|name| {
                let Some((json, by)) = self.read_in_view(bundle, &store.join(name), owner) else { return false };
                let known = files::podman(&json, id, &mut target.info);
                if known {
                    target.name_source = Some(by);
                }
                known
            });
            return spec && known;
        }
        // Plain runtimes have only the bundle. containerd's annotations are in it.
        spec && !bundle.is_some_and(|bundle| is_of_docker(&bundle.path))
    }

    /// Reads Docker's own file about the container.
    fn docker(&mut self, id: &str, cgroup: &str, target: &mut Target) -> bool {
        // Build no path from an arbitrary string.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        let roots: Vec<EnginePath> =
            self.engines.docker.iter().filter(|root| root.scope.covers(target.owner, cgroup)).cloned().collect();
        roots.iter().any(|root| {
            let file = root.path.join("containers").join(id).join("config.v2.json");
            let Some((json, by)) = self.read_in_view(root, &file, Owner::of(root.scope.uid)) else { return false };
            let known = docker::container(&json, &mut target.info);
            if known {
                target.name_source = Some(by);
            }
            known
        })
    }

    /// Reads a file in the view of a process with separate mounts, or else in tracer's view. Also returns the file's
    /// signature from before the read. If a user or a process in a container named the file, only that view is used.
    fn read_in_view(&mut self, place: &EnginePath, path: &Path, owner: Owner) -> Option<(Vec<u8>, NameSource)> {
        let host = EnginePath { view_of: None, ..place.clone() };
        let only = place.scope.within.is_some() || place.scope.uid != 0 || place.view_of.is_none();
        let views = if only { vec![place] } else { vec![place, &host] };
        views.into_iter().find_map(|place| {
            let file = place.named(path.to_owned(), owner)?;
            let (signature, bytes) = self.pool.run(place.scope.uid, move || (signature(&file).ok(), read(&file)))?;
            match bytes {
                Ok(bytes) => Some((bytes, NameSource { place: place.clone(), path: path.to_owned(), signature })),
                Err(error) => {
                    tracing::trace!("{} is not read: {error}", path.display());
                    None
                }
            }
        })
    }
}

fn reply(id: Arc<str>, info: Arc<Info>) -> InfoReply {
    InfoReply { id, info: Some(info), last: false, peak_memory_bytes: None }
}

/// Returns true for bundles that Docker had containerd create: those in its namespace.
fn is_of_docker(bundle: &Path) -> bool {
    bundle.parent().is_some_and(|above| above.ends_with("moby"))
}

#[cfg(test)]
mod tests;
