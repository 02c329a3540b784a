//! Options that filter events.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use globset::Glob;

use super::Capture;
use super::values::{cgroup, pid, user};
use crate::cli::UsageError;
use crate::event::{Filtering, Kind};
use crate::filter::parse::{container, glob, unit};
use crate::filter::pushdown::{self, Needs, Pushdown};
use crate::filter::{Filter, Matcher, Terms};

/// Which events are shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Show only this process and its descendants
    ///
    /// A descendant still counts after its parent exits and another process becomes its parent. May be given more than once. A leading !
    /// excludes the process and its descendants: quote it, as in '!4711'. This works with every filter below.
    #[arg(short, long, value_name = "PID", value_parser = term(pid))]
    pid: Vec<Term<u32>>,

    /// Show only processes of this user, by name or number
    ///
    /// The real or the effective user has to match. May be given more than once, or as a list with commas. A leading !
    /// excludes the user: '!root'.
    #[arg(short, long, value_name = "USER", value_parser = term(user), value_delimiter = ',', value_hint = clap::ValueHint::Username)]
    uid: Vec<Term<u32>>,

    /// Show only processes with this name, e.g. 'ssh*'
    ///
    /// The name is the kernel's: `comm`, as in ps -o comm and top. It has at most 15 bytes. A longer name matches if the executable
    /// or an argument has it. A glob may contain *, ?, [a-z] and {a,b}. Write \ before a character that is not special. May be
    /// given more than once: one glob has to match. A leading ! excludes the name: '!cron*'.
    #[arg(short, long, value_name = "GLOB", value_parser = term(glob))]
    comm: Vec<Term<Glob>>,

    /// Show only processes with this executable, e.g. '/usr/bin/*'
    ///
    /// The path is that of the executed file, with all symbolic links resolved. * and ? match / too. May be given more than
    /// once: one glob has to match. A leading ! excludes the executable.
    #[arg(short = 'x', long, value_name = "GLOB", value_parser = term(glob))]
    exe: Vec<Term<Glob>>,

    /// Show only processes in this container, by name, id or prefix of the id
    ///
    /// An id matches from the container's first process on, with every runtime. systemd-nspawn and LXC use names as ids. A
    /// name matches only once it is known, so the first events may be missing. May be given more than once. A leading !
    /// excludes the container.
    #[arg(long, value_name = "NAME|ID", value_parser = term(container))]
    container: Vec<Term<String>>,

    /// Show only processes of this systemd unit, e.g. ssh.service or 'user@*'
    ///
    /// A glob. A name without a suffix is a service, as with systemctl. Write a name as systemctl shows it:
    /// 'foo\x2dbar.service'. A slice (user.slice) matches all units below it. A unit of a user matches with or without its slice:
    /// foo.service or app.slice/foo.service. May be given more than once. A leading ! excludes the unit.
    #[arg(long, value_name = "UNIT", value_parser = term(unit))]
    unit: Vec<Term<Glob>>,

    /// Show only processes in this control group and those below it
    ///
    /// PATH begins at the root of the hierarchy, e.g. /system.slice, or is the path of the directory. May be given more than
    /// once. A leading ! excludes the control group.
    #[arg(long, value_name = "PATH", value_parser = term(cgroup))]
    cgroup: Vec<Term<String>>,

    /// Show only events of these kinds
    ///
    /// A list with commas. A leading ! excludes a kind. `hello`, `lost`, `dropped`, `storm` and `bye` are always shown.
    #[arg(short, long, value_name = "KIND,…", value_delimiter = ',', value_parser = Kinds)]
    event: Vec<Term<Kind>>,
}

impl FilterArgs {
    /// Returns the filter of the options.
    pub fn filter(&self) -> Filter {
        let terms = |not| Terms {
            trees: values(&self.pid, not),
            uids: values(&self.uid, not),
            comm: values(&self.comm, not),
            exe: values(&self.exe, not),
            containers: values(&self.container, not),
            units: values(&self.unit, not),
            cgroups: values(&self.cgroup, not),
            kinds: values(&self.event, not),
            ..Terms::default()
        };
        Filter { wanted: terms(false), not: terms(true), ..Filter::default() }
    }

    /// Returns all pids of `--pid`, excluded ones too. The processes must exist.
    pub fn pids(&self) -> Vec<u32> {
        self.pid.iter().map(|term| term.value).collect()
    }

    /// Returns all paths of `--cgroup`, excluded ones too.
    pub fn cgroups(&self) -> Vec<String> {
        self.cgroup.iter().map(|term| term.value.clone()).collect()
    }

    /// Returns whether there is no filter.
    pub const fn is_empty(&self) -> bool {
        let Self { pid, uid, comm, exe, container, unit, cgroup, event } = self;
        let of_process = pid.is_empty() && uid.is_empty() && comm.is_empty() && exe.is_empty();
        let of_place = container.is_empty() && unit.is_empty() && cgroup.is_empty();
        of_process && of_place && event.is_empty()
    }

    /// Compiles the filter for the events that `capture` records. An error names `command`.
    pub fn matcher(&self, capture: &Capture, command: &'static str) -> Result<Matcher, UsageError> {
        Matcher::new(&Filter { until_reaped: capture.zombie_after.is_some(), ..self.filter() })
            .map_err(|error| UsageError::new(command, error.to_string()))
    }

    /// Decides which part of the filter the kernel does. An error names `command`.
    pub fn pushdown(&self, needs: Needs, command: &'static str) -> Result<(Pushdown, Option<Filtering>), UsageError> {
        pushdown::of(&self.filter(), needs).map_err(|error| UsageError::new(command, error.to_string()))
    }

    /// Returns whether `--event` includes one of these kinds.
    pub(super) fn names_kind(&self, kinds: &[Kind]) -> bool {
        self.event.iter().any(|term| !term.not && kinds.contains(&term.value))
    }
}

/// A value of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term<T> {
    /// Whether the value is excluded: it has a leading `!`.
    not: bool,
    value: T,
}

/// Removes a leading `!`. Returns whether there was one.
fn negated(text: &str) -> (bool, &str) {
    text.strip_prefix('!').map_or((false, text), |rest| (true, rest))
}

/// Reads a value that may have a leading `!`.
fn term<T>(value: fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Term<T>, String> + Clone {
    move |text| {
        let (not, text) = negated(text);
        Ok(Term { not, value: value(text)? })
    }
}

/// Returns the included or the excluded values.
fn values<T: Clone>(terms: &[Term<T>], not: bool) -> Vec<T> {
    terms.iter().filter(|term| term.not == not).map(|term| term.value.clone()).collect()
}

/// Reads a kind of event, which may have a leading `!`.
#[derive(Clone)]
struct Kinds;

impl Kinds {
    fn possible() -> impl Iterator<Item = PossibleValue> {
        Kind::ALL.iter().map(|kind| PossibleValue::new(kind.name()).hide(kind.is_framing()))
    }
}

impl TypedValueParser for Kinds {
    type Value = Term<Kind>;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Term<Kind>, clap::Error> {
        let (not, name) = value.to_str().map_or((false, value), |text| {
            let (not, name) = negated(text);
            (not, OsStr::new(name))
        });
        let name = PossibleValuesParser::new(Self::possible()).parse_ref(command, arg, name)?;
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name);
        kind.map(|value| Term { not, value }).ok_or_else(|| clap::Error::new(ErrorKind::InvalidValue).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Self::possible()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_exclamation_mark_means_not() {
        let parse = |text: &str| term(pid)(text).unwrap();
        assert_eq!((parse("!7"), parse("7")), (Term { not: true, value: 7 }, Term { not: false, value: 7 }));
        assert!(term(pid)("!!7").is_err());
        let given = [parse("!7"), parse("8")];
        assert_eq!((values(&given, false), values(&given, true)), (vec![8], vec![7]));
        let literal = term(glob)(r"\!x").unwrap();
        assert!(!literal.not && literal.value.compile_matcher().is_match("!x"));
        let command = Command::new("tracer");
        let kind = |text: &str| Kinds.parse_ref(&command, None, OsStr::new(text));
        assert_eq!(kind("!exec").unwrap(), Term { not: true, value: Kind::Exec });
        assert!(!kind("exec").unwrap().not && kind("!no").is_err() && kind("").is_err());
    }
}
