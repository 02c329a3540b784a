//! Options that several commands share, and what they mean.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, ValueEnum};
use globset::Glob;
use tracer_common::limits::{ARGV_DEFAULT_BYTES, ARGV_MAX_BYTES, RING_DEFAULT_BYTES};

use super::UsageError;
use crate::event::{Filtering, Kind};
use crate::filter::parse::{self, container, glob, unit};
use crate::filter::pushdown::{self, Needs, Pushdown};
use crate::filter::{Filter, Matcher, Terms};
use crate::kernel::hierarchy::Hierarchy;
use crate::source::live::{Builder, ExecFailures};
use crate::sys::passwd;

/// Which events are shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Show only this process and all its descendants
    ///
    /// A descendant stays one when its parent ends and another process adopts it. May be given more than once. With a leading !
    /// (quote it: '!4711') they are left out instead, as with every filter below.
    #[arg(short, long, value_name = "PID", value_parser = term(pid))]
    pid: Vec<Term<u32>>,

    /// Show only processes of this user (name or number, real or effective)
    ///
    /// May be given more than once, or as a list with commas. A leading ! means "not": '!root'.
    #[arg(short, long, value_name = "USER", value_parser = term(user), value_delimiter = ',', value_hint = clap::ValueHint::Username)]
    uid: Vec<Term<u32>>,

    /// Show only processes with such a name, e.g. 'ssh*'
    ///
    /// The name is the kernel's (`comm`, as in ps -o comm and top): at most 15 bytes. A longer name matches too where the
    /// executable or an argument shows it. Globs know *, ?, [a-z] and {a,b}; \ before a character takes it as it is. May be
    /// given more than once: one has to match. A leading ! means "not": '!cron*'.
    #[arg(short, long, value_name = "GLOB", value_parser = term(glob))]
    comm: Vec<Term<Glob>>,

    /// Show only processes with such an executable, e.g. '/usr/bin/*'
    ///
    /// The path is that of the file that runs, with all symbolic links followed. * and ? match / as well. May be
    /// given more than once: one has to match. A leading ! means "not".
    #[arg(short = 'x', long, value_name = "GLOB", value_parser = term(glob))]
    exe: Vec<Term<Glob>>,

    /// Show only processes of this container: its name, id, or how that begins
    ///
    /// By its id it works from a container's first process on, with every runtime (systemd-nspawn and LXC have names for
    /// ids). By its name, what comes before that is known is not chosen. May be given more than once. A leading ! means "not".
    #[arg(long, value_name = "NAME|ID", value_parser = term(container))]
    container: Vec<Term<String>>,

    /// Show only processes of this systemd unit, e.g. ssh.service or 'user@*'
    ///
    /// A name without a kind is a service, as with systemctl. A name is written as systemctl shows it ('foo\x2dbar.service').
    /// A slice (user.slice) is all that runs below it; a user's own unit is found by its name or with the slice before it
    /// (app.slice/foo.service). A glob; may be given more than once. A leading ! means "not".
    #[arg(long, value_name = "UNIT", value_parser = term(unit))]
    unit: Vec<Term<Glob>>,

    /// Show only processes in this control group, and in those below it
    ///
    /// The path from the root of its hierarchy, e.g. /system.slice, or the path of its directory. May be given more than once.
    /// A leading ! means "not".
    #[arg(long, value_name = "PATH", value_parser = term(cgroup))]
    cgroup: Vec<Term<String>>,

    /// Show only events of these kinds
    ///
    /// A list with commas. A leading ! means "not". `hello`, `lost`, `dropped`, `storm` and `bye` are always shown.
    #[arg(short, long, value_name = "KIND,…", value_delimiter = ',', value_parser = Kinds)]
    event: Vec<Term<Kind>>,
}

impl FilterArgs {
    /// The filter.
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

    /// Every pid that is named: they have to exist.
    pub fn pids(&self) -> Vec<u32> {
        self.pid.iter().map(|term| term.value).collect()
    }

    /// Every control group that is named.
    pub fn cgroups(&self) -> Vec<String> {
        self.cgroup.iter().map(|term| term.value.clone()).collect()
    }

    /// True when there is no filter: everything is shown.
    pub const fn is_empty(&self) -> bool {
        let Self { pid, uid, comm, exe, container, unit, cgroup, event } = self;
        let of_process = pid.is_empty() && uid.is_empty() && comm.is_empty() && exe.is_empty();
        let of_place = container.is_empty() && unit.is_empty() && cgroup.is_empty();
        of_process && of_place && event.is_empty()
    }

    /// The same compiled, for events that are captured so; `command` is for the error.
    pub fn matcher(&self, capture: &Capture, command: &'static str) -> Result<Matcher, UsageError> {
        Matcher::new(&Filter { until_reaped: capture.zombie_after.is_some(), ..self.filter() })
            .map_err(|error| UsageError::new(command, error.to_string()))
    }

    /// Which part of it is pushed into the kernel; `command` is for the error.
    pub fn pushdown(&self, needs: Needs, command: &'static str) -> Result<(Pushdown, Option<Filtering>), UsageError> {
        pushdown::of(&self.filter(), needs).map_err(|error| UsageError::new(command, error.to_string()))
    }

    /// True when a kind is named that only exists if threads are traced.
    fn needs_threads(&self) -> bool {
        self.names_kind(&[Kind::ThreadStart, Kind::ThreadExit])
    }

    fn names_kind(&self, kinds: &[Kind]) -> bool {
        self.event.iter().any(|term| !term.not && kinds.contains(&term.value))
    }
}

/// One value of a filter, wanted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term<T> {
    /// It has a leading `!`.
    not: bool,
    value: T,
}

/// A text without a leading `!`, and whether it had one.
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

/// The values that are wanted, or those that are not.
fn values<T: Clone>(terms: &[Term<T>], not: bool) -> Vec<T> {
    terms.iter().filter(|term| term.not == not).map(|term| term.value.clone()).collect()
}

const RING_CEILING: u32 = 1 << 30;
const MEMORY_FLOOR: u32 = 1 << 20;

/// What is captured, and with what.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Also trace threads
    ///
    /// Adds the events thread_start and thread_exit.
    #[arg(short, long)]
    threads: bool,

    /// Capture at most so many bytes of the arguments of a process (K, M: 1024, 1024²)
    ///
    /// An argument list that was cut says so: argv_info.truncated. The kernel itself allows 6M at most.
    #[arg(long, value_name = "BYTES", default_value_t = Size(ARGV_DEFAULT_BYTES), value_parser = size)]
    argv_max: Size,

    /// Also tell execs that fail: which path, with which arguments, and why
    ///
    /// Adds the event exec_failed. With `summary`, looking for a program along PATH is one event: attempts of one
    /// process for the same argv[0] that fail because there is nothing (ENOENT, ENOTDIR) are held back until it
    /// does something else or ends, a second at most, and told with their number and paths. Shells mostly look for
    /// themselves first and never ask the kernel for what is not there. Execs of 32-bit programs on a 64-bit
    /// kernel are not seen. What it costs: nothing where the kernel lets BPF programs attach to its functions;
    /// where not, the tracepoints of the system calls are used, and while tracer runs every system call of the
    /// machine is slower. `tracer doctor` tells which it is.
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_enum
    )]
    exec_failed: Option<HowFailed>,

    /// Also tell when the dead are waited for, by whom, and who is not
    ///
    /// Adds the events reap (a dead process was waited for: how long it was a zombie, and by whom) and zombie (one was
    /// not waited for in a while: who should, and how many of its children lie there). A reap is told up to some tens of
    /// milliseconds late, when the kernel has done with the process; one that the kernel does not tell (its record was
    /// lost) is found in /proc, a second after --zombie-after or later, and says `inferred`. A parent that ignores SIGCHLD
    /// has its children reaped by the kernel.
    #[arg(long)]
    reap: bool,

    /// After how long a dead process that was not waited for is told of, e.g. 500ms or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "reap", value_parser = super::stream::duration)]
    zombie_after: Duration,

    /// Size of the ring buffer between the kernel and tracer: a power of two
    ///
    /// It holds what happens while tracer is not running; when it is full, events are lost, and told as lost.
    #[arg(long, value_name = "BYTES", default_value_t = Size(RING_DEFAULT_BYTES), value_parser = size)]
    ring_size: Size,

    /// Most memory for what is remembered of processes, and for what waits to be written (K, M, G)
    ///
    /// When there is more to remember, the dead are forgotten, oldest first; then argument lists and working directories of the
    /// living, the largest first. `bye` says how many (dead_forgotten, argv_forgotten). Nobody who lives is forgotten,
    /// which takes some 250 bytes each. A sixteenth is what may wait for a slow reader. The ring buffer (--ring-size)
    /// and some 10M for tracer itself come on top.
    #[arg(long, value_name = "BYTES", default_value_t = Size(Builder::MAX_MEMORY as u32), value_parser = size)]
    max_memory: Size,

    /// Take the kernel's types from FILE; refused if it is another kernel's
    ///
    /// A check, for when it is to be certain of which kernel a file is: the offsets still come from the kernel that runs,
    /// from /sys/kernel/btf/vmlinux, or where sysfs is not mounted by bpf(2) (since Linux 5.11). A kernel built without BTF
    /// cannot be traced: it has no types to attach programs by, and no file gives it them.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    btf: Option<PathBuf>,
}

/// How execs that fail are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HowFailed {
    /// Each by itself
    All,
    /// Looking for a program along PATH as one
    Summary,
}

/// What is captured, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Threads as well.
    pub threads: bool,
    /// Most bytes of argv, 1 B to 6 MiB.
    pub argv_max: u32,
    /// Size of the ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Most memory for what is remembered and what waits to be written.
    pub max_memory: usize,
    /// Execs that fail.
    pub exec_failures: ExecFailures,
    /// When the dead are waited for, and after how long to tell of those that are not.
    pub zombie_after: Option<Duration>,
    /// A file with the kernel's types.
    pub btf: Option<PathBuf>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            threads: false,
            argv_max: ARGV_DEFAULT_BYTES,
            ring_bytes: RING_DEFAULT_BYTES,
            max_memory: Builder::MAX_MEMORY,
            exec_failures: ExecFailures::No,
            zombie_after: None,
            btf: None,
        }
    }
}

impl CaptureArgs {
    /// An error if an option chooses what is captured: with `--from` that is chosen already.
    pub fn refuse_with_from(&self, command: &'static str) -> Result<(), UsageError> {
        let Self { threads, argv_max, exec_failed, reap, zombie_after: _, ring_size, max_memory: _, btf } = self;
        let given = [
            (*threads, "--threads"),
            (*argv_max != Size(ARGV_DEFAULT_BYTES), "--argv-max"),
            (exec_failed.is_some(), "--exec-failed"),
            (*reap, "--reap"),
            (*ring_size != Size(RING_DEFAULT_BYTES), "--ring-size"),
            (btf.is_some(), "--btf"),
        ];
        match given.into_iter().find_map(|(given, name)| given.then_some(name)) {
            Some(name) => {
                let message =
                    format!("{name} chooses what is recorded: leave it out with --from, and give it to the recorder");
                Err(UsageError::new(command, message))
            }
            None => Ok(()),
        }
    }

    /// What the options mean; `command` is for the error.
    pub fn capture(&self, filter: &FilterArgs, command: &'static str) -> Result<Capture, UsageError> {
        let wrong = |message: String| Err(UsageError::new(command, message));
        let page = page_size();
        let [Size(argv_max), Size(ring_size), Size(max_memory)] = [self.argv_max, self.ring_size, self.max_memory];
        if argv_max == 0 || argv_max > ARGV_MAX_BYTES {
            return wrong(format!(
                "--argv-max is {argv_max} bytes, and can be 1 to {ARGV_MAX_BYTES} ({})",
                Size(ARGV_MAX_BYTES)
            ));
        }
        if !ring_size.is_power_of_two() || ring_size < page || ring_size > RING_CEILING {
            return wrong(format!(
                "--ring-size is {ring_size} bytes, and has to be a power of two from {page} to {RING_CEILING} ({}), e.g. 16M",
                Size(RING_CEILING)
            ));
        }
        if ring_size <= argv_max {
            return wrong(format!(
                "--ring-size ({ring_size} bytes) has no room for an argument list of --argv-max ({argv_max} bytes): make it larger"
            ));
        }
        if max_memory < MEMORY_FLOOR {
            return wrong(format!("--max-memory is {max_memory} bytes: less than 1M is not enough"));
        }
        Ok(Capture {
            threads: self.threads || filter.needs_threads(),
            argv_max,
            ring_bytes: ring_size,
            max_memory: max_memory as usize,
            zombie_after: (self.reap || filter.names_kind(&[Kind::Reap, Kind::Zombie])).then_some(self.zombie_after),
            exec_failures: match self.exec_failed {
                Some(HowFailed::All) => ExecFailures::All,
                Some(HowFailed::Summary) => ExecFailures::Summary,
                None if filter.names_kind(&[Kind::ExecFailed]) => ExecFailures::All,
                None => ExecFailures::No,
            },
            btf: self.btf.clone(),
        })
    }
}

fn page_size() -> u32 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| u32::try_from(page).ok()).unwrap_or(4096)
}

/// A process id that can exist.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    // What is no number is out of range too.
    parse::pid(text.parse().unwrap_or_default())
}

/// A user's number, from a name or a number.
pub(super) fn user(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        // The kernel's "no user".
        Ok(u32::MAX) => Err("it means \"no user\"".into()),
        Ok(uid) => Ok(uid),
        Err(_) => passwd::uid_of(text).map_err(|error| error.to_string()),
    }
}

/// A path from the root of a hierarchy, or of a directory in the file system.
fn cgroup(text: &str) -> Result<String, String> {
    Hierarchy::of_proc().path_of(&parse::absolute(text)?)
}

/// A number of bytes, shown with the largest suffix that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 10) => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// Bytes, with a suffix or without.
fn size(text: &str) -> Result<Size, String> {
    let unknown = || "a size is a number of bytes, or of K (1024 bytes) or M (1024 K), e.g. 64K".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return Err(unknown()),
    };
    let number = u32::from_str(digits).map_err(|_| unknown())?;
    number.checked_mul(unit).map(Size).ok_or_else(|| "the size is too large: less than 4096M is possible".to_owned())
}

/// Reads kinds of events, each of which may have a leading `!`.
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
    fn sizes_have_suffixes() {
        assert_eq!(size("4096"), Ok(Size(4096)));
        assert_eq!(size("64K"), Ok(Size(65536)));
        assert_eq!(size("2m"), Ok(Size(2 << 20)));
        assert_eq!(size("1GiB"), Ok(Size(1 << 30)));
        assert_eq!(
            [4097, 65536, 8 << 20, 1 << 30].map(|bytes| Size(bytes).to_string()),
            ["4097", "64K", "8M", "1024M"]
        );
        for text in ["", "K", "-1", "1.5M", "4G", "12x", "4294967296"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn pids_are_those_the_kernel_can_give() {
        assert_eq!(pid("1"), Ok(1));
        assert_eq!(pid("4194303"), Ok(4_194_303));
        for text in ["0", "-1", "4194304", "self", ""] {
            assert!(pid(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn control_groups_are_paths_of_their_hierarchy() {
        assert_eq!(cgroup("/system.slice"), Ok("/system.slice".to_owned()));
        assert!(cgroup("system.slice").is_err());
    }

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

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(user("root"), Ok(0));
        assert_eq!(user("4711"), Ok(4711));
        assert!(user("no such user").is_err());
        assert!(user("4294967295").is_err());
    }
}
