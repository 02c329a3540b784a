//! Which part of a filter is pushed into the kernel, so that a process that is filtered out costs one lookup and nothing else.
//!
//! The kernel side filters by one of three things: descent, user, control group (and with that by unit and container, which the
//! path of the group shows). It may admit more than the filter, never less: [`crate::filter`] checks every event that comes,
//! so the stream is the same. What the kernel side filters out is not seen, though, and is in no count.

use std::fmt;

use crate::enrich::{Cgroup, Container};
use crate::event::{Filtering, Process};
use crate::filter::{self, Filter, Terms, Units};
use crate::kernel::options::Selection;

/// What is pushed into the kernel.
#[derive(Clone, Debug, Default)]
pub struct Pushdown {
    /// What the kernel side selects by.
    pub selection: Selection,
    cgroups: CgroupFilter,
}

/// What the output needs beside the filtered events: it decides whether the kernel side can filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Each event names all ancestors of its process.
    pub ancestors: bool,
    /// Storms are reported, with the processes that they come from.
    pub storms: bool,
    /// Waits for exited processes are reported, and zombies.
    pub reaps: bool,
    /// The user wants the filter in user space.
    pub in_user_space: bool,
}

/// Why the kernel side does not filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user wants it so.
    InUserSpace,
    /// Ancestors are reported.
    Ancestors,
    /// Storms are reported.
    Storms,
    /// Waits for exited processes are reported.
    Reaps,
    /// Every process may become a child of init.
    Init,
    /// The kernel side has no such filter.
    Unsupported,
    /// One process is selected without its descendants.
    SingleProcess,
    /// The kernel side leaves out what does not match, not what does.
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
            Self::SingleProcess => "the kernel side follows descendants too",
            Self::Negation => "what a filter with ! leaves out, the kernel side reports",
        })
    }
}

/// What to push into the kernel, and how `hello` reports that: nothing where nothing is filtered.
pub fn of(filter: &Filter, needs: Needs) -> Result<(Pushdown, Option<Filtering>), globset::Error> {
    let Filter { wanted, not, .. } = filter;
    let cgroups = CgroupFilter::new(wanted)?;
    let negated = not.sorts().map(|(name, given)| (format!("!{name}"), given));
    let sorts = wanted.sorts().map(|(name, given)| (name.to_owned(), given));
    let only_negated = sorts.iter().all(|(_, given)| !given);
    let given: Vec<String> =
        sorts.into_iter().chain(negated).filter_map(|(name, given)| given.then_some(name)).collect();
    if given.is_empty() {
        return Ok((Pushdown::default(), None));
    }
    let reasons = [
        (needs.in_user_space, Reason::InUserSpace),
        (needs.ancestors, Reason::Ancestors),
        (needs.storms, Reason::Storms),
        (needs.reaps, Reason::Reaps),
        (wanted.trees.contains(&1), Reason::Init),
    ];
    let reason = reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason));
    // One of them is enough: user space checks the rest. Descent needs the processes between as well, so that comes first.
    let (selection, by): (Selection, &[&str]) = if let Some(reason) = reason {
        return Ok((Pushdown::default(), Some(Filtering::in_user_space(given, reason.to_string()))));
    } else if !wanted.trees.is_empty() {
        (Selection::Subtree(wanted.trees.clone()), &["pid"])
    } else if !cgroups.is_empty() {
        (cgroups.selection(), &["container", "unit", "cgroup"])
    } else if !wanted.uids.is_empty() {
        (Selection::Users(wanted.uids.clone()), &["uid"])
    } else {
        let reason = match only_negated {
            true => Reason::Negation,
            false if !wanted.pids.is_empty() => Reason::SingleProcess,
            false => Reason::Unsupported,
        };
        return Ok((Pushdown::default(), Some(Filtering::in_user_space(given, reason.to_string()))));
    };
    let (kernel, user) = given.into_iter().partition(|name| by.contains(&name.as_str()));
    let filtering = Filtering { kernel, user, why: None };
    Ok((Pushdown { selection, cgroups }, Some(filtering)))
}

impl Pushdown {
    /// True if a process matches by what it is now. Descent is not a matter of that.
    pub fn matches(&self, process: &Process, cgroup: Option<&Cgroup>, name: Name<'_>) -> bool {
        match &self.selection {
            Selection::All | Selection::Only | Selection::Subtree(_) => false,
            Selection::Users(users) => {
                [process.uid, process.euid].into_iter().flatten().any(|uid| users.contains(&uid))
            }
            // A process that is in no container now will not get into one by its cgroup's name.
            Selection::Cgroups | Selection::Containers => {
                cgroup.is_some_and(|cgroup| match self.cgroups.verdict(cgroup, name) {
                    Verdict::Yes => true,
                    Verdict::Open => cgroup.container.is_some(),
                    Verdict::No => false,
                })
            }
        }
    }

    /// The control groups, if it selects by them.
    pub fn cgroups(&self) -> Option<&CgroupFilter> {
        matches!(self.selection, Selection::Cgroups | Selection::Containers).then_some(&self.cgroups)
    }
}

/// The name of a container, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name<'a> {
    /// It may have a name that is not known yet.
    #[default]
    Unknown,
    /// This.
    Known(&'a str),
}

/// Whether the processes of a control group match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They do.
    Yes,
    /// They do not.
    No,
    /// The group may turn out to be that of a container, or the name of that may become known.
    Open,
}

/// Which control groups match: each list that is not empty has to.
#[derive(Clone, Debug, Default)]
pub struct CgroupFilter {
    containers: Vec<String>,
    units: Option<Units>,
    cgroups: Vec<String>,
}

impl CgroupFilter {
    fn new(terms: &Terms) -> Result<Self, globset::Error> {
        Ok(Self {
            containers: terms.containers.clone(),
            units: Units::new(&terms.units)?,
            cgroups: terms.cgroups.iter().map(|path| filter::cgroup_root(path).to_owned()).collect(),
        })
    }

    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.units.is_none() && self.cgroups.is_empty()
    }

    /// Whether the processes of a control group match; `name` is that of its container.
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

    /// Whether a container matches, in whatever control groups its processes are.
    pub fn container_verdict(&self, container: &Container, name: Name<'_>) -> Verdict {
        let fits = |text: &String| container.id.starts_with(&**text) || name == Name::Known(text);
        match name {
            _ if self.containers.iter().any(fits) => Verdict::Yes,
            Name::Unknown => Verdict::Open,
            Name::Known(_) => Verdict::No,
        }
    }

    /// What the kernel side selects by for it.
    fn selection(&self) -> Selection {
        if self.by_container() { Selection::Containers } else { Selection::Cgroups }
    }

    /// True if it is about containers.
    pub fn by_container(&self) -> bool {
        !self.containers.is_empty()
    }
}

#[cfg(test)]
mod tests;
