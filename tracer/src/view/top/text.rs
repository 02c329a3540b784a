//! The words of a picture, for the screen and for batch output alike.

use std::sync::Arc;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

use super::model::{Picture, Spawned, Sums};
use super::rows::{Key, Row};
use super::state::{Group, Sort, State};
use crate::view::glyphs::Glyphs;
use crate::view::line::{Line, Role};
use crate::view::users::Users;
use crate::view::{escape, label, units};

/// How text looks.
#[derive(Debug)]
pub struct Look {
    /// Signs.
    pub glyphs: &'static Glyphs,
    /// Time zone of the times.
    pub zone: TimeZone,
    /// Names of users.
    pub users: Users,
}

impl Look {
    /// That of this machine.
    pub fn of_system() -> Self {
        Self { glyphs: Glyphs::of_locale(), zone: TimeZone::system(), users: Users::of_system() }
    }
}

/// The columns before the command: what each is sorted by, its heading and its width (to the left if negative).
const COLUMNS: [(Option<Sort>, &str, isize); 8] = [
    (Some(Sort::Pid), "PID", 7),
    (None, "USER", -9),
    (Some(Sort::Forks), "FORK/s", 7),
    (Some(Sort::Execs), "EXEC/s", 7),
    (Some(Sort::Exits), "EXIT/s", 7),
    (Some(Sort::Failures), "FAIL/s", 7),
    (Some(Sort::Cpu), "CPU%", 6),
    (Some(Sort::Total), "TOTAL", 9),
];

fn cell(text: &str, width: isize) -> String {
    let room = " ".repeat(width.unsigned_abs().saturating_sub(text.width()));
    if width < 0 { format!("{text}{room} ") } else { format!("{room}{text} ") }
}

/// The line above the rows; what they are sorted by stands out.
pub(super) fn heading(state: &State) -> Line {
    let mut line = Line::new();
    let mut push = |sort: Option<Sort>, text: &str| {
        line.push(if sort == Some(state.sort) { Role::Notice } else { Role::Heading }, text);
    };
    for (sort, name, width) in COLUMNS {
        push(sort, &cell(name, width));
    }
    let what = match state.group {
        Group::Process | Group::Ancestor | Group::Command => "COMMAND",
        Group::User => "USER",
        Group::Container => "CONTAINER",
        Group::Unit => "UNIT",
    };
    push(Some(Sort::Name), what);
    line
}

/// A row.
pub(super) fn row(row: &Row, picture: &Picture) -> Line {
    let Sums { forks, execs, exits, failures, cpu_ns } = row.sums;
    let cells = [
        row.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
        row.user.clone(),
        rate(picture, forks),
        rate(picture, execs),
        rate(picture, exits),
        rate(picture, failures),
        percent(picture, cpu_ns),
        units::count(row.total),
    ];
    let role = match row {
        Row { living: false, .. } => Role::Dim,
        Row { culprit: true, .. } => Role::Bad,
        _ => Role::Plain,
    };
    let mut line = Line::new();
    for (text, (_, _, width)) in cells.iter().zip(COLUMNS) {
        line.push(role, &cell(text, width));
    }
    line.push(role, &row.name);
    line
}

fn rate(picture: &Picture, n: u64) -> String {
    let rate = picture.rate(n);
    if rate < 999.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// CPU time as a part of one CPU.
fn percent(picture: &Picture, cpu_ns: u64) -> String {
    format!("{:.1}", cpu_ns as f64 * 100.0 / picture.interval_ns.max(1) as f64)
}

/// What stands above the table.
pub(super) fn summary(picture: &Picture, state: &State, look: &Look) -> Vec<Line> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(picture.time.0)).unwrap_or_default();
    let clock = time.to_zoned(look.zone.clone()).strftime("%H:%M:%S").to_string();
    let mut first = Line::new().with(Role::Heading, "tracer top");
    first.push(Role::Plain, &format!(" - {clock}, {}", units::counted(picture.living as u64, "process")));
    if picture.interval_ns > 0 {
        first.push(Role::Plain, &format!(", last {}", units::duration(picture.interval_ns, look.glyphs)));
    }
    first.push(Role::Plain, &format!(", by {}", state.group.name()));
    if !state.filter.is_empty() {
        first.push(Role::Notice, &format!(", only {}", escape::argument(&state.filter)));
    }
    if let Some(user) = &state.user {
        first.push(Role::Notice, &format!(", of {}", escape::text(user)));
    }
    if state.paused {
        first.push(Role::Notice, ", paused");
    }
    if picture.interval_ns == 0 {
        return vec![first, Line::new().with(Role::Dim, "What happens is being counted.")];
    }
    let Sums { forks, execs, exits, failures, cpu_ns } = picture.all;
    let mut rates = Line::new().with(Role::Plain, "A second: ");
    for (n, what) in [(forks, "forks"), (execs, "execs"), (exits, "exits")] {
        rates.push(Role::Heading, &rate(picture, n));
        rates.push(Role::Plain, &format!(" {what}, "));
    }
    rates.push(if failures > 0 { Role::Bad } else { Role::Plain }, &format!("{} failed", rate(picture, failures)));
    rates.push(Role::Plain, &format!("; short-lived processes used {} % of a CPU", percent(picture, cpu_ns)));
    let total = &picture.total;
    let counts = [(total.forks, "fork"), (total.execs, "exec"), (total.exits, "exit"), (total.failures, "failure")];
    let counts = counts.map(|(n, what)| units::counted(n, what)).join(", ");
    let mut all = Line::new().with(Role::Dim, &format!("In all: {counts}, "));
    all.push(if picture.lost > 0 { Role::Bad } else { Role::Dim }, &format!("{} lost", units::count(picture.lost)));
    vec![first, rates, all, blame(picture)]
}

/// Who makes most of it.
fn blame(picture: &Picture) -> Line {
    let Some(culprit) = picture.culprit.and_then(|id| picture.find(id)) else {
        return Line::new().with(Role::Dim, "Nobody makes most of it.");
    };
    let share = culprit.below.0.events() * 100 / picture.all.events().max(1);
    let process = &culprit.process;
    let mut line = Line::new().with(Role::Bad, &format!("{share} % from {} {}", process.pid, label::command(process)));
    let above: Vec<String> = ancestors(picture, culprit).map(named).collect();
    if !above.is_empty() {
        line.push(Role::Dim, &format!(", below {}", above.join(" < ")));
    }
    line
}

fn named(spawned: &Spawned) -> String {
    format!("{}({})", label::name(&spawned.process), spawned.process.pid)
}

fn ancestors<'a>(picture: &'a Picture, of: &'a Spawned) -> impl Iterator<Item = &'a Spawned> {
    let next = |spawned: &&'a Spawned| picture.find(spawned.above?);
    // Ids can collide within a tick: a circle must not be walked for ever.
    std::iter::successors(Some(of), next).skip(1).take(256)
}

/// All about a row; none if it is in this picture no more.
pub(super) fn details(key: Key, rows: &[Row], picture: &Picture, look: &Look) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    let mut fact = |name: &str, text: &str| {
        lines.push(Line::new().with(Role::Dim, &format!("{name:<12}")).with(Role::Plain, text));
    };
    let found = match key {
        Key::Process(id) => picture.find(id),
        Key::Shared(_) => None,
    };
    let Some(spawned) = found else {
        let row = rows.iter().find(|row| row.key == key)?;
        fact("name", &row.name);
        fact("now", &told(&row.sums, picture, look));
        fact("created", &units::counted(row.total, "process"));
        return Some(lines);
    };
    let process = &spawned.process;
    fact("process", &format!("{}{}", process.pid, if spawned.living { "" } else { " (has ended)" }));
    fact("command", &label::command(process));
    let user = process.euid.or(process.uid).map(|uid| look.users.name(uid).to_string());
    let path = |text: &Option<Arc<str>>| text.as_ref().map(|text| escape::text(text).into_owned());
    let facts = [
        ("user", user),
        ("exe", path(&process.image.exe)),
        ("cwd", path(&process.image.cwd)),
        ("container", path(&process.container_id().cloned())),
        ("unit", path(&process.unit)),
        ("cgroup", path(&process.cgroup)),
        ("started", process.start_time.map(|time| time.to_string())),
        ("id", Some(process.id.to_string())),
    ];
    for (name, text) in facts {
        if let Some(text) = text {
            fact(name, &text);
        }
    }
    let above: Vec<String> = ancestors(picture, spawned).map(named).collect();
    fact("ancestors", if above.is_empty() { "none that spawned" } else { "" });
    ancestors(picture, spawned)
        .for_each(|above| fact("", &format!("{} {}", above.process.pid, label::command(&above.process))));
    fact("children", &told(&spawned.own.0, picture, look));
    fact("  in all", &counted(&spawned.own.1, look));
    fact("descendants", &told(&spawned.below.0, picture, look));
    fact("  in all", &counted(&spawned.below.1, look));
    let times = |counts: &[(Arc<str>, u64)]| {
        let most = counts.iter().take(8);
        let most = most.map(|(what, n)| format!("{}{} {}", units::count(*n), look.glyphs.times, escape::text(what)));
        most.collect::<Vec<_>>().join(", ")
    };
    fact("executed", &times(&spawned.commands));
    fact("ended with", &times(&spawned.endings));
    Some(lines)
}

fn told(sums: &Sums, picture: &Picture, look: &Look) -> String {
    let Sums { forks, execs, exits, failures, cpu_ns } = *sums;
    let rates = [(forks, "forks"), (execs, "execs"), (exits, "exits"), (failures, "failures")];
    let rates = rates.map(|(n, what)| format!("{} {what}", rate(picture, n))).join(", ");
    format!("a second {rates}; CPU {}", units::duration(cpu_ns, look.glyphs))
}

fn counted(sums: &Sums, look: &Look) -> String {
    let Sums { forks, execs, exits, failures, cpu_ns } = *sums;
    let counts = [(forks, "fork"), (execs, "exec"), (exits, "exit"), (failures, "failure")];
    let counts = counts.map(|(n, what)| units::counted(n, what)).join(", ");
    format!("{counts}; CPU {}", units::duration(cpu_ns, look.glyphs))
}
