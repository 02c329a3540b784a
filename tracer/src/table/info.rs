//! Details of containers: requests for them, and replies with names, images and memory.
//!
//! The table does no lookups itself. It queues requests until [`Table::take_requests`] takes them. An exit event waits
//! for its reply, up to a time limit.

use std::path::Path;
use std::sync::Arc;

use super::container::Step;
use super::store::Slot;
use super::{Moment, Table};
use crate::enrich::info::{Bundle, Info, InfoReply, InfoRequest};
use crate::enrich::oci;
use crate::event::{self, Event, ProcessContainer};

/// How long the exit of a container may wait for details, in nanoseconds.
const WAIT_NS: u64 = 1_000_000_000;

/// Most containers for which details are kept although they do not exist (yet).
const MAX_KEPT: usize = 4096;

impl Table {
    /// Returns the requests since the last call. Containers that wait do so from `now_ns` on (`CLOCK_BOOTTIME`).
    pub fn take_requests(&mut self, now_ns: u64) -> Vec<InfoRequest> {
        let requests = std::mem::take(&mut self.requests);
        for request in &requests {
            if let InfoRequest::Final { id, .. } = request
                && let Some(lifecycle) = self.containers.get_mut(id)
            {
                lifecycle.requested_ns.get_or_insert(now_ns);
            }
        }
        requests
    }

    /// Puts back requests that the caller could not queue.
    pub fn return_requests(&mut self, requests: Vec<InfoRequest>) {
        self.requests.splice(0..0, requests);
    }

    /// Returns true while the exit of a container waits for a reply.
    pub fn waits_for_replies(&self) -> bool {
        self.containers.values().any(|lifecycle| lifecycle.waiting_since().is_some())
    }

    /// Returns when the first exit will have waited long enough.
    pub(super) fn replies_due_ns(&self) -> Option<u64> {
        self.containers
            .values()
            .filter_map(super::container::Lifecycle::waiting_since)
            .min()
            .map(|since| since + WAIT_NS)
    }

    pub(super) fn request(&mut self, request: InfoRequest) {
        if self.options.look_up {
            self.requests.push(request);
        }
    }

    /// Requests the details of a container that a runtime of root is about to create: an exec names its bundle.
    /// If the container exists, the runtime will refuse, so its bundle describes nothing.
    pub(super) fn runtime_execed(&mut self, slot: Slot) {
        if !self.options.look_up {
            return;
        }
        let Some(command) = self.runtime_command(slot).filter(|command| command.verb == oci::Verb::Create) else {
            return;
        };
        if self.containers.get(&*command.id).is_some_and(super::container::Lifecycle::exists) {
            return;
        }
        self.request_by_runtime(slot);
    }

    /// Requests the bundle that a runtime names.
    pub(super) fn request_by_runtime(&mut self, slot: Slot) {
        if !self.options.look_up {
            return;
        }
        let Some(command) = self.runtime_command(slot) else { return };
        let cwd = self.store.image(slot).cwd.clone();
        let path = match (command.bundle.as_deref(), cwd.as_deref()) {
            (Some(given), Some(cwd)) => Path::new(cwd).join(given).to_str().map(Into::into),
            (given, cwd) => given.or(cwd).map(Into::into),
        };
        let within = self.container_of(slot).map(|container| container.cgroup.clone());
        let bundle = path.map(|path| Bundle { path, runtime: self.store[slot].id(), within });
        let id: Arc<str> = command.id.into();
        let asked_by = self.store[slot].id();
        if self.bundles_by.insert(id.clone(), asked_by) != Some(asked_by) {
            // The details that another runtime gave for this id are not those of the new container.
            self.infos.remove(&id);
        }
        if self.bundles_by.len() > MAX_KEPT {
            self.bundles_by.retain(|id, _| self.containers.contains_key(id));
        }
        self.request(InfoRequest::LookUp { id, cgroup: None, bundle, runtime: Some(command.runtime.into()) });
    }

    /// Takes in a reply that arrived at `boot_ns` (`CLOCK_BOOTTIME`).
    pub fn apply_reply(&mut self, reply: InfoReply, boot_ns: u64, out: &mut Vec<Event>) {
        let at = Moment { boot_ns, cpu: None };
        let InfoReply { id, info, last, peak_memory_bytes } = reply;
        if let Some(info) = info {
            if let Some(lifecycle) = self.containers.get_mut(&id) {
                lifecycle.summary = Arc::new(summary(&id, &info));
            }
            let before = self.infos.insert(id.clone(), info.clone());
            if before.is_none_or(|before| before.name != info.name) {
                self.container_renamed(&id);
            }
            self.report_info(&id, at, out);
            if self.infos.len() > MAX_KEPT {
                self.infos.retain(|id, _| self.containers.contains_key(id));
            }
        }
        if last && let Some(lifecycle) = self.containers.get_mut(&id) {
            lifecycle.sums.peak_memory_bytes = peak_memory_bytes;
            self.stop_waiting(&id, out);
        }
    }

    /// Handles a changed container name: filters by name have to be evaluated again.
    fn container_renamed(&mut self, id: &str) {
        self.cgroups.touch(id);
        let namespaces = self.containers.get(id).map_or([0; 2], |lifecycle| lifecycle.namespaces);
        for number in namespaces.into_iter().filter(|&number| number != 0) {
            self.note_namespace(number);
        }
    }

    /// Reports what the files of an existing container say.
    pub(super) fn report_info(&self, id: &str, at: Moment, out: &mut Vec<Event>) {
        let Some(lifecycle) = self.containers.get(id).filter(|lifecycle| lifecycle.created) else { return };
        if self.infos.contains_key(id) {
            self.report_container(Step::Info, &lifecycle.container, None, at, out);
        }
    }

    /// Reports the exits of containers that have waited long enough at `now_ns` (`CLOCK_BOOTTIME`).
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        let late = |since: u64| since + WAIT_NS <= now_ns;
        let ids: Vec<Arc<str>> = self
            .containers
            .iter()
            .filter(|(_, lifecycle)| lifecycle.waiting_since().is_some_and(late))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.stop_waiting(&id, out);
        }
    }

    /// Reports all exits that still wait.
    pub fn give_up_waiting(&mut self, out: &mut Vec<Event>) {
        self.tick(u64::MAX, out);
    }
}

/// Returns how events of a container's processes show it.
pub(super) fn summary(id: &Arc<str>, info: &Info) -> ProcessContainer {
    let kubernetes = info.kubernetes.as_ref();
    ProcessContainer {
        id: id.clone(),
        name: info.name.clone(),
        image: info.image.clone(),
        pod: kubernetes.and_then(|kubernetes| kubernetes.pod.clone()),
        namespace: kubernetes.and_then(|kubernetes| kubernetes.namespace.clone()),
    }
}

/// Copies the known details of a container into an event about it.
pub(super) fn fill(container: &mut event::Container, info: &Info, whole: bool) {
    container.name.clone_from(&info.name);
    container.image.clone_from(&info.image);
    container.hostname.clone_from(&info.hostname);
    container.runtime.clone_from(&info.runtime);
    container.kubernetes.clone_from(&info.kubernetes);
    container.paused = info.paused;
    if whole {
        container.bundle.clone_from(&info.bundle);
        container.args.clone_from(&info.args);
        container.annotations.clone_from(&info.annotations);
    }
}
