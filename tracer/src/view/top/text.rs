//! The text of a frame, for the screen and for batch output.

use std::sync::Arc;

use unicode_width::UnicodeWidthStr as _;

use super::model::{Spawned, Sums, TopFrame};
use super::rows::{Key, Row};
use super::state::{Group, Sort, TopState};
use crate::view::line::{Line, Role};
use crate::view::style::TextStyle;
use crate::view::{escape, label, units};

/// The columns before the command: sort key, heading and width. A negative width aligns to the left.
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

/// Returns the line above the rows, with the sort column marked.
pub(super) fn heading(state: &TopState) -> Line {
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

/// Returns the line of a row.
pub(super) fn row(row: &Row, frame: &TopFrame) -> Line {
    let Sums { forks, execs, exits, failures, cpu_ns } = row.sums;
    let cells = [
        row.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
        row.user.clone(),
        rate(frame, forks),
        rate(frame, execs),
        rate(frame, exits),
        rate(frame, failures),
        percent(frame, cpu_ns),
        units::count(row.total),
    ];
    let role = match row {
        Row { running: false, .. } => Role::Dim,
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

fn rate(frame: &TopFrame, n: u64) -> String {
    let rate = frame.rate(n);
    if rate < 999.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// Returns CPU time as a percentage of one CPU.
fn percent(frame: &TopFrame, cpu_ns: u64) -> String {
    format!("{:.1}", cpu_ns as f64 * 100.0 / frame.interval_ns.max(1) as f64)
}

/// Returns the lines above the table.
pub(super) fn summary(frame: &TopFrame, state: &TopState, style: &TextStyle) -> Vec<Line> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(frame.time.0)).unwrap_or_default();
    let clock = time.to_zoned(style.zone.clone()).strftime("%H:%M:%S").to_string();
    let mut first = Line::new().with(Role::Heading, "tracer top");
    first.push(Role::Plain, &format!(" - {clock}, {}", units::counted(frame.running as u64, "process")));
    if frame.interval_ns > 0 {
        first.push(Role::Plain, &format!(", last {}", units::duration(frame.interval_ns, style.glyphs)));
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
    if frame.interval_ns == 0 {
        return vec![first, Line::new().with(Role::Dim, "What happens is being counted.")];
    }
    let Sums { forks, execs, exits, failures, cpu_ns } = frame.all;
    let mut rates = Line::new().with(Role::Plain, "A second: ");
    for (n, what) in [(forks, "forks"), (execs, "execs"), (exits, "exits")] {
        rates.push(Role::Heading, &rate(frame, n));
        rates.push(Role::Plain, &format!(" {what}, "));
    }
    rates.push(if failures > 0 { Role::Bad } else { Role::Plain }, &format!("{} failed", rate(frame, failures)));
    rates.push(Role::Plain, &format!("; short-lived processes used {} % of a CPU", percent(frame, cpu_ns)));
    let total = &frame.total;
    let counts = [(total.forks, "fork"), (total.execs, "exec"), (total.exits, "exit"), (total.failures, "failure")];
    let counts = counts.map(|(n, what)| units::counted(n, what)).join(", ");
    let mut all = Line::new().with(Role::Dim, &format!("In all: {counts}, "));
    all.push(if frame.lost > 0 { Role::Bad } else { Role::Dim }, &format!("{} lost", units::count(frame.lost)));
    vec![first, rates, all, blame(frame)]
}

/// Returns the line that names the process with most of the activity.
fn blame(frame: &TopFrame) -> Line {
    let Some(culprit) = frame.culprit.and_then(|id| frame.find(id)) else {
        return Line::new().with(Role::Dim, "Nobody makes most of it.");
    };
    let share = culprit.below.0.events() * 100 / frame.all.events().max(1);
    let process = &culprit.process;
    let mut line = Line::new().with(Role::Bad, &format!("{share} % from {} {}", process.pid, label::command(process)));
    let above: Vec<String> = ancestors(frame, culprit).map(named).collect();
    if !above.is_empty() {
        line.push(Role::Dim, &format!(", below {}", above.join(" < ")));
    }
    line
}

fn named(spawned: &Spawned) -> String {
    format!("{}({})", label::name(&spawned.process), spawned.process.pid)
}

fn ancestors<'a>(frame: &'a TopFrame, of: &'a Spawned) -> impl Iterator<Item = &'a Spawned> {
    let next = |spawned: &&'a Spawned| frame.find(spawned.above?);
    // Ids can collide within a clock tick. The limit ends a walk in a circle.
    std::iter::successors(Some(of), next).skip(1).take(256)
}

/// Returns the details of a row, or `None` if the frame no longer contains it.
pub(super) fn details(key: Key, rows: &[Row], frame: &TopFrame, style: &TextStyle) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    let mut fact = |name: &str, text: &str| {
        lines.push(Line::new().with(Role::Dim, &format!("{name:<12}")).with(Role::Plain, text));
    };
    let found = match key {
        Key::Process(id) => frame.find(id),
        Key::Group(_) => None,
    };
    let Some(spawned) = found else {
        let row = rows.iter().find(|row| row.key == key)?;
        fact("name", &row.name);
        fact("now", &rates(&row.sums, frame, style));
        fact("created", &units::counted(row.total, "process"));
        return Some(lines);
    };
    let process = &spawned.process;
    fact("process", &format!("{}{}", process.pid, if spawned.running { "" } else { " (has ended)" }));
    fact("command", &label::command(process));
    let user = process.euid.or(process.uid).map(|uid| style.users.name(uid).to_string());
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
    let above: Vec<String> = ancestors(frame, spawned).map(named).collect();
    fact("ancestors", if above.is_empty() { "none that spawned" } else { "" });
    ancestors(frame, spawned)
        .for_each(|above| fact("", &format!("{} {}", above.process.pid, label::command(&above.process))));
    fact("children", &rates(&spawned.own.0, frame, style));
    fact("  in all", &counted(&spawned.own.1, style));
    fact("descendants", &rates(&spawned.below.0, frame, style));
    fact("  in all", &counted(&spawned.below.1, style));
    let times = |counts: &[(Arc<str>, u64)]| {
        let most = counts.iter().take(8);
        let most = most.map(|(what, n)| format!("{}{} {}", units::count(*n), style.glyphs.times, escape::text(what)));
        most.collect::<Vec<_>>().join(", ")
    };
    fact("executed", &times(&spawned.commands));
    fact("ended with", &times(&spawned.endings));
    Some(lines)
}

fn rates(sums: &Sums, frame: &TopFrame, style: &TextStyle) -> String {
    let Sums { forks, execs, exits, failures, cpu_ns } = *sums;
    let all = [(forks, "forks"), (execs, "execs"), (exits, "exits"), (failures, "failures")];
    let text = all.map(|(n, what)| format!("{} {what}", rate(frame, n))).join(", ");
    format!("a second {text}; CPU {}", units::duration(cpu_ns, style.glyphs))
}

fn counted(sums: &Sums, style: &TextStyle) -> String {
    let Sums { forks, execs, exits, failures, cpu_ns } = *sums;
    let counts = [(forks, "fork"), (execs, "exec"), (exits, "exit"), (failures, "failure")];
    let counts = counts.map(|(n, what)| units::counted(n, what)).join(", ");
    format!("{counts}; CPU {}", units::duration(cpu_ns, style.glyphs))
}
