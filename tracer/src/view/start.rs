//! Draws the start of a container: each step is a line with a bar, which ends where the next step begins.

use super::glyphs::Glyphs;
use super::line::{Line, Role};
use super::{escape, label, units};
use crate::analysis::audit::role::Role as StepRole;
use crate::analysis::audit::{Evidence, Ran, Start};
use crate::event::Container;

/// Columns of the bars.
const BAR: usize = 24;

/// Columns of an offset or a duration.
const TIME: usize = 7;

/// Columns of the role of a step.
const STEP: usize = 11;

/// Returns the lines of a start. They are truncated only to a given width.
pub fn lines(start: &Start, width: Option<usize>, glyphs: &Glyphs) -> Vec<Line> {
    let mut lines = vec![title(start, glyphs)];
    lines.push(Line::new().with(
        Role::Heading,
        &format!(
            "{:>TIME$} {:>TIME$} {:>TIME$}  {:<BAR$}  {:<STEP$} {:>7}  COMMAND",
            "AT", "TOOK", "LASTED", "", "STEP", "PID"
        ),
    ));
    lines.extend(start.steps.iter().map(|step| row(start, step, glyphs)));
    if !start.others.is_empty() {
        let what = units::counted(start.others.len() as u64, "other process");
        lines.push(Line::new().with(
            Role::Heading,
            &format!("Before it was ready there ran {what} more:").replace("other process", "process"),
        ));
        lines.extend(start.others.iter().map(|other| row(start, other, glyphs)));
    }
    if start.client == Some(Evidence::Time) {
        let text = "The client is the one that was asking then: nothing else ties it to this container.";
        lines.push(Line::new().with(Role::Notice, text));
    }
    if start.incomplete {
        let text = "Events were lost meanwhile, or too much happened: something may be missing here.";
        lines.push(Line::new().with(Role::Bad, text));
    }
    lines.into_iter().map(|line| line.cut(width, glyphs)).collect()
}

/// Returns the name of a container, with its id, image and engine.
pub(super) fn heading(container: &Container) -> Line {
    let id = escape::text(label::container(&container.id)).into_owned();
    let mut facts: Vec<String> = Vec::new();
    if container.name.is_some() {
        facts.push(id.clone());
    }
    facts.extend(container.image.as_ref().map(|image| format!("image {}", escape::text(image))));
    facts.extend(container.engine.as_ref().map(|engine| escape::text(engine).into_owned()));
    let name = container.name.as_ref().map_or(id, |name| escape::text(name).into_owned());
    let mut line = Line::new().with(Role::Heading, &name);
    if !facts.is_empty() {
        line.push(Role::Plain, &format!(" ({})", facts.join(", ")));
    }
    line
}

/// Returns the name of the container and the time of its start.
fn title(start: &Start, glyphs: &Glyphs) -> Line {
    let mut line = heading(&start.container);
    match start.total_ns {
        Some(total_ns) => {
            let from = if start.client.is_some() { "its client's exec" } else { "its first step" };
            let total = units::duration(total_ns, glyphs);
            line.push(Role::Plain, ": ready (its entrypoint exec'd) ");
            line.push(Role::Good, &total);
            line.push(Role::Plain, &format!(" after {from}"));
        }
        None => line.push(Role::Bad, ": never became ready"),
    }
    line
}

fn row(start: &Start, ran: &Ran, glyphs: &Glyphs) -> Line {
    let time = |ns: Option<u64>| ns.map_or_else(|| glyphs.missing.into(), |ns| units::duration(ns, glyphs));
    let at = if ran.at_ns == 0 { "0".into() } else { units::duration(ran.at_ns, glyphs) };
    let took =
        if ran.role.is_some() { ran.took_ns.map_or_else(String::new, |ns| time(Some(ns))) } else { String::new() };
    let mut line = Line::new();
    let dim = if ran.role.is_some() { Role::Plain } else { Role::Dim };
    line.push(dim, &format!("{at:>TIME$} {took:>TIME$} {:>TIME$}  ", time(ran.lasted_ns)));
    bar(start, ran, glyphs, &mut line);
    let step = ran.role.map_or_else(|| relation(ran.tie), StepRole::name);
    let role = match ran.role {
        Some(StepRole::Entrypoint) => Role::Good,
        Some(_) => Role::Plain,
        None => Role::Dim,
    };
    line.push(role, &format!("  {step:<STEP$} {:>7}  ", ran.pid));
    line.push(Role::Plain, &command(&start.container, ran));
    match (&ran.signal, ran.code) {
        (Some(signal), _) => line.push(Role::Bad, &format!("  ({})", escape::text(signal))),
        (None, Some(code)) if code != 0 => line.push(Role::Bad, &format!("  (exit {code})")),
        _ => {}
    }
    line
}

/// Returns why a process that is not a step belongs to the start.
pub(super) const fn relation(tie: Evidence) -> &'static str {
    match tie {
        Evidence::Line => "below it",
        Evidence::Container => "inside",
        Evidence::Id | Evidence::Argv => "names it",
        Evidence::Time => "daemon's",
    }
}

/// Adds the bar of a step, from its begin to that of the next step. The bar of another process ends at its exit.
fn bar(start: &Start, ran: &Ran, glyphs: &Glyphs, line: &mut Line) {
    let whole = start.total_ns.unwrap_or_else(|| start.steps.iter().map(|step| step.at_ns).max().unwrap_or(0)).max(1);
    let column = |ns: u64| (u128::from(ns.min(whole)) * BAR as u128 / u128::from(whole)) as usize;
    let length = if ran.role.is_some() { ran.took_ns.unwrap_or(0) } else { ran.lasted_ns.unwrap_or(u64::MAX) };
    let from = column(ran.at_ns).min(BAR - 1);
    let to = column(ran.at_ns.saturating_add(length)).clamp(from + 1, BAR);
    let after = ran.at_ns > whole || ran.role == Some(StepRole::FirstChild);
    let drawn = if after { String::new() } else { glyphs.bar.repeat(to - from) };
    let role = if ran.role.is_some() { Role::Notice } else { Role::Dim };
    line.push(Role::Plain, &" ".repeat(if after { BAR } else { from }));
    line.push(role, &drawn);
    line.push(Role::Plain, &" ".repeat(if after { 0 } else { BAR - to }));
}

/// Returns a command line with the short id of the container, or in parentheses the name of a process without an exec.
pub(super) fn command(container: &Container, ran: &Ran) -> String {
    if !ran.execed {
        return format!("({})", ran.comm.as_deref().map_or_else(|| "?".into(), |comm| escape::text(comm).into_owned()));
    }
    let id = &*container.id;
    let text = match (&ran.argv, &ran.exe, &ran.comm) {
        (Some(argv), ..) if !argv.is_empty() => escape::command_line(argv),
        (_, Some(exe), _) => escape::argument(exe).into_owned(),
        (_, None, comm) => comm.as_deref().map_or_else(|| "?".into(), |comm| escape::text(comm).into_owned()),
    };
    let short = label::container(id);
    if short.len() < id.len() { text.replace(id, short) } else { text }
}
