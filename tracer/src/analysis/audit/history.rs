//! Which programs each process ran, and when: for all living processes and those that exited recently.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::role::{self, Role};
use crate::event::id::ProcessId;
use crate::event::{Event, Kind, Process, Provenance};
use crate::record::text::Arguments;

/// Number of exited processes that are kept: those related to containers, and all others.
const EXITED_KEPT: [usize; 2] = [16_384, 1024];

/// Number of images that are kept per process: the first and the last ones.
const IMAGES_KEPT: usize = 32;

/// What a process ran from one exec to the next.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Time of the exec. For an image that came from the parent: time of the fork.
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

/// What is remembered of a process.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) creator: Option<ProcessId>,
    /// `None` if its fork was not seen.
    pub(super) forked_ns: Option<u64>,
    /// Its images, oldest first. Never empty.
    pub(super) images: Vec<Image>,
    pub(super) ended: Option<End>,
    pub(super) container: Option<Arc<str>>,
    /// True for pid 1 of another pid namespace.
    pub(super) first_inside: bool,
    /// True if it or an ancestor is related to containers.
    related: bool,
}

impl Past {
    /// Returns the image it ran at a time.
    pub(super) fn image_at(&self, at_ns: u64) -> &Image {
        let last = self.images.iter().rposition(|image| image.at_ns <= at_ns).unwrap_or(0);
        &self.images[last]
    }

    /// Returns when an image was replaced by the next exec, or when and how the process exited in it.
    pub(super) fn over(&self, image: usize) -> (Option<u64>, Option<&End>) {
        match self.images.get(image + 1) {
            Some(next) => (Some(next.at_ns), None),
            None => (self.ended.as_ref().map(|end| end.at_ns), self.ended.as_ref()),
        }
    }

    /// Returns the indexes of the images that it exec'd up to a time, or of the inherited one if it exec'd none.
    pub(super) fn own_images(&self, until_ns: u64) -> impl Iterator<Item = usize> {
        let execed = self.images.iter().any(|image| image.execed && image.at_ns <= until_ns);
        let own = move |image: &Image| image.at_ns <= until_ns && (image.execed || !execed);
        self.images.iter().enumerate().filter(move |(_, image)| own(image)).map(|(i, _)| i)
    }
}

/// All remembered processes.
#[derive(Debug, Default)]
pub(super) struct History {
    processes: FxHashMap<ProcessId, Past>,
    exited: [VecDeque<(ProcessId, u64)>; 2],
    /// Up to this time processes may be missing: they were dropped here, or their events were lost.
    pub(super) gaps_until_ns: u64,
}

impl History {
    pub(super) fn apply(&mut self, event: &Event, at_ns: u64) {
        if event.lost().is_some() {
            self.gaps_until_ns = self.gaps_until_ns.max(at_ns);
        }
        let Some(process) = &event.process else { return };
        match event.kind() {
            Kind::Fork => self.insert(process, Some(at_ns)),
            Kind::Process if !self.processes.contains_key(&process.id) => self.insert(process, None),
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

    /// Returns the first process of a container, living or exited.
    pub(super) fn first_in(&self, container: &str) -> Option<ProcessId> {
        let inside = |past: &Past| past.first_inside && past.container.as_deref() == Some(container);
        self.all().filter(|(_, past)| inside(past)).max_by_key(|(_, past)| past.forked_ns).map(|(id, _)| id)
    }

    /// Returns true once a process has exec'd something or has exited.
    pub(super) fn has_run(&self, id: ProcessId) -> bool {
        self.get(id).is_none_or(|past| past.ended.is_some() || past.images.iter().any(|image| image.execed))
    }

    fn insert(&mut self, process: &Process, forked_ns: Option<u64>) {
        let creator = process.creator_id.or(process.parent_id);
        let creator_related = creator.and_then(|id| self.processes.get(&id)).is_some_and(|past| past.related);
        let execed = forked_ns.is_none() && process.source == Provenance::Procfs;
        let image = image(process, forked_ns.unwrap_or_default(), execed);
        let related = creator_related || image.role.is_some() || process.container.is_some();
        let past = Past {
            creator,
            forked_ns,
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
            // Its image before this exec is not known.
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
        self.exited[class].push_back((process.id, at_ns));
        while self.exited[class].len() > EXITED_KEPT[class] {
            let Some((oldest, at_ns)) = self.exited[class].pop_front() else { break };
            // Another process may have the id by now.
            if self.processes.get(&oldest).is_some_and(|past| past.ended.as_ref().is_some_and(|end| end.at_ns == at_ns))
            {
                self.processes.remove(&oldest);
                if class == 0 {
                    self.gaps_until_ns = self.gaps_until_ns.max(at_ns);
                }
            }
        }
    }

    /// Takes in a process and its container from any other event.
    fn seen(&mut self, process: &Process) {
        match self.processes.get_mut(&process.id) {
            Some(past) => {
                if let Some(container) = process.container_id() {
                    past.container = Some(container.clone());
                    past.related = true;
                }
            }
            None => self.insert(process, None),
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
