//! Which containers there are, and what happens in each: events in, a [`Picture`] out. Pure, so events of the running kernel and
//! of a file do alike.

mod life;
mod listed;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use self::life::{Life, Moment};
pub use self::listed::{Listed, State};
use crate::enrich::oci;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Container, Event, Kind, Origin, Process, ProcessContainer};

/// Containers that are kept after their end, the last ones.
pub const GONE_KEPT: usize = 1000;

/// All containers at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// When.
    pub time: Timestamp,
    /// How long the interval was that their rates are of, in nanoseconds; 0 for none.
    pub interval_ns: u64,
    /// Events that were lost since the begin.
    pub lost: u64,
    /// The containers, in no order.
    pub containers: Vec<Listed>,
}

/// Follows containers.
#[derive(Debug, Default)]
pub struct Roster {
    lives: FxHashMap<Arc<str>, Life>,
    /// Which container each living process is in.
    inside: FxHashMap<ProcessId, Arc<str>>,
    /// Those that have ended, the oldest first.
    gone: VecDeque<Arc<str>>,
    lost: u64,
    interval: u64,
    since_ns: u64,
    /// When the first and the last event happened.
    span: Option<(Moment, Moment)>,
}

impl Roster {
    /// None seen yet; the first interval begins now (`CLOCK_BOOTTIME`, nanoseconds).
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
            && let Some(life) = process.container_id().and_then(|id| self.lives.get_mut(id))
        {
            life.count_exec(self.interval);
        }
    }

    /// What a line about a container itself says.
    fn learn(&mut self, event: &Event, container: &Container) {
        let id = &container.id;
        let at = Moment::of(event).unwrap_or(Moment { boot_ns: 0, time: event.time });
        let life = self.lives.entry(id.clone()).or_insert_with(|| Life::new(container.clone()));
        life.learn(container);
        match event.kind() {
            Kind::ContainerCreate => {
                if life.begin_anew(at) {
                    self.gone.retain(|gone| gone != id);
                }
            }
            Kind::ContainerStart => {
                let born = event.process.as_ref().and_then(|process| at.of_start(process));
                life.start(born.unwrap_or(at));
            }
            Kind::ContainerExit => life.end(at, container.end.as_ref()),
            Kind::ContainerRemove => life.remove(at),
            _ => return,
        }
        if life.is_gone() && !self.gone.contains(id) {
            self.gone.push_back(id.clone());
            if self.gone.len() > GONE_KEPT
                && let Some(oldest) = self.gone.pop_front()
            {
                self.lives.remove(&oldest);
            }
        }
    }

    /// A process is in a container, or in none.
    fn place(&mut self, process: &Process, container: Option<&ProcessContainer>) {
        let before = match container {
            Some(container) => self.inside.insert(process.id, container.id.clone()),
            None => self.inside.remove(&process.id),
        };
        if before.as_ref() == container.map(|container| &container.id) {
            return;
        }
        if let Some(life) = before.and_then(|before| self.lives.get_mut(&before)) {
            life.leave();
        }
        if let Some(container) = container {
            let id = &container.id;
            let life = self.lives.entry(id.clone());
            let life = life.or_insert_with(|| Life::new(Container::new(id.clone(), "".into())));
            life.enter();
            life.learn_names(container);
            if process.origin != Some(Origin::Host) {
                life.learn_cgroup(process);
            }
        }
    }

    /// A process that was there at the start: so its container was.
    fn find(&mut self, process: &Process) {
        let Some(life) = process.container_id().and_then(|id| self.lives.get_mut(id)) else { return };
        if !is_stage(process) && process.origin != Some(Origin::Host) {
            life.found_running(Moment::of_snapshot(process));
        }
    }

    /// Ends the interval: all containers, and what happened in it. `now_ns` is of `CLOCK_BOOTTIME`.
    pub fn tick(&mut self, now_ns: u64, time: Timestamp) -> Picture {
        let picture = self.picture(now_ns.saturating_sub(self.since_ns).max(1), Moment { boot_ns: now_ns, time });
        self.interval += 1;
        self.since_ns = now_ns;
        picture
    }

    /// All containers as they are before the first interval is over.
    pub fn first(&self, now_ns: u64, time: Timestamp) -> Picture {
        self.picture(0, Moment { boot_ns: now_ns, time })
    }

    /// All containers as they were in the end: of a whole recording, which is one interval.
    pub fn last(&self) -> Picture {
        let (first, last) = self.span.unwrap_or_default();
        self.picture(last.boot_ns.saturating_sub(first.boot_ns), last)
    }

    fn picture(&self, interval_ns: u64, at: Moment) -> Picture {
        let containers = self.lives.values().map(|life| life.listed(self.interval, interval_ns, at)).collect();
        Picture { time: at.time, interval_ns, lost: self.lost, containers }
    }
}

/// True for what is still a copy of the runtime, and not yet what it is to start.
fn is_stage(process: &Process) -> bool {
    process.image.argv.as_ref().is_some_and(oci::is_init)
}

#[cfg(test)]
mod tests;
