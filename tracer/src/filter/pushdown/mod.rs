//! How much of a filter the kernel side does by itself, so that what is not asked for costs a look at a set and nothing else.
//!
//! It filters by one of three things: descent, user, control group (and with that by unit and container, which the path of
//! the group tells). It may admit more than is asked for, never less: [`crate::filter`] looks at all that comes, whichever
//! way, so that the stream is the same. What the kernel side leaves out is not seen, though: it is in no count.

use std::fmt;

use crate::enrich::{Cgroup, Container};
use crate::event::{Filtering, Process};
use crate::filter::{self, Spec, Units};

/// What is reported by the kernel side.
#[derive(Clone, Debug, Default)]
pub enum Scope {
    /// Everything.
    #[default]
    Machine,
    /// These processes, and what descends from them.
    Subtree(Vec<u32>),
    /// Processes whose real or effective user is one of these.
    Users(Vec<u32>),
    /// Processes in such control groups.
    Places(Places),
}

/// What else is asked for, that decides whether the kernel side can filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Each event names all ancestors of its process.
    pub ancestors: bool,
    /// Storms are told, with whom they come from.
    pub storms: bool,
    /// It is told who waited for the dead, and who does not.
    pub reaps: bool,
    /// The kernel side is to filter nothing.
    pub in_user_space: bool,
}

/// Why the kernel side does not filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was asked not to.
    Asked,
    /// Ancestors are told.
    Ancestors,
    /// Storms are told.
    Storms,
    /// Who waits for the dead is told.
    Reaps,
    /// Everybody may come to be a child of init.
    Init,
    /// It knows no such thing.
    Names,
    /// It leaves out what does not match, not what does.
    Negation,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "--filter-in user",
            Self::Ancestors => "--ancestors tells of processes that are not asked for",
            Self::Storms => "storms are told with the ancestors of who makes them",
            Self::Reaps => "--reap tells of parents that are not asked for",
            Self::Init => "every process may come to be a child of init",
            Self::Names => "the kernel side knows neither names nor kinds of events",
            Self::Negation => "what a filter with ! leaves out, the kernel side reports",
        })
    }
}

/// What the kernel side is to report, and how that is told. Nothing is told where nothing is filtered.
pub fn of(spec: &Spec, beside: Beside) -> Result<(Scope, Option<Filtering>), globset::Error> {
    let places = Places::new(spec)?;
    let options = [
        ("pid", !spec.pids.is_empty()),
        ("uid", !spec.uids.is_empty()),
        ("comm", !spec.comm.is_empty()),
        ("exe", !spec.exe.is_empty()),
        ("container", !spec.containers.is_empty()),
        ("unit", !spec.units.is_empty()),
        ("cgroup", !spec.cgroups.is_empty()),
        ("event", !spec.kinds.is_empty()),
    ];
    let not = &spec.not;
    let negated = [
        ("!pid", !not.pids.is_empty()),
        ("!uid", !not.uids.is_empty()),
        ("!comm", !not.comm.is_empty()),
        ("!exe", !not.exe.is_empty()),
        ("!container", !not.containers.is_empty()),
        ("!unit", !not.units.is_empty()),
        ("!cgroup", !not.cgroups.is_empty()),
        ("!event", !not.kinds.is_empty()),
    ];
    let only_negated = options.iter().all(|(_, given)| !given);
    let given: Vec<&str> =
        options.into_iter().chain(negated).filter_map(|(name, given)| given.then_some(name)).collect();
    if given.is_empty() {
        return Ok((Scope::Machine, None));
    }
    let refused = [
        (beside.in_user_space, Why::Asked),
        (beside.ancestors, Why::Ancestors),
        (beside.storms, Why::Storms),
        (beside.reaps, Why::Reaps),
    ];
    let refused = refused.into_iter().find_map(|(refused, why)| refused.then_some(why));
    let none = |why: Why| Ok((Scope::Machine, Some(Filtering::in_user_space(&given, why.to_string()))));
    if let Some(why) = refused {
        return none(why);
    }
    // One of them is enough: the rest is looked at in user space. Who descends from whom is only known of those between as
    // well, so that comes first.
    let (scope, by): (Scope, &[&str]) = if spec.pids.contains(&1) {
        return none(Why::Init);
    } else if !spec.pids.is_empty() {
        (Scope::Subtree(spec.pids.clone()), &["pid"])
    } else if !places.is_empty() {
        (Scope::Places(places), &["container", "unit", "cgroup"])
    } else if !spec.uids.is_empty() {
        (Scope::Users(spec.uids.clone()), &["uid"])
    } else {
        return none(if only_negated { Why::Negation } else { Why::Names });
    };
    let (kernel, user) = given.iter().partition(|name| by.contains(name));
    Ok((scope, Some(Filtering { kernel: owned(kernel), user: owned(user), why: None })))
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

impl Scope {
    /// True if a process is asked for by what it is now. By descent is not a matter of that.
    pub fn asks_for(&self, process: &Process, cgroup: Option<&Cgroup>, name: Name<'_>) -> bool {
        match self {
            Self::Machine | Self::Subtree(_) => false,
            Self::Users(users) => [process.uid, process.euid].into_iter().flatten().any(|uid| users.contains(&uid)),
            // Who is there and in no container will not come to be in one by its cgroup's name.
            Self::Places(places) => cgroup.is_some_and(|cgroup| match places.verdict(cgroup, name) {
                Verdict::Yes => true,
                Verdict::Open => cgroup.container.is_some(),
                Verdict::No => false,
            }),
        }
    }
}

/// What a container is called, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name<'a> {
    /// It may have one that is not known yet.
    #[default]
    Unknown,
    /// So.
    Known(&'a str),
}

/// Whether the processes of a control group are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// It may turn out that the group is that of a container, or what that is called.
    Open,
}

/// Control groups that are asked for: each of what is given here has to fit.
#[derive(Clone, Debug, Default)]
pub struct Places {
    containers: Vec<String>,
    units: Option<Units>,
    cgroups: Vec<String>,
}

impl Places {
    fn new(spec: &Spec) -> Result<Self, globset::Error> {
        Ok(Self {
            containers: spec.containers.clone(),
            units: Units::new(&spec.units)?,
            cgroups: spec.cgroups.iter().map(|path| filter::cgroup_root(path).to_owned()).collect(),
        })
    }

    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.units.is_none() && self.cgroups.is_empty()
    }

    /// Whether the processes of a control group are asked for; `name` is that of its container.
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

    /// Whether a container is asked for, wherever its processes are.
    pub fn container_verdict(&self, container: &Container, name: Name<'_>) -> Verdict {
        let fits = |text: &String| container.id.starts_with(&**text) || name == Name::Known(text);
        match name {
            _ if self.containers.iter().any(fits) => Verdict::Yes,
            Name::Unknown => Verdict::Open,
            Name::Known(_) => Verdict::No,
        }
    }

    /// True if containers are asked for.
    pub fn by_container(&self) -> bool {
        !self.containers.is_empty()
    }
}

#[cfg(test)]
mod tests;
