//! The compiled values of several options.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use rustc_hash::FxHashSet;

use super::{Criteria, cgroup_root, is_below};
use crate::enrich::path;
use crate::event::{Event, Process};

/// Length of a comm in bytes (`TASK_COMM_LEN` without its NUL).
const COMM_BYTES: usize = 15;

/// Number of arguments that may name the program. For a script it is the second or third.
const NAMING_ARGUMENTS: usize = 3;

/// Values of options. An option without values matches everything.
#[derive(Clone, Debug)]
pub(super) struct Values {
    uids: Vec<u32>,
    comm: Option<GlobSet>,
    exe: Option<GlobSet>,
    containers: Vec<String>,
    /// Ids of containers with a matching name.
    named: FxHashSet<Arc<str>>,
    units: Option<Units>,
    cgroups: Vec<String>,
}

impl Values {
    pub(super) fn new(criteria: &Criteria) -> Result<Self, globset::Error> {
        Ok(Self {
            uids: criteria.uids.clone(),
            comm: set(&criteria.comm)?,
            exe: set(&criteria.exe)?,
            containers: criteria.containers.clone(),
            named: FxHashSet::default(),
            units: Units::new(&criteria.units)?,
            cgroups: criteria.cgroups.iter().map(|path| cgroup_root(path).to_owned()).collect(),
        })
    }

    /// Notes containers with a matching name.
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

    /// Returns true if every option with values has a matching one.
    pub(super) fn all_fit(&self, event: &Event) -> bool {
        self.fits(event).into_iter().flatten().all(|fits| fits)
    }

    /// Returns true if any option has a matching value.
    pub(super) fn any_fits(&self, event: &Event) -> bool {
        self.fits(event).into_iter().flatten().any(|fits| fits)
    }

    /// Returns for each option with values whether one of them matches.
    fn fits(&self, event: &Event) -> [Option<bool>; 6] {
        let process = event.process.as_ref();
        let of = |fits: &dyn Fn(&Process) -> bool| process.is_some_and(fits);
        let is_user = |uid: Option<u32>| uid.is_some_and(|uid| self.uids.contains(&uid));
        let exe = |globs: &GlobSet| of(&|process| process.image.exe.as_deref().is_some_and(|exe| globs.is_match(exe)));
        let below = |path: &str| self.cgroups.iter().any(|root| is_below(path, root));
        [
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
        // An event about a container counts for that container, not for that of its process.
        let container = event.container().map(|container| &*container.id);
        let container = container.or_else(|| Some(&**process?.container_id()?));
        let name = process.and_then(|process| process.container.as_ref()?.name.as_deref());
        container
            .is_some_and(|id| self.named.contains(id) || self.containers.iter().any(|text| id.starts_with(&**text)))
            || name.is_some_and(|name| self.containers.iter().any(|wanted| wanted == name))
    }
}

/// Returns true if the comm of a process matches, or its full name if the comm may be truncated.
fn has_name(globs: &GlobSet, process: &Process) -> bool {
    let image = &process.image;
    let Some(comm) = image.comm.as_deref() else { return false };
    if globs.is_match(comm) {
        return true;
    }
    // The truncation may have split a character.
    let begin = comm.trim_end_matches(char::REPLACEMENT_CHARACTER);
    if comm.len() < COMM_BYTES || begin.is_empty() {
        return false;
    }
    let file = |path: &str| path.rsplit('/').next().is_some_and(|file| file.starts_with(begin) && globs.is_match(file));
    image.exe.as_deref().is_some_and(file)
        || image.argv.as_ref().is_some_and(|argv| argv.iter().take(NAMING_ARGUMENTS).any(file))
}

/// Patterns for units. A pattern with a slash is compared with the end of the path, any other with the name.
#[derive(Clone, Debug)]
pub(crate) struct Units(GlobSet);

impl Units {
    /// Compiles the patterns. Returns `None` if there are none.
    pub(crate) fn new(globs: &[Glob]) -> Result<Option<Self>, globset::Error> {
        let globs: Result<Vec<Glob>, _> = globs
            .iter()
            .map(|glob| match glob.glob() {
                text if text.contains('/') => super::glob(&format!("*/{}", text.trim_start_matches('/'))),
                _ => Ok(glob.clone()),
            })
            .collect();
        Ok(set(&globs?)?.map(Self))
    }

    /// Returns true if a pattern matches a unit, or a unit in the path of a cgroup.
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
