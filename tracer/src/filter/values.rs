//! What an event is compared with: values of several options, compiled.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use rustc_hash::FxHashSet;

use super::{Terms, cgroup_root, is_below, parse};
use crate::enrich::path;
use crate::event::{Event, Process};

/// Bytes of a name that the kernel keeps (`TASK_COMM_LEN` without its NUL).
const COMM_BYTES: usize = 15;

/// Arguments that may name what runs: of a script it is the second or third.
const NAMING_ARGUMENTS: usize = 3;

/// Values by sort. A sort without values matches everything.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pids: Vec<u32>,
    uids: Vec<u32>,
    comm: Option<GlobSet>,
    exe: Option<GlobSet>,
    containers: Vec<String>,
    /// Ids of containers that have such a name.
    named: FxHashSet<Arc<str>>,
    units: Option<Units>,
    cgroups: Vec<String>,
}

impl Values {
    pub(super) fn new(terms: &Terms) -> Result<Self, globset::Error> {
        Ok(Self {
            pids: terms.pids.clone(),
            uids: terms.uids.clone(),
            comm: set(&terms.comm)?,
            exe: set(&terms.exe)?,
            containers: terms.containers.clone(),
            named: FxHashSet::default(),
            units: Units::new(&terms.units)?,
            cgroups: terms.cgroups.iter().map(|path| cgroup_root(path).to_owned()).collect(),
        })
    }

    /// Learns which containers have one of the names.
    pub(super) fn learn_name(&mut self, event: &Event) {
        if self.containers.is_empty() {
            return;
        }
        let Some(container) = event.container() else { return };
        // It may have been renamed.
        match &container.name {
            Some(name) if self.containers.iter().any(|wanted| **wanted == **name) => {
                self.named.insert(container.id.clone());
            }
            Some(_) => {
                self.named.remove(&container.id);
            }
            None => {}
        }
    }

    /// True if each option that has values has one that fits.
    pub(super) fn all_fit(&self, event: &Event) -> bool {
        self.fits(event).into_iter().flatten().all(|fits| fits)
    }

    /// True if a value of any option fits.
    pub(super) fn any_fits(&self, event: &Event) -> bool {
        self.fits(event).into_iter().flatten().any(|fits| fits)
    }

    /// For each option that has values, whether one of them fits.
    fn fits(&self, event: &Event) -> [Option<bool>; 7] {
        let process = event.process.as_ref();
        let of = |fits: &dyn Fn(&Process) -> bool| process.is_some_and(fits);
        let is_user = |uid: Option<u32>| uid.is_some_and(|uid| self.uids.contains(&uid));
        let exe = |globs: &GlobSet| of(&|process| process.image.exe.as_deref().is_some_and(|exe| globs.is_match(exe)));
        let below = |path: &str| self.cgroups.iter().any(|root| is_below(path, root));
        [
            (!self.pids.is_empty()).then(|| of(&|process| self.pids.contains(&process.pid))),
            (!self.uids.is_empty()).then(|| of(&|process| is_user(process.uid) || is_user(process.euid))),
            self.comm.as_ref().map(|globs| of(&|process| has_name(globs, process))),
            self.exe.as_ref().map(exe),
            (!self.containers.is_empty()).then(|| self.is_container(event)),
            self.units
                .as_ref()
                .map(|units| of(&|process| units.fit(process.unit.as_deref(), process.cgroup.as_deref()))),
            (!self.cgroups.is_empty()).then(|| of(&|process| process.cgroup.as_deref().is_some_and(below))),
        ]
    }

    fn is_container(&self, event: &Event) -> bool {
        let process = event.process.as_ref();
        // A line about a container is about that, whichever process made it.
        let container = event.container().map(|container| &*container.id);
        let container = container.or_else(|| Some(&**process?.container_id()?));
        let name = process.and_then(|process| process.container.as_ref()?.name.as_deref());
        container
            .is_some_and(|id| self.named.contains(id) || self.containers.iter().any(|text| id.starts_with(&**text)))
            || name.is_some_and(|name| self.containers.iter().any(|wanted| wanted == name))
    }
}

/// Whether a process has one of these names: the kernel's, or the whole name where the kernel's may be cut.
fn has_name(globs: &GlobSet, process: &Process) -> bool {
    let image = &process.image;
    let Some(comm) = image.comm.as_deref() else { return false };
    if globs.is_match(comm) {
        return true;
    }
    // The cut may have split a character.
    let begin = comm.trim_end_matches(char::REPLACEMENT_CHARACTER);
    if comm.len() < COMM_BYTES || begin.is_empty() {
        return false;
    }
    let file = |path: &str| path.rsplit('/').next().is_some_and(|file| file.starts_with(begin) && globs.is_match(file));
    image.exe.as_deref().is_some_and(file)
        || image.argv.as_ref().is_some_and(|argv| argv.iter().take(NAMING_ARGUMENTS).any(file))
}

/// Patterns for units. One that has a slash is compared with the end of the path, any other with the name alone.
#[derive(Clone, Debug)]
pub(crate) struct Units(GlobSet);

impl Units {
    /// None if there are no patterns.
    pub(crate) fn new(globs: &[Glob]) -> Result<Option<Self>, globset::Error> {
        let globs: Result<Vec<Glob>, _> = globs
            .iter()
            .map(|glob| match glob.glob() {
                text if text.contains('/') => parse::compile(&format!("*/{}", text.trim_start_matches('/'))),
                _ => Ok(glob.clone()),
            })
            .collect();
        Ok(set(&globs?)?.map(Self))
    }

    /// Whether one fits a unit, or one of those that the path of a control group names.
    pub(crate) fn fit(&self, unit: Option<&str>, cgroup: Option<&str>) -> bool {
        let fits = |(name, path): (&str, &str)| self.0.is_match(name) || self.0.is_match(path);
        unit.is_some_and(|unit| self.0.is_match(unit)) || cgroup.is_some_and(|cgroup| path::units(cgroup).any(fits))
    }
}

fn set(globs: &[Glob]) -> Result<Option<GlobSet>, globset::Error> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob.clone());
    }
    builder.build().map(Some)
}
