//! Who ran what, when: of all that live, and of those that ended not long ago.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::role::{self, Role};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process, Provenance};
use crate::record::text::Arguments;

/// How many of the dead are remembered: of those that have to do with containers, and of all others.
const DEAD_KEPT: [usize; 2] = [16_384, 1024];

/// Programs that are remembered of one process, the last ones.
const IMAGES_KEPT: usize = 32;

/// What a process ran from one exec to the next.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Its exec; its birth, for what it was born with.
    pub(super) at_ns: u64,
    pub(super) execed: bool,
    pub(super) argv: Option<Arguments>,
    pub(super) exe: Option<Arc<str>>,
    pub(super) comm: Option<Arc<str>>,
    pub(super) uid: Option<u32>,
    pub(super) role: Option<Role>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) at_ns: u64,
    pub(super) code: Option<u8>,
    pub(super) signal: Option<Arc<str>>,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) creator: Option<ProcessId>,
    /// None if it was there before.
    pub(super) born_ns: Option<u64>,
    /// What it ran, the oldest first. Never empty.
    pub(super) images: Vec<Image>,
    pub(super) ended: Option<End>,
    pub(super) container: Option<Arc<str>>,
    /// The first of a pid namespace that is not ours.
    pub(super) first_inside: bool,
    /// It, or one that it descends from, has to do with containers.
    related: bool,
}

impl Past {
    /// What it ran at a time.
    pub(super) fn image_at(&self, at_ns: u64) -> &Image {
        let last = self.images.iter().rposition(|image| image.at_ns <= at_ns).unwrap_or(0);
        &self.images[last]
    }

    /// When an image of it was over: by the next exec or by the end; and how, in that case.
    pub(super) fn over(&self, image: usize) -> (Option<u64>, Option<&End>) {
        match self.images.get(image + 1) {
            Some(next) => (Some(next.at_ns), None),
            None => (self.ended.as_ref().map(|end| end.at_ns), self.ended.as_ref()),
        }
    }

    /// Places of the images that are of its own: exec'd, or what it was born with if it exec'd nothing up to a time.
    pub(super) fn own_images(&self, until_ns: u64) -> impl Iterator<Item = usize> {
        let execed = self.images.iter().any(|image| image.execed && image.at_ns <= until_ns);
        let own = move |image: &Image| image.at_ns <= until_ns && (image.execed || !execed);
        self.images.iter().enumerate().filter(move |(_, image)| own(image)).map(|(i, _)| i)
    }
}

/// All that are remembered.
#[derive(Debug, Default)]
pub(super) struct History {
    processes: FxHashMap<ProcessId, Past>,
    dead: [VecDeque<(ProcessId, u64)>; 2],
    /// Up to this time some are no longer remembered, or were never told.
    pub(super) gaps_until_ns: u64,
}

impl History {
    pub(super) fn apply(&mut self, event: &Event, at_ns: u64) {
        if event.lost().is_some() {
            self.gaps_until_ns = self.gaps_until_ns.max(at_ns);
        }
        let Some(process) = &event.process else { return };
        match event.kind() {
            Kind::Fork => self.born(process, Some(at_ns)),
            Kind::Process if !self.processes.contains_key(&process.id) => self.born(process, None),
            Kind::Exec => self.execed(process, at_ns),
            Kind::Exit => self.ended(event, process, at_ns),
            _ => self.seen(process),
        }
    }

    pub(super) fn get(&self, id: ProcessId) -> Option<&Past> {
        self.processes.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (ProcessId, &Past)> {
        self.processes.iter().map(|(&id, past)| (id, past))
    }

    /// The first process of a container, whatever became of it.
    pub(super) fn first_in(&self, container: &str) -> Option<ProcessId> {
        let inside = |past: &Past| past.first_inside && past.container.as_deref() == Some(container);
        self.all().filter(|(_, past)| inside(past)).max_by_key(|(_, past)| past.born_ns).map(|(id, _)| id)
    }

    /// True if it is known what a process runs: it has exec'd something, or ended without.
    pub(super) fn has_run(&self, id: ProcessId) -> bool {
        self.get(id).is_none_or(|past| past.ended.is_some() || past.images.iter().any(|image| image.execed))
    }

    fn born(&mut self, process: &Process, born_ns: Option<u64>) {
        let creator = process.creator_id.or(process.parent_id);
        let creator_related = creator.and_then(|id| self.processes.get(&id)).is_some_and(|past| past.related);
        let execed = born_ns.is_none() && process.source == Provenance::Procfs;
        let image = image(process, born_ns.unwrap_or_default(), execed);
        let related = creator_related || image.role.is_some() || process.container.is_some();
        let past = Past {
            creator,
            born_ns,
            images: vec![image],
            ended: None,
            container: process.container_id().cloned(),
            first_inside: process.ns_pids.as_ref().is_some_and(|pids| pids.last() == Some(&1)),
            related,
        };
        self.processes.insert(process.id, past);
    }

    fn execed(&mut self, process: &Process, at_ns: u64) {
        let unknown = !self.processes.contains_key(&process.id);
        self.seen(process);
        let Some(past) = self.processes.get_mut(&process.id) else { return };
        if unknown && let Some(before) = past.images.first_mut() {
            // What it ran before was not told.
            (before.execed, before.role) = (false, None);
        }
        if past.images.len() == IMAGES_KEPT {
            past.images.remove(1);
        }
        let image = image(process, at_ns, true);
        past.related |= image.role.is_some();
        past.images.push(image);
    }

    fn ended(&mut self, event: &Event, process: &Process, at_ns: u64) {
        self.seen(process);
        let Some(past) = self.processes.get_mut(&process.id) else { return };
        let (code, signal) = event.exit().map_or((None, None), |exit| (exit.code, exit.signal.clone()));
        past.ended = Some(End { at_ns, code, signal });
        let class = usize::from(!past.related);
        self.dead[class].push_back((process.id, at_ns));
        while self.dead[class].len() > DEAD_KEPT[class] {
            let Some((oldest, at_ns)) = self.dead[class].pop_front() else { break };
            // Its number may be another's by now.
            if self.processes.get(&oldest).is_some_and(|past| past.ended.as_ref().is_some_and(|end| end.at_ns == at_ns))
            {
                self.processes.remove(&oldest);
                if class == 0 {
                    self.gaps_until_ns = self.gaps_until_ns.max(at_ns);
                }
            }
        }
    }

    /// Whatever is told of a process tells who it is and where.
    fn seen(&mut self, process: &Process) {
        match self.processes.get_mut(&process.id) {
            Some(past) => {
                if let Some(container) = process.container_id() {
                    past.container = Some(container.clone());
                    past.related = true;
                }
            }
            None => self.born(process, None),
        }
    }
}

fn image(process: &Process, at_ns: u64, execed: bool) -> Image {
    let role = process.image.argv.as_ref().and_then(role::of);
    Image {
        at_ns,
        execed,
        argv: process.image.argv.clone(),
        exe: process.image.exe.clone(),
        comm: process.image.comm.clone(),
        uid: process.euid.or(process.uid),
        role,
    }
}
