//! The text of a frame, for the screen and for batch output.

use unicode_width::UnicodeWidthStr as _;

use super::state::{ContainersState, Sort};
use crate::analysis::roster::{self, Listed, RosterFrame};
use crate::event::time::Timestamp;
use crate::view::line::{Line, Role};
use crate::view::style::TextStyle;
use crate::view::{escape, label, units};

/// A column: sort key, heading, whether it aligns to the left, and its text.
struct Column {
    sort: Option<Sort>,
    name: &'static str,
    left: bool,
    cell: fn(&Listed, &TextStyle) -> String,
}

/// All columns. Those of constant width come first, so that a narrow screen truncates the others.
const COLUMNS: [Column; 11] = [
    Column { sort: None, name: "ID", left: true, cell: |one, _| id(one) },
    Column { sort: Some(Sort::State), name: "STATE", left: true, cell: |one, _| one.state.name().into() },
    Column { sort: Some(Sort::Up), name: "UP", left: false, cell: up },
    Column { sort: Some(Sort::Processes), name: "PROCS", left: false, cell: |one, _| units::count(one.processes) },
    Column { sort: Some(Sort::Ever), name: "EVER", left: false, cell: |one, _| units::count(one.processes_ever) },
    Column { sort: Some(Sort::Execs), name: "EXEC/s", left: false, cell: |one, _| rate(one) },
    Column { sort: None, name: "EXIT", left: true, cell: |one, _| status(one) },
    Column { sort: None, name: "RUNTIME", left: true, cell: |one, _| safe(one.runtime().as_deref()) },
    Column { sort: Some(Sort::Name), name: "NAME", left: true, cell: |one, _| safe(one.container.name.as_deref()) },
    Column { sort: Some(Sort::Image), name: "IMAGE", left: true, cell: |one, _| safe(one.container.image.as_deref()) },
    Column { sort: None, name: "POD", left: true, cell: |one, _| safe(one.pod().as_deref()) },
];

/// The greatest width of a column. Longer texts are truncated.
const WIDEST: usize = 48;

fn id(one: &Listed) -> String {
    escape::text(label::container(&one.container.id)).into_owned()
}

fn up(one: &Listed, style: &TextStyle) -> String {
    one.up_ns.map_or_else(|| "-".into(), |ns| units::duration(ns, style.glyphs))
}

fn rate(one: &Listed) -> String {
    match one.execs_per_second {
        _ if one.interval_ns == 0 => "-".into(),
        rate if rate < 999.95 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn status(one: &Listed) -> String {
    match one.state {
        roster::ContainerState::Exited => {
            one.status().map_or_else(|| "?".into(), |status| escape::text(&status).into_owned())
        }
        _ => "-".into(),
    }
}

fn safe(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "-".into(), |text| escape::text(text).into_owned())
}

/// The columns of a frame, as wide as their texts. Without pods there is no POD column.
pub(super) struct Columns<'a> {
    style: &'a TextStyle,
    widths: [usize; COLUMNS.len()],
    pods: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn of(rows: &[&Listed], style: &'a TextStyle) -> Self {
        let widths = COLUMNS.map(|column| {
            let cells = rows.iter().map(|one| (column.cell)(one, style).width());
            cells.max().unwrap_or(0).clamp(column.name.len(), WIDEST)
        });
        Self { style, widths, pods: rows.iter().any(|one| one.pod().is_some()) }
    }

    fn all(&self) -> impl Iterator<Item = (Column, usize)> {
        let pods = self.pods;
        COLUMNS.into_iter().zip(self.widths).filter(move |(column, _)| pods || column.name != "POD")
    }

    /// Returns the line above the rows, with the sort column marked.
    pub(super) fn heading(&self, state: &ContainersState) -> Line {
        self.line(|column| {
            let role = if column.sort == Some(state.sort) { Role::Notice } else { Role::Heading };
            (role, column.name.to_owned())
        })
    }

    /// Returns the line of a container.
    pub(super) fn row(&self, one: &Listed) -> Line {
        let gone = matches!(one.state, roster::ContainerState::Exited | roster::ContainerState::Removed);
        self.line(|column| {
            let role = match column.name {
                "EXIT" if one.failed() => Role::Bad,
                _ if gone => Role::Dim,
                "STATE" if one.state == roster::ContainerState::Running => Role::Good,
                "STATE" => Role::Notice,
                _ => Role::Plain,
            };
            (role, (column.cell)(one, self.style))
        })
    }

    fn line(&self, cell: impl Fn(&Column) -> (Role, String)) -> Line {
        let mut line = Line::new();
        let mut columns = self.all().peekable();
        while let Some((column, width)) = columns.next() {
            let (role, text) = cell(&column);
            let text = Line::new().with(role, &text).cut(Some(width), self.style.glyphs).plain();
            let room = " ".repeat(width.saturating_sub(text.width()));
            let text = if column.left { format!("{text}{room}  ") } else { format!("{room}{text}  ") };
            // The last column has no padding.
            line.push(role, if columns.peek().is_some() { &text } else { text.trim_end() });
        }
        line
    }
}

/// Returns the line that replaces an empty table.
pub(super) fn nothing(frame: &RosterFrame, state: &ContainersState) -> Line {
    let filtered = !frame.containers.is_empty() && (!state.filter.is_empty() || !state.only.is_empty());
    let text = if filtered { "No container is like that." } else { "There is no container." };
    Line::new().with(Role::Dim, text)
}

/// Returns the line above the table.
pub(super) fn summary(frame: &RosterFrame, state: &ContainersState, style: &TextStyle) -> Line {
    let count =
        |wanted: roster::ContainerState| frame.containers.iter().filter(|one| one.state == wanted).count() as u64;
    let mut line = Line::new().with(Role::Heading, "tracer containers");
    line.push(Role::Plain, &format!(" - {}, ", clock(frame.time, style)));
    line.push(Role::Heading, &units::count(count(roster::ContainerState::Running)));
    line.push(Role::Plain, " running");
    for state in [
        roster::ContainerState::Paused,
        roster::ContainerState::Created,
        roster::ContainerState::Exited,
        roster::ContainerState::Removed,
    ] {
        let many = count(state);
        if many > 0 {
            line.push(Role::Plain, &format!(", {} {}", units::count(many), state.name()));
        }
    }
    if frame.interval_ns > 0 {
        line.push(Role::Plain, &format!(", last {}", units::duration(frame.interval_ns, style.glyphs)));
    }
    if frame.lost > 0 {
        line.push(Role::Bad, &format!(", {} lost", units::counted(frame.lost, "event")));
    }
    if !state.only.is_empty() {
        let only: Vec<_> = state.only.iter().map(|only| escape::argument(only)).collect();
        line.push(Role::Notice, &format!(", only {}", only.join(" ")));
    }
    if !state.filter.is_empty() {
        line.push(Role::Notice, &format!(", with {}", escape::argument(&state.filter)));
    }
    if state.paused {
        line.push(Role::Notice, ", paused");
    }
    line
}

fn clock(time: Timestamp, style: &TextStyle) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or_default();
    time.to_zoned(style.zone.clone()).strftime("%H:%M:%S").to_string()
}

/// Returns the details of a container.
pub(super) fn details(one: &Listed, style: &TextStyle) -> Vec<Line> {
    let container = &one.container;
    let safe = |text: &str| escape::text(text).into_owned();
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(safe);
    let end = container.end.as_ref();
    let cpu = end.map(|end| units::duration(end.user_ns + end.system_ns, style.glyphs));
    let memory = end.map(|end| end.peak_memory_bytes.unwrap_or(end.max_rss_bytes)).map(units::bytes);
    let processes =
        format!("{}, {} ever, {}", one.processes, one.processes_ever, units::counted(one.execs_ever, "exec"));
    let state = match one.status() {
        Some(status) => format!("{} ({})", one.state.name(), safe(&status)),
        None => one.state.name().to_owned(),
    };
    let facts = [
        ("id", Some(safe(&container.id))),
        ("name", text(&container.name)),
        ("image", text(&container.image)),
        ("runtime", one.runtime().as_deref().map(safe)),
        ("pod", one.pod().as_deref().map(safe)),
        ("in the pod", container.kubernetes.as_ref().and_then(|kubernetes| text(&kubernetes.container))),
        ("hostname", text(&container.hostname)),
        ("runs", container.args.as_ref().map(escape::command_line)),
        ("state", Some(if one.removed { format!("{state}, removed") } else { state })),
        ("created", one.created.map(|time| time.to_string())),
        ("started", one.started.map(|time| time.to_string())),
        ("ended", one.ended.map(|time| time.to_string())),
        ("up", one.up_ns.map(|ns| units::duration(ns, style.glyphs))),
        ("processes", Some(processes)),
        ("CPU", cpu),
        ("memory", memory),
        ("bundle", text(&container.bundle)),
        ("cgroup", Some(safe(&container.cgroup)).filter(|cgroup| !cgroup.is_empty())),
    ];
    let fact = |(name, text): (&str, Option<String>)| {
        Some(Line::new().with(Role::Dim, &format!("{name:<12}")).with(Role::Plain, &text?))
    };
    facts.into_iter().filter_map(fact).collect()
}
