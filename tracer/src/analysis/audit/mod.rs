//! The start of a container, step by step: events in, a [`Start`] out.
//!
//! The processes of a start are children of the engine's daemon, not of the client that requested it. So the search begins
//! at the other end, at the container's first process. It follows the creators up: the stages of init, the runtime, the
//! shim, the daemon. The client is a process that had a request under way then (`client.rs`). All of it is pure and works
//! on live events and on recordings.

mod build;
mod client;
pub mod diff;

mod history;
pub mod role;
mod start;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use start::{Evidence, Ran, Start};

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Container, Event, Kind};
use history::History;

/// How long a start is held back after the exec of its entrypoint, in nanoseconds.
///
/// In this time the first child, the name and image, and exits may still arrive.
pub const SETTLE_NS: u64 = 1_000_000_000;

/// Number of created but not yet started containers that are kept.
const CREATED_KEPT: usize = 1024;

/// A container whose start is not reported yet.
#[derive(Debug)]
struct Pending {
    container: Container,
    /// Its first process if known, or else the process that created it.
    init: ProcessId,
    /// The first process that the entrypoint forked.
    first_child: Option<ProcessId>,
    /// When its entrypoint was exec'd. `None` if it never was.
    ready_ns: Option<u64>,
    /// UTC minus boot time.
    utc_minus_boot_ns: i64,
    ended: bool,
}

/// Follows containers as they start.
#[derive(Debug, Default)]
pub struct Starts {
    history: History,
    /// Created containers by id, with the process that created each.
    created: FxHashMap<Arc<str>, (ProcessId, Container)>,
    pending: Vec<Pending>,
    /// Clients with the id of their container.
    clients: FxHashMap<ProcessId, Arc<str>>,
    /// Shims that started a container before. A shim may serve several.
    shims: FxHashSet<ProcessId>,
    now_ns: u64,
}

impl Starts {
    /// Takes in an event.
    pub fn apply(&mut self, event: &Event) {
        self.now_ns = self.now_ns.max(event.boot_ns.unwrap_or_default());
        let at = event.boot_ns.unwrap_or(self.now_ns);
        self.history.apply(event, at);
        if event.kind() == Kind::Exit
            && let Some(process) = &event.process
        {
            self.clients.remove(&process.id);
            self.shims.remove(&process.id);
        }
        if event.kind() == Kind::Fork
            && let Some(process) = &event.process
        {
            let creator = process.creator_id.or(process.parent_id);
            let childless = |pending: &&mut Pending| Some(pending.init) == creator && pending.first_child.is_none();
            self.pending.iter_mut().filter(childless).for_each(|pending| pending.first_child = Some(process.id));
        }
        let Some(container) = event.container() else { return };
        let about = Container { end: None, args: None, annotations: None, ..container.clone() };
        self.pending.iter_mut().filter(|pending| pending.container.id == about.id).for_each(|pending| {
            pending.learn(&about);
        });
        match event.kind() {
            Kind::ContainerCreate => {
                let Some(maker) = &event.process else { return };
                if self.created.len() == CREATED_KEPT {
                    self.created.clear();
                }
                self.created.insert(about.id.clone(), (maker.id, about));
            }
            Kind::ContainerStart => {
                let Some(init) = &event.process else { return };
                self.created.remove(&about.id);
                self.pend(about, init.id, Some(at), event.time);
            }
            Kind::ContainerExit => {
                self.pending.iter_mut().filter(|pending| pending.container.id == about.id).for_each(|pending| {
                    pending.ended = true;
                });
            }
            Kind::ContainerRemove => {
                if let Some((maker, about)) = self.created.remove(&about.id) {
                    let init = self.history.first_in(&about.id).unwrap_or(maker);
                    self.pend(about, init, None, event.time);
                }
            }
            _ => {}
        }
    }

    fn pend(&mut self, container: Container, init: ProcessId, ready_ns: Option<u64>, time: Timestamp) {
        let at = ready_ns.unwrap_or(self.now_ns);
        let utc_minus_boot_ns = time.0.saturating_sub_unsigned(at);
        let ended = ready_ns.is_none();
        self.pending.push(Pending { container, init, first_child: None, ready_ns, utc_minus_boot_ns, ended });
    }

    /// Takes the starts that are complete at `now_ns` (`CLOCK_BOOTTIME`), in the order in which they became ready.
    pub fn take(&mut self, now_ns: u64) -> Vec<Start> {
        self.take_if(|history, pending| {
            let settled = pending.first_child.is_some_and(|child| history.has_run(child));
            pending.is_over(now_ns) || settled && pending.is_named()
        })
    }

    /// Takes the starts whose settling time is over by the time of the last event. For recordings, where nobody waits.
    pub fn take_by_events(&mut self) -> Vec<Start> {
        let now_ns = self.now_ns;
        self.take_if(|_, pending| pending.is_over(now_ns))
    }

    /// Takes all remaining starts at the end of the events.
    pub fn finish(&mut self) -> Vec<Start> {
        self.take_if(|_, _| true)
    }

    fn take_if(&mut self, due: impl Fn(&History, &Pending) -> bool) -> Vec<Start> {
        let (done, left) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| due(&self.history, pending));
        self.pending = left;
        Vec::into_iter(done).map(|pending| self.build(&pending)).collect()
    }
}

impl Pending {
    /// Takes in a later event about the container and keeps what was known before.
    fn learn(&mut self, about: &Container) {
        let known = std::mem::replace(&mut self.container, about.clone());
        let Container { name, image, hostname, runtime, kubernetes, bundle, .. } = &mut self.container;
        *name = name.take().or(known.name);
        *image = image.take().or(known.image);
        *hostname = hostname.take().or(known.hostname);
        *runtime = runtime.take().or(known.runtime);
        *kubernetes = kubernetes.take().or(known.kubernetes);
        *bundle = bundle.take().or(known.bundle);
    }

    /// Returns true once the settling time is over or the container has ended.
    fn is_over(&self, now_ns: u64) -> bool {
        self.ended || self.ready_ns.is_none_or(|ready| now_ns >= ready.saturating_add(SETTLE_NS))
    }

    /// Returns true if its name is known, or its engine gives none.
    fn is_named(&self) -> bool {
        let with_names = matches!(self.container.engine.as_deref(), Some("docker" | "podman"));
        self.container.name.is_some() || !with_names
    }
}
