//! The start of a container, step by step: events in, a [`Start`] out.
//!
//! The processes of a start are children of the engine's daemon, not of the client that asked for it. So they are found from
//! the other end: from the container's first process up the line of who created whom, through the stages of init, the
//! runtime and the shim, to the daemon; the client is whoever was asking then (`client.rs`). All of it is pure: events of the
//! running kernel and of a file do alike.

mod build;
mod client;
pub mod diff;

mod history;
pub mod role;
mod start;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use start::{Ran, Start, Tie};

use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Container, Event, Kind};
use history::History;

/// How long after its entrypoint's exec a start is waited with, for the first child, for name and image and for ends, in nanoseconds.
pub const SETTLE_NS: u64 = 1_000_000_000;

/// Containers of which it is remembered that they were made and have not been started yet.
const CREATED_KEPT: usize = 1024;

/// A container whose start is not told yet.
#[derive(Debug)]
struct Pending {
    container: Container,
    /// Its first process, as far as that is known; else who made it.
    init: ProcessId,
    /// The first process that the entrypoint made.
    first_child: Option<ProcessId>,
    /// When its entrypoint was exec'd; none if it never was.
    ready_ns: Option<u64>,
    /// UTC less boot time.
    utc_minus_boot_ns: i64,
    ended: bool,
}

/// Follows containers as they start.
#[derive(Debug, Default)]
pub struct Starts {
    history: History,
    /// Containers that were made, by id: who made them.
    created: FxHashMap<Arc<str>, (ProcessId, Container)>,
    pending: Vec<Pending>,
    /// Clients, with the container they were found to be the client of.
    clients: FxHashMap<ProcessId, Arc<str>>,
    /// Shims through which a container was started already: one may have several.
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

    /// Those of which all is known by now (`CLOCK_BOOTTIME`, nanoseconds), in the order in which they became ready.
    pub fn take(&mut self, now_ns: u64) -> Vec<Start> {
        self.take_if(|history, pending| {
            let settled = pending.first_child.is_some_and(|child| history.has_run(child));
            pending.is_over(now_ns) || settled && pending.is_named()
        })
    }

    /// The same where nobody waits for them: with the ends of what ended soon.
    pub fn take_by_events(&mut self) -> Vec<Start> {
        let now_ns = self.now_ns;
        self.take_if(|_, pending| pending.is_over(now_ns))
    }

    /// All that are left: nothing more will come.
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
    /// What became known of the container since.
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

    /// True if nothing more is waited for.
    fn is_over(&self, now_ns: u64) -> bool {
        self.ended || self.ready_ns.is_none_or(|ready| now_ns >= ready.saturating_add(SETTLE_NS))
    }

    /// True if nothing more will be learnt of what it is called.
    fn is_named(&self) -> bool {
        let with_names = matches!(self.container.engine.as_deref(), Some("docker" | "podman"));
        self.container.name.is_some() || !with_names
    }
}
