//! Draws the difference of two container starts: commands that are new, gone, changed, slower or faster. Equal commands are left
//! out.

use super::glyphs::Glyphs;
use super::line::{Line, Role};
use super::start::{command, heading, relation};
use super::{escape, label, units};
use crate::analysis::audit::diff::{Change, Command, Diff, Fact, Pace, Runs, Side, Time, Words};
use crate::record::text::Arguments;

/// Columns of the kind of change.
const CHANGE: usize = 7;

/// Columns of a time, and of the difference of two times.
const TIME: usize = 7;
const MORE: usize = 8;

/// Columns of the ratio of two times.
const RATIO: usize = 6;

/// Columns of the role of a step.
const STEP: usize = 11;

/// Returns the lines of a difference. `names` are the names of both starts, e.g. of their files.
pub fn lines(diff: &Diff, names: [&str; 2], width: Option<usize>, glyphs: &Glyphs) -> Vec<Line> {
    let mut lines = vec![title("A", names[0], &diff.a, glyphs), title("B", names[1], &diff.b, glyphs)];
    if let Some(total) = &diff.total
        && let Some(last) = lines.last_mut()
    {
        last.push(Role::Plain, ", ");
        last.push(of_pace(total.pace), &in_words(total, glyphs));
    }
    lines.extend(diff.container.iter().map(|fact| of_container(fact, glyphs)));
    let shown = |command: &&Command| !command.changes.is_empty() || command.pace().is_some();
    let rows: Vec<&Command> = diff.commands.iter().filter(shown).collect();
    if !rows.is_empty() {
        lines.push(Line::new().with(
            Role::Heading,
            &format!(
                "{:CHANGE$} {:>TIME$} {:>TIME$} {:>MORE$} {:>RATIO$}  {:STEP$}  COMMAND",
                "WHAT", "A", "B", "MORE", "RATIO", "STEP"
            ),
        ));
    }
    for command in rows {
        row(diff, command, glyphs, &mut lines);
    }
    lines.push(summary(diff));
    for (name, side) in [("A", &diff.a), ("B", &diff.b)] {
        if side.incomplete {
            let text =
                format!("Events were lost in {name}, or too much happened: what seems to differ may be missing there.");
            lines.push(Line::new().with(Role::Bad, &text));
        }
    }
    lines.into_iter().map(|line| line.cut(width, glyphs)).collect()
}

fn title(which: &str, name: &str, side: &Side, glyphs: &Glyphs) -> Line {
    let mut line = Line::new().with(Role::Heading, which).with(Role::Plain, &format!("  {}: ", escape::text(name)));
    line.append(&heading(&side.container));
    match side.total_ns {
        Some(total_ns) => line.push(Role::Plain, &format!(", ready after {}", units::duration(total_ns, glyphs))),
        None => line.push(Role::Bad, ", never became ready"),
    }
    line
}

/// Returns the difference of two times, e.g. `90.2ms more (1.19×)`.
fn in_words(time: &Time, glyphs: &Glyphs) -> String {
    let by = units::duration(time.more_ns.unsigned_abs(), glyphs);
    let way = match time.more_ns {
        0 => return "the same".into(),
        1.. => "more",
        _ => "less",
    };
    let ratio = ratio(time, glyphs);
    if ratio.is_empty() { format!("{by} {way}") } else { format!("{by} {way} ({ratio})") }
}

fn ratio(time: &Time, glyphs: &Glyphs) -> String {
    time.ratio.map_or_else(String::new, |ratio| match ratio {
        ..9.995 => format!("{ratio:.2}{}", glyphs.times),
        ..9999.5 => format!("{ratio:.0}{}", glyphs.times),
        _ => format!(">9999{}", glyphs.times),
    })
}

const fn of_pace(pace: Option<Pace>) -> Role {
    match pace {
        Some(Pace::Slower) => Role::Bad,
        Some(Pace::Faster) => Role::Good,
        None => Role::Plain,
    }
}

fn of_container(fact: &Fact, glyphs: &Glyphs) -> Line {
    let text = |text: &Option<std::sync::Arc<str>>| {
        text.as_ref().map_or_else(|| "?".into(), |text| escape::argument(text).into_owned())
    };
    let change = format!("{}: {} {} {}", fact.what.name(), text(&fact.a), glyphs.arrow, text(&fact.b));
    Line::new().with(Role::Notice, &format!("{:CHANGE$} ", "changed")).with(Role::Plain, &change)
}

fn row(diff: &Diff, command: &Command, glyphs: &Glyphs, lines: &mut Vec<Line>) {
    let Some(runs) = command.runs() else { return };
    let (what, role) = match (&command.changes[..], command.pace()) {
        ([Change::New], _) => ("new", Role::Good),
        ([Change::Gone], _) => ("gone", Role::Bad),
        ([], Some(Pace::Slower)) => ("slower", Role::Bad),
        ([], _) => ("faster", Role::Good),
        _ => ("changed", Role::Notice),
    };
    let time = |runs: &Option<Runs>| {
        runs.as_ref().map_or_else(String::new, |runs| {
            runs.time_ns.map_or_else(|| glyphs.missing.into(), |ns| units::duration(ns, glyphs))
        })
    };
    let (more, times) =
        command.time.map_or_else(Default::default, |time| (signed(&time, glyphs), ratio(&time, glyphs)));
    let step = command.role.map_or_else(|| relation(runs.ran.tie), crate::analysis::audit::role::Role::name);
    let container = if command.b.is_some() { &diff.b.container } else { &diff.a.container };
    let mut line = Line::new().with(role, &format!("{what:CHANGE$}"));
    line.push(Role::Plain, &format!(" {:>TIME$} {:>TIME$} ", time(&command.a), time(&command.b)));
    line.push(of_pace(command.pace()), &format!("{more:>MORE$} {times:>RATIO$}"));
    line.push(if command.role.is_some() { Role::Plain } else { Role::Dim }, &format!("  {step:<STEP$}  "));
    let counts = [&command.a, &command.b].map(|runs| runs.as_ref().map_or(0, |runs| runs.count));
    if counts[0].max(counts[1]) > 1 {
        line.push(Role::Plain, &format!("{}{} ", units::count(runs.count), glyphs.times));
    }
    line.push(Role::Plain, &self::command(container, &runs.ran));
    lines.push(line);
    if let (Some(a), Some(b)) = (&command.a, &command.b) {
        for (name, change) in details(diff, command, (a, b), glyphs) {
            let place = CHANGE + 2 * TIME + MORE + RATIO + STEP + 8;
            lines.push(Line::new().with(Role::Dim, &format!("{:place$}{name}: ", "")).with(Role::Notice, &change));
        }
    }
}

fn signed(time: &Time, glyphs: &Glyphs) -> String {
    let sign = match time.more_ns {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", units::duration(time.more_ns.unsigned_abs(), glyphs))
}

/// Returns what changed in a command that ran in both starts.
fn details(diff: &Diff, command: &Command, (a, b): (&Runs, &Runs), glyphs: &Glyphs) -> Vec<(&'static str, String)> {
    let arrow = glyphs.arrow;
    let unknown = || "?".to_owned();
    let mut out = Vec::new();
    for change in &command.changes {
        match change {
            Change::Argv => out.extend(command.words.iter().map(|words| ("argv", of_words(diff, words, arrow)))),
            Change::User => {
                let uid = |runs: &Runs| runs.ran.uid.map_or_else(unknown, |uid| uid.to_string());
                out.push(("uid", format!("{} {arrow} {}", uid(a), uid(b))));
            }
            Change::Exe => {
                let exe =
                    |runs: &Runs| runs.ran.exe.as_ref().map_or_else(unknown, |exe| escape::argument(exe).into_owned());
                out.push(("exe", format!("{} {arrow} {}", exe(a), exe(b))));
            }
            Change::Count => {
                out.push(("times", format!("{} {arrow} {}", units::count(a.count), units::count(b.count))));
            }
            Change::Status => {
                let status = |runs: &Runs| match (&runs.ran.signal, runs.ran.code) {
                    (Some(signal), _) => escape::text(signal).into_owned(),
                    (None, code) => code.map_or_else(unknown, |code| code.to_string()),
                };
                out.push(("status", format!("{} {arrow} {}", status(a), status(b))));
            }
            Change::Place => {
                let path = |runs: &Runs| escape::text(&runs.path.join(" > ")).into_owned();
                out.push(("place", format!("{} {arrow} {}", path(a), path(b))));
            }
            Change::New | Change::Gone => {}
        }
    }
    out
}

/// Returns changed arguments, e.g. `+ --user 1000`, `- -x`, `a.sh → b.sh`.
fn of_words(diff: &Diff, words: &Words, arrow: &str) -> String {
    let text = |words: &Arguments, side: &Side| {
        let (id, text) = (&*side.container.id, escape::command_line(words));
        text.replace(id, label::container(id))
    };
    let (a, b) = (text(&words.a, &diff.a), text(&words.b, &diff.b));
    match (words.a.is_empty(), words.b.is_empty()) {
        (true, _) => format!("+ {b}"),
        (_, true) => format!("- {a}"),
        _ => format!("{a} {arrow} {b}"),
    }
}

/// Returns the line that counts equal commands.
fn summary(diff: &Diff) -> Line {
    let all = diff.commands.len() as u64;
    if diff.same {
        let commands = units::counted(all, "command");
        return Line::new()
            .with(Role::Good, "No difference but times")
            .with(Role::Plain, &format!(": {commands}, the same in both."));
    }
    let same = diff.commands.iter().filter(|command| command.changes.is_empty()).count() as u64;
    Line::new().with(
        Role::Dim,
        &format!("{} of {} are the same but for their times.", units::count(same), units::counted(all, "command")),
    )
}
