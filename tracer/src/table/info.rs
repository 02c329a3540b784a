//! What is to be looked for of containers, and what was found: names, images, memory.
//!
//! The table does not look: it keeps the questions until they are taken ([`Table::take_asks`]), and an end that waits for an
//! answer is told with that, or when it has waited for too long.

use std::path::Path;
use std::sync::Arc;

use super::container::Step;
use super::store::Slot;
use super::{Moment, Table};
use crate::enrich::info::{Answer, Ask, Bundle, Info};
use crate::enrich::oci;
use crate::event::{self, Event, ProcessContainer};

/// So long may the end of a container wait for what is still to be found out of it, in nanoseconds.
const WAIT_NS: u64 = 1_000_000_000;

/// Of so many containers what is known is kept that never came to be.
const MOST: usize = 4096;

impl Table {
    /// What is to be looked for, since this was last asked. Who waits does so from now on (`CLOCK_BOOTTIME`), however late it is.
    pub fn take_asks(&mut self, now_ns: u64) -> Vec<Ask> {
        let asks = std::mem::take(&mut self.asks);
        for ask in &asks {
            if let Ask::Last { id, .. } = ask
                && let Some(life) = self.lives.get_mut(id)
            {
                life.asked_ns.get_or_insert(now_ns);
            }
        }
        asks
    }

    /// There was no room for these questions.
    pub fn keep_asks(&mut self, asks: Vec<Ask>) {
        self.asks.splice(0..0, asks);
    }

    /// True while the end of a container waits for an answer.
    pub fn waits_for_answers(&self) -> bool {
        self.lives.values().any(|life| life.waits_since().is_some())
    }

    /// When an end has waited for long enough.
    pub(super) fn answers_due_ns(&self) -> Option<u64> {
        self.lives.values().filter_map(super::container::Life::waits_since).min().map(|since| since + WAIT_NS)
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        if self.options.look_up {
            self.asks.push(ask);
        }
    }

    /// A process has another image: if that is a runtime of root that is to make a container, its bundle is where to look.
    /// If there is such a container already the runtime will refuse, and its bundle describes nothing.
    pub(super) fn runtime_execed(&mut self, slot: Slot) {
        if !self.options.look_up {
            return;
        }
        let Some(line) = self.runtime_line(slot).filter(|line| line.verb == oci::Verb::Create) else { return };
        if self.lives.get(&*line.id).is_some_and(super::container::Life::is_there) {
            return;
        }
        self.ask_by_runtime(slot);
    }

    /// Asks for the bundle that a runtime names.
    pub(super) fn ask_by_runtime(&mut self, slot: Slot) {
        if !self.options.look_up {
            return;
        }
        let Some(line) = self.runtime_line(slot) else { return };
        let cwd = self.store.image(slot).cwd.clone();
        let path = match (line.bundle.as_deref(), cwd.as_deref()) {
            (Some(given), Some(cwd)) => Path::new(cwd).join(given).to_str().map(Into::into),
            (given, cwd) => given.or(cwd).map(Into::into),
        };
        let within = self.container_of(slot).map(|container| container.cgroup.clone());
        let bundle = path.map(|path| Bundle { path, runtime: self.store[slot].id(), within });
        let id: Arc<str> = line.id.into();
        let asked_by = self.store[slot].id();
        if self.bundles_by.insert(id.clone(), asked_by) != Some(asked_by) {
            // What another one said of this id is not true of the one that is made now.
            self.infos.remove(&id);
        }
        if self.bundles_by.len() > MOST {
            self.bundles_by.retain(|id, _| self.lives.contains_key(id));
        }
        self.ask(Ask::Look { id, cgroup: None, bundle, runtime: Some(line.runtime.into()) });
    }

    /// What was looked for, at a time that is given as `CLOCK_BOOTTIME`.
    pub fn answer(&mut self, answer: Answer, boot_ns: u64, out: &mut Vec<Event>) {
        let at = Moment { boot_ns, cpu: None };
        let Answer { id, info, last, peak_memory_bytes } = answer;
        if let Some(info) = info {
            if let Some(life) = self.lives.get_mut(&id) {
                life.shown = Arc::new(shown(&id, &info));
            }
            let before = self.infos.insert(id.clone(), info.clone());
            if before.is_none_or(|before| before.name != info.name) {
                self.name_changed(&id);
            }
            self.tell_info(&id, at, out);
            if self.infos.len() > MOST {
                self.infos.retain(|id, _| self.lives.contains_key(id));
            }
        }
        if last && let Some(life) = self.lives.get_mut(&id) {
            life.sums.peak_memory_bytes = peak_memory_bytes;
            self.stop_waiting(&id, out);
        }
    }

    /// What a container is called has changed: whoever chooses by name decides again.
    fn name_changed(&mut self, id: &str) {
        self.cgroups.touch(id);
        let namespaces = self.lives.get(id).map_or([0; 2], |life| life.namespaces);
        for number in namespaces.into_iter().filter(|&number| number != 0) {
            self.note_namespace(number);
        }
    }

    /// Tells of a container that is there what its files say.
    pub(super) fn tell_info(&self, id: &str, at: Moment, out: &mut Vec<Event>) {
        let Some(life) = self.lives.get(id).filter(|life| life.created) else { return };
        if self.infos.contains_key(id) {
            self.tell_container(Step::Info, &life.container, None, at, out);
        }
    }

    /// Tells the ends of containers that have waited for long enough, now that it is so late (`CLOCK_BOOTTIME`).
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        let late = |since: u64| since + WAIT_NS <= now_ns;
        let ids: Vec<Arc<str>> = self
            .lives
            .iter()
            .filter(|(_, life)| life.waits_since().is_some_and(late))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.stop_waiting(&id, out);
        }
    }

    /// Tells what waits for no answer any more.
    pub fn give_up_waiting(&mut self, out: &mut Vec<Event>) {
        self.tick(u64::MAX, out);
    }
}

/// What the lines of a container's processes say about it.
pub(super) fn shown(id: &Arc<str>, info: &Info) -> ProcessContainer {
    let kubernetes = info.kubernetes.as_ref();
    ProcessContainer {
        id: id.clone(),
        name: info.name.clone(),
        image: info.image.clone(),
        pod: kubernetes.and_then(|kubernetes| kubernetes.pod.clone()),
        namespace: kubernetes.and_then(|kubernetes| kubernetes.namespace.clone()),
    }
}

/// Puts what is known of a container into a line about it.
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
