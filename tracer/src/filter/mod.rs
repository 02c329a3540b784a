//! Which events are reported: a [`Filter`], and what it is compiled to.
//!
//! Values of one option are alternatives; different options must all match. A negated value leaves out what it matches,
//! whatever else matches. Events that frame a stream (`hello`, `lost`, `dropped`, `storm`, `bye`) always pass: a reader
//! has to know what it sees and what is missing.

mod matcher;
pub mod parse;
pub mod pushdown;
mod values;

use std::ops::Not;

use globset::Glob;

pub use self::matcher::Matcher;
pub(crate) use self::values::Units;
use crate::event::Kind;

/// Which events are reported.
///
/// A filter is made of terms. [`with`](Self::with) joins them, and `!` negates one:
///
/// ```
/// use tracer::{Filter, Kind};
///
/// // What the users 33 and 34 execute, without their cron jobs.
/// let filter = Filter::uid(33)
///     .with(Filter::uid(34))
///     .with(Filter::kind(Kind::Exec))
///     .with(!Filter::comm("cron*"));
/// # drop(filter);
/// ```
///
/// - Terms of one sort are alternatives: the example matches user 33 or 34.
/// - Terms of different sorts must all match.
/// - A negated term leaves out what it matches, whatever else matches.
///
/// The default filter matches everything. The lines that frame a stream always come: `hello`, `lost`, `dropped`, `storm` and
/// `bye`.
///
/// The kernel itself filters by descent, by user, or by unit, container and control group. What it leaves out costs one
/// look-up, and is in no count of `bye`. The rest is filtered by the tracer. `hello` says which is which.
///
/// A term may be wrong: a pattern without an end, or a user who does not exist. [`Builder::start`](crate::Builder::start)
/// reports that.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What is reported.
    pub(crate) wanted: Terms,
    /// What is left out of that.
    pub(crate) not: Terms,
    /// Besides the trees: daemons that start containers, all that descends from them, and the containers of all these.
    pub(crate) engines: bool,
    /// There are `reap` events: with them, not with its exit, a process is over.
    pub(crate) until_reaped: bool,
    /// The first term that is wrong.
    pub(crate) wrong: Option<String>,
}

/// The terms of a filter by sort. An empty list matches everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// These processes and all their descendants.
    pub(crate) trees: Vec<u32>,
    /// These processes alone.
    pub(crate) pids: Vec<u32>,
    /// Processes whose real or effective user is one of these.
    pub(crate) uids: Vec<u32>,
    /// The same by name. Before a filter is compiled, these become `uids`.
    pub(crate) users: Vec<String>,
    /// Processes with such a name.
    pub(crate) comm: Vec<Glob>,
    /// Processes with such an executable.
    pub(crate) exe: Vec<Glob>,
    /// Processes of containers whose id is one of these, or begins so, or whose name it is.
    pub(crate) containers: Vec<String>,
    /// Processes of such systemd units, slices and units of users.
    pub(crate) units: Vec<Glob>,
    /// Processes in one of these control groups, or below.
    pub(crate) cgroups: Vec<String>,
    /// Events of these kinds.
    pub(crate) kinds: Vec<Kind>,
}

impl Terms {
    /// For each sort of terms, its name (that of the command's option) and whether there are any.
    pub(crate) fn sorts(&self) -> [(&'static str, bool); 9] {
        [
            ("pid", !self.trees.is_empty()),
            ("process", !self.pids.is_empty()),
            ("uid", !self.uids.is_empty() || !self.users.is_empty()),
            ("comm", !self.comm.is_empty()),
            ("exe", !self.exe.is_empty()),
            ("container", !self.containers.is_empty()),
            ("unit", !self.units.is_empty()),
            ("cgroup", !self.cgroups.is_empty()),
            ("event", !self.kinds.is_empty()),
        ]
    }

    fn count_sorts(&self) -> usize {
        self.sorts().into_iter().filter(|(_, given)| *given).count()
    }

    fn append(&mut self, other: Self) {
        let Self { trees, pids, uids, users, comm, exe, containers, units, cgroups, kinds } = other;
        self.trees.extend(trees);
        self.pids.extend(pids);
        self.uids.extend(uids);
        self.users.extend(users);
        self.comm.extend(comm);
        self.exe.extend(exe);
        self.containers.extend(containers);
        self.units.extend(units);
        self.cgroups.extend(cgroups);
        self.kinds.extend(kinds);
    }
}

impl From<Terms> for Filter {
    fn from(wanted: Terms) -> Self {
        Self { wanted, ..Self::default() }
    }
}

impl Filter {
    /// Processes of this user: the real or the effective one.
    pub fn uid(uid: u32) -> Self {
        Terms { uids: vec![uid], ..Terms::default() }.into()
    }

    /// The same for a user by name.
    pub fn user(name: impl Into<String>) -> Self {
        Terms { users: vec![name.into()], ..Terms::default() }.into()
    }

    /// The process with this id, without its descendants. A later process that gets the same id matches too.
    pub fn pid(pid: u32) -> Self {
        Self::parsed(parse::pid(pid), |pid| Terms { pids: vec![pid], ..Terms::default() })
    }

    /// This process and all its descendants. A descendant stays one when its parent ends and another process adopts it.
    ///
    /// The stream of a live trace ends with the last of them.
    pub fn tree(pid: u32) -> Self {
        Self::parsed(parse::pid(pid), |pid| Terms { trees: vec![pid], ..Terms::default() })
    }

    /// Processes with such a name (`comm`), e.g. `ssh*`. The kernel keeps 15 bytes of a name. A longer one matches too where the
    /// executable or an argument shows it.
    ///
    /// Patterns know `*`, `?`, `[a-z]` and `{a,b}`. A `\` before a character takes it as it is.
    pub fn comm(pattern: &str) -> Self {
        Self::parsed(parse::glob(pattern), |glob| Terms { comm: vec![glob], ..Terms::default() })
    }

    /// Processes with such an executable, e.g. `/usr/bin/*`. Patterns are those of [`comm`](Self::comm). `*` and `?` match `/` too.
    pub fn exe(pattern: &str) -> Self {
        Self::parsed(parse::glob(pattern), |glob| Terms { exe: vec![glob], ..Terms::default() })
    }

    /// Processes of this container: its name, its id, or how the id begins.
    pub fn container(name_or_id: &str) -> Self {
        Self::parsed(parse::container(name_or_id), |id| Terms { containers: vec![id], ..Terms::default() })
    }

    /// Processes of such a systemd unit, e.g. `ssh.service`, `user@*` or `user.slice`. A name without a kind is a service.
    pub fn unit(pattern: &str) -> Self {
        Self::parsed(parse::unit(pattern), |glob| Terms { units: vec![glob], ..Terms::default() })
    }

    /// Processes in this control group or below: the path from the root of its hierarchy, or the path of its directory.
    pub fn cgroup(path: &str) -> Self {
        Self::parsed(parse::absolute(path), |path| Terms { cgroups: vec![path], ..Terms::default() })
    }

    /// Events of this kind. A kind that comes on request only, such as [`Kind::ExecFailed`], is requested by that.
    pub fn kind(kind: Kind) -> Self {
        Terms { kinds: vec![kind], ..Terms::default() }.into()
    }

    /// Adds the terms of another filter.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let Self { wanted, not, engines, until_reaped, wrong } = other;
        self.wanted.append(wanted);
        self.not.append(not);
        self.engines |= engines;
        self.until_reaped |= until_reaped;
        self.wrong = self.wrong.or(wrong);
        self
    }

    fn parsed<T>(value: Result<T, String>, terms: impl FnOnce(T) -> Terms) -> Self {
        match value {
            Ok(value) => terms(value).into(),
            Err(error) => Self { wrong: Some(error), ..Self::default() },
        }
    }

    /// True if one of these kinds is reported by name.
    pub(crate) fn names_kind(&self, kinds: &[Kind]) -> bool {
        self.wanted.kinds.iter().any(|kind| kinds.contains(kind))
    }
}

impl Not for Filter {
    type Output = Self;

    /// Leaves out what the filter matches. Only terms of one sort can be negated together. Negate others one by one;
    /// [`Builder::start`](crate::Builder::start) reports a filter that mixes them.
    fn not(mut self) -> Self {
        if self.wrong.is_none() && self.wanted.count_sorts() + self.not.count_sorts() != 1 {
            self.wrong =
                Some("a filter of several sorts of terms, or of none, has no negation: negate each term".into());
        }
        std::mem::swap(&mut self.wanted, &mut self.not);
        self
    }
}

impl FromIterator<Filter> for Filter {
    fn from_iter<I: IntoIterator<Item = Self>>(filters: I) -> Self {
        filters.into_iter().fold(Self::default(), Self::with)
    }
}

/// The path of a control group as [`is_below`] takes it.
pub(crate) fn cgroup_root(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Whether a control group is this one or below it.
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

#[cfg(test)]
mod tests;
