//! The containers and their activity: events in, a [`RosterFrame`] out. Pure, so it works on live events and on recordings.

mod listed;
mod tracked;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use self::listed::{ContainerState, Listed};
use self::tracked::{Moment, Tracked};
use crate::enrich::oci;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Container, Event, Kind, Origin, Process, ProcessContainer};

/// Number of ended containers that are kept, the last ones.
pub const GONE_KEPT: usize = 1000;

/// All containers at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RosterFrame {
    /// The time.
    pub time: Timestamp,
    /// Length of the interval of the rates in nanoseconds, 0 for none.
    pub interval_ns: u64,
    /// Events lost since the begin.
    pub lost: u64,
    /// The containers in no particular order.
    pub containers: Vec<Listed>,
}

/// Tracks containers.
#[derive(Debug, Default)]
pub struct Roster {
    containers: FxHashMap<Arc<str>, Tracked>,
    /// Which container each living process is in.
    inside: FxHashMap<ProcessId, Arc<str>>,
    /// Containers that have ended, oldest first.
    gone: VecDeque<Arc<str>>,
    lost: u64,
    interval: u64,
    since_ns: u64,
    /// When the first and the last event happened.
    span: Option<(Moment, Moment)>,
}

impl Roster {
    /// Returns a roster without containers. The first interval begins at `now_ns` (`CLOCK_BOOTTIME`).
    pub fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, ..Self::default() }
    }

    /// Takes in an event.
    pub fn apply(&mut self, event: &Event) {
        if let Some(at) = Moment::of(event) {
            let (first, last) = self.span.get_or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
        self.lost += event.lost().map_or(0, |lost| lost.total);
        if let Some(container) = event.container() {
            self.learn(event, container);
        }
        let Some(process) = &event.process else { return };
        match event.kind() {
            Kind::Process if process.zombie => {}
            Kind::Process | Kind::Fork | Kind::Exec | Kind::Reparent => {
                self.place(process, process.container.as_deref());
                if event.kind() == Kind::Process {
                    self.find(process);
                }
            }
            Kind::Exit => self.place(process, None),
            _ => {}
        }
        if event.kind() == Kind::Exec
            && !is_stage(process)
            && let Some(tracked) = process.container_id().and_then(|id| self.containers.get_mut(id))
        {
            tracked.count_exec(self.interval);
        }
    }

    /// Takes in an event about a container itself.
    fn learn(&mut self, event: &Event, container: &Container) {
        let id = &container.id;
        let at = Moment::of(event).unwrap_or(Moment { boot_ns: 0, time: event.time });
        let tracked = self.containers.entry(id.clone()).or_insert_with(|| Tracked::new(container.clone()));
        tracked.learn(container);
        match event.kind() {
            Kind::ContainerCreate => {
                if tracked.create(at) {
                    self.gone.retain(|gone| gone != id);
                }
            }
            Kind::ContainerStart => {
                let forked = event.process.as_ref().and_then(|process| at.of_start(process));
                tracked.start(forked.unwrap_or(at));
            }
            Kind::ContainerExit => tracked.end(at, container.end.as_ref()),
            Kind::ContainerRemove => tracked.remove(at),
            _ => return,
        }
        if tracked.is_gone() && !self.gone.contains(id) {
            self.gone.push_back(id.clone());
            if self.gone.len() > GONE_KEPT
                && let Some(oldest) = self.gone.pop_front()
            {
                self.containers.remove(&oldest);
            }
        }
    }

    /// Moves a process into a container, or out of its container.
    fn place(&mut self, process: &Process, container: Option<&ProcessContainer>) {
        let before = match container {
            Some(container) => self.inside.insert(process.id, container.id.clone()),
            None => self.inside.remove(&process.id),
        };
        if before.as_ref() == container.map(|container| &container.id) {
            return;
        }
        if let Some(tracked) = before.and_then(|before| self.containers.get_mut(&before)) {
            tracked.leave();
        }
        if let Some(container) = container {
            let id = &container.id;
            let tracked = self.containers.entry(id.clone());
            let tracked = tracked.or_insert_with(|| Tracked::new(Container::new(id.clone(), "".into())));
            tracked.enter();
            tracked.learn_names(container);
            if process.origin != Some(Origin::Host) {
                tracked.learn_cgroup(process);
            }
        }
    }

    /// Takes in a process of the snapshot: its container ran before.
    fn find(&mut self, process: &Process) {
        let Some(tracked) = process.container_id().and_then(|id| self.containers.get_mut(id)) else { return };
        if !is_stage(process) && process.origin != Some(Origin::Host) {
            tracked.found_running(Moment::of_snapshot(process));
        }
    }

    /// Ends the interval and returns all containers with their activity in it. `now_ns` is of `CLOCK_BOOTTIME`.
    pub fn tick(&mut self, now_ns: u64, time: Timestamp) -> RosterFrame {
        let frame = self.frame(now_ns.saturating_sub(self.since_ns).max(1), Moment { boot_ns: now_ns, time });
        self.interval += 1;
        self.since_ns = now_ns;
        frame
    }

    /// Returns all containers before the end of the first interval.
    pub fn first(&self, now_ns: u64, time: Timestamp) -> RosterFrame {
        self.frame(0, Moment { boot_ns: now_ns, time })
    }

    /// Returns all containers at the end of a recording, which is one interval.
    pub fn last(&self) -> RosterFrame {
        let (first, last) = self.span.unwrap_or_default();
        self.frame(last.boot_ns.saturating_sub(first.boot_ns), last)
    }

    fn frame(&self, interval_ns: u64, at: Moment) -> RosterFrame {
        let containers =
            self.containers.values().map(|tracked| tracked.listed(self.interval, interval_ns, at)).collect();
        RosterFrame { time: at.time, interval_ns, lost: self.lost, containers }
    }
}

/// Returns true for a process that is still the runtime's init stage, before the entrypoint.
fn is_stage(process: &Process) -> bool {
    process.image.argv.as_ref().is_some_and(oci::is_init)
}

#[cfg(test)]
mod tests;
