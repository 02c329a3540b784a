//! Chooses the part of a filter that is pushed into the kernel. A process that is filtered out there costs one lookup.
//!
//! The kernel side filters by descent, user or cgroup. The path of a cgroup also gives unit and container. The kernel side may
//! admit more than the filter, never less. [`crate::filter`] checks every event again, so the stream is the same. But events
//! that the kernel side filters out are in no count.

use std::fmt;

use crate::enrich::{Cgroup, Container};
use crate::event::{Filtering, Process};
use crate::filter::{self, Criteria, Spec, Units};
use crate::kernel::options::Selection;

/// The part of a filter that is pushed into the kernel.
#[derive(Clone, Debug, Default)]
pub struct Pushdown {
    /// The selection of the kernel side.
    pub selection: Selection,
    cgroups: CgroupFilter,
}

/// What the output needs besides the filtered events. This decides whether the kernel side can filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Each event names all ancestors of its process.
    pub ancestors: bool,
    /// Storms are reported, with their culprits.
    pub storms: bool,
    /// Zombies and reaps are reported.
    pub reaps: bool,
    /// The user wants the filter in user space.
    pub in_user_space: bool,
}

/// Why the kernel side does not filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user wants the filter in user space.
    InUserSpace,
    /// Ancestors are reported.
    Ancestors,
    /// Storms are reported.
    Storms,
    /// Reaps are reported.
    Reaps,
    /// Every process may become a child of init.
    Init,
    /// The kernel side has no such filter.
    Unsupported,
    /// The kernel side cannot filter out what matches.
    Negation,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUserSpace => "--filter-in user",
            Self::Ancestors => "--ancestors shows processes that the filter leaves out",
            Self::Storms => "storms are reported with the ancestors of the processes that make them",
            Self::Reaps => "--reap shows parents that the filter leaves out",
            Self::Init => "every process may become a child of init",
            Self::Unsupported => "the kernel side knows neither names nor kinds of events",
            Self::Negation => "what a filter with ! leaves out, the kernel side reports",
        })
    }
}

/// The filter options, as `hello` names them.
const OPTIONS: [&str; 8] = ["pid", "uid", "comm", "exe", "container", "unit", "cgroup", "event"];
const NEGATED: [&str; 8] = ["!pid", "!uid", "!comm", "!exe", "!container", "!unit", "!cgroup", "!event"];

/// Returns the names of the options that have values.
fn given<'a>(names: [&'a str; 8], criteria: &Criteria) -> impl Iterator<Item = &'a str> {
    let Criteria { pids, uids, comm, exe, containers, units, cgroups, kinds } = criteria;
    let given = [
        !pids.is_empty(),
        !uids.is_empty(),
        !comm.is_empty(),
        !exe.is_empty(),
        !containers.is_empty(),
        !units.is_empty(),
        !cgroups.is_empty(),
        !kinds.is_empty(),
    ];
    names.into_iter().zip(given).filter_map(|(name, given)| given.then_some(name))
}

/// Returns what to push into the kernel, and how `hello` reports that. Nothing without a filter.
pub fn of(spec: &Spec, needs: Needs) -> Result<(Pushdown, Option<Filtering>), globset::Error> {
    let Spec { only, not, .. } = spec;
    let cgroups = CgroupFilter::new(only)?;
    let only_negated = given(OPTIONS, only).next().is_none();
    let given: Vec<&str> = given(OPTIONS, only).chain(given(NEGATED, not)).collect();
    if given.is_empty() {
        return Ok((Pushdown::default(), None));
    }
    let reasons = [
        (needs.in_user_space, Reason::InUserSpace),
        (needs.ancestors, Reason::Ancestors),
        (needs.storms, Reason::Storms),
        (needs.reaps, Reason::Reaps),
        (only.pids.contains(&1), Reason::Init),
    ];
    let reason = reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason));
    let none = |reason: Reason| Filtering::in_user_space(&given, reason.to_string());
    if let Some(reason) = reason {
        return Ok((Pushdown::default(), Some(none(reason))));
    }
    // One criterion is enough: user space checks the rest. Descent comes first, because it needs the processes in between too.
    let (selection, by): (Selection, &[&str]) = if !only.pids.is_empty() {
        (Selection::Subtree(only.pids.clone()), &["pid"])
    } else if !cgroups.is_empty() {
        (cgroups.selection(), &["container", "unit", "cgroup"])
    } else if !only.uids.is_empty() {
        (Selection::Users(only.uids.clone()), &["uid"])
    } else {
        let reason = if only_negated { Reason::Negation } else { Reason::Unsupported };
        return Ok((Pushdown::default(), Some(none(reason))));
    };
    let (kernel, user) = given.iter().partition(|name| by.contains(name));
    let filtering = Filtering { kernel: owned(kernel), user: owned(user), why: None };
    Ok((Pushdown { selection, cgroups }, Some(filtering)))
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

impl Pushdown {
    /// Returns true if a process matches by its current user or cgroup. Descent is not checked.
    pub fn matches(&self, process: &Process, cgroup: Option<&Cgroup>, name: Name<'_>) -> bool {
        match &self.selection {
            Selection::All | Selection::Only | Selection::Subtree(_) => false,
            Selection::Users(users) => {
                [process.uid, process.euid].into_iter().flatten().any(|uid| users.contains(&uid))
            }
            // A process outside all containers does not get into one by a later name of its cgroup.
            Selection::Cgroups | Selection::Containers => {
                cgroup.is_some_and(|cgroup| match self.cgroups.verdict(cgroup, name) {
                    Verdict::Yes => true,
                    Verdict::Open => cgroup.container.is_some(),
                    Verdict::No => false,
                })
            }
        }
    }

    /// Returns the cgroup filter, if the selection uses it.
    pub fn cgroups(&self) -> Option<&CgroupFilter> {
        matches!(self.selection, Selection::Cgroups | Selection::Containers).then_some(&self.cgroups)
    }
}

/// The name of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name<'a> {
    /// It is not known yet.
    #[default]
    Unknown,
    /// It is known.
    Known(&'a str),
}

/// Whether the processes of a cgroup match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They match.
    Yes,
    /// They do not match.
    No,
    /// The cgroup may turn out to belong to a container, or the name of its container may become known.
    Open,
}

/// Decides which cgroups match: every list that is not empty must.
#[derive(Clone, Debug, Default)]
pub struct CgroupFilter {
    containers: Vec<String>,
    units: Option<Units>,
    cgroups: Vec<String>,
}

impl CgroupFilter {
    fn new(criteria: &Criteria) -> Result<Self, globset::Error> {
        Ok(Self {
            containers: criteria.containers.clone(),
            units: Units::new(&criteria.units)?,
            cgroups: criteria.cgroups.iter().map(|path| filter::cgroup_root(path).to_owned()).collect(),
        })
    }

    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.units.is_none() && self.cgroups.is_empty()
    }

    /// Returns whether the processes of a cgroup match. `name` is that of its container.
    pub fn verdict(&self, cgroup: &Cgroup, name: Name<'_>) -> Verdict {
        let of_unit = |units: &Units| units.fit(cgroup.unit.as_deref(), Some(&cgroup.path));
        if !self.units.as_ref().is_none_or(of_unit)
            || !self.cgroups.is_empty() && !self.cgroups.iter().any(|root| filter::is_below(&cgroup.path, root))
        {
            return Verdict::No;
        }
        if self.containers.is_empty() {
            return Verdict::Yes;
        }
        cgroup.container.as_ref().map_or(Verdict::Open, |container| self.container_verdict(container, name))
    }

    /// Returns whether a container matches, whatever the cgroups of its processes are.
    pub fn container_verdict(&self, container: &Container, name: Name<'_>) -> Verdict {
        let fits = |text: &String| container.id.starts_with(&**text) || name == Name::Known(text);
        match name {
            _ if self.containers.iter().any(fits) => Verdict::Yes,
            Name::Unknown => Verdict::Open,
            Name::Known(_) => Verdict::No,
        }
    }

    /// Returns the selection of the kernel side for this filter.
    fn selection(&self) -> Selection {
        if self.by_container() { Selection::Containers } else { Selection::Cgroups }
    }

    /// Returns true if it filters by container.
    pub fn by_container(&self) -> bool {
        !self.containers.is_empty()
    }
}

#[cfg(test)]
mod tests;
