//! Encodes events as aligned columns for people.

use std::fmt::Write as _;
use std::io;

use unicode_width::UnicodeWidthStr as _;

use super::Encoder;
use crate::event::time::Timestamp;
use crate::event::{
    Bye, Container, Detail, Dropped, Event, ExecFailed, Exit, Hello, HelloSource, Kind, Lost, LostReason, Process,
    Reap, Reparent, ReparentReason, Storm, StormPhase, Zombie,
};
use crate::view::escape;
use crate::view::label;
use crate::view::line::{Line, Role};
use crate::view::style::TextStyle;
use crate::view::units;

/// The first line.
const HEADING: &str = "TIME         EVENT       PID    PPID USER       DETAILS";

/// Encodes an event as a line. Nothing is truncated: an argument list is shown in full.
#[derive(Debug)]
pub struct TextLines {
    style: TextStyle,
    colour: bool,
    headed: bool,
}

impl TextLines {
    /// Creates an encoder with a style.
    pub const fn new(style: TextStyle, colour: bool) -> Self {
        Self { style, colour, headed: false }
    }

    fn push(&self, line: &Line, out: &mut Vec<u8>) {
        out.extend_from_slice(line.render(self.colour).as_bytes());
        out.push(b'\n');
    }
}

impl Encoder for TextLines {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.headed && !event.kind().is_framing() {
            self.headed = true;
            self.push(&Line::new().with(Role::Heading, HEADING), out);
        }
        self.push(&self.line(event), out);
        Ok(())
    }
}

impl TextLines {
    fn line(&self, event: &Event) -> Line {
        match &event.detail {
            Detail::Hello(hello) => Line::new().with(Role::Dim, &greeting(hello)),
            Detail::Bye(bye) => self.farewell(bye),
            Detail::Lost(lost) => self.row(event, None).with(Role::Bad, &loss(lost)),
            Detail::Dropped(dropped) => self.row(event, None).with(Role::Bad, &left_out(dropped)),
            Detail::Storm(storm) => self.storm(event, storm),
            Detail::ContainerCreate(container)
            | Detail::ContainerInfo(container)
            | Detail::ContainerStart(container)
            | Detail::ContainerExec(container)
            | Detail::ContainerExit(container)
            | Detail::ContainerRemove(container) => self.container(event, container),
            Detail::Process
            | Detail::Fork
            | Detail::Exec(_)
            | Detail::ExecFailed(_)
            | Detail::Exit(_)
            | Detail::Reparent(_)
            | Detail::Reap(_)
            | Detail::Zombie(_)
            | Detail::ThreadStart
            | Detail::ThreadExit(_) => {
                let process = event.process.as_ref();
                let mut line = self.row(event, process);
                if let Some(process) = process {
                    self.details(&mut line, event, process);
                }
                line
            }
        }
    }

    /// Returns the columns that all events have.
    fn row(&self, event: &Event, process: Option<&Process>) -> Line {
        let role = match &event.detail {
            Detail::Fork | Detail::ThreadStart => Role::Good,
            Detail::Exec(_) => Role::Notice,
            Detail::Exit(exit) if label::failed(exit) => Role::Bad,
            Detail::Lost(_) | Detail::Dropped(_) | Detail::Storm(_) | Detail::ExecFailed(_) | Detail::Zombie(_) => {
                Role::Bad
            }
            Detail::Process | Detail::Reparent(_) | Detail::Reap(_) => Role::Dim,
            _ => Role::Plain,
        };
        let mut line = Line::new();
        line.push(Role::Dim, &self.clock(event.time));
        line.push(role, &format!(" {:<8}", short(event.kind())));
        let pid = process.map(|process| process.tid.unwrap_or(process.pid));
        let user = process.and_then(|process| process.euid.or(process.uid)).map(|uid| self.style.users.name(uid));
        let user = user.as_deref().unwrap_or_default();
        line.push(Role::Plain, &format!(" {:>7}", number(pid)));
        line.push(Role::Plain, &format!(" {:>7} ", number(process.and_then(|process| process.ppid))));
        line.push(Role::Plain, user);
        line.push(Role::Plain, &" ".repeat(11usize.saturating_sub(user.width()).max(1)));
        line
    }

    fn details(&self, line: &mut Line, event: &Event, process: &Process) {
        match &event.detail {
            Detail::Exit(exit) | Detail::ThreadExit(exit) => self.ending(line, exit, process),
            Detail::ExecFailed(failed) => refusal(line, failed, process),
            Detail::Reap(reap) => {
                line.push(Role::Plain, &label::ran(process));
                line.push(Role::Dim, &format!("  ({})", self.reaping(reap)));
            }
            Detail::Zombie(zombie) => {
                line.push(Role::Plain, &label::ran(process));
                line.push(Role::Bad, &format!("  ({})", self.neglect(zombie)));
            }
            Detail::Reparent(reparent) => {
                line.push(Role::Plain, &label::name(process));
                line.push(Role::Dim, &format!(": {}", self.adoption(reparent)));
            }
            Detail::Exec(_) => {
                line.push(Role::Plain, &label::command(process));
                let notes = notes(event);
                if !notes.is_empty() {
                    line.push(Role::Dim, &format!("  ({})", notes.join(", ")));
                }
            }
            Detail::Fork | Detail::ThreadStart => line.push(Role::Plain, &label::name(process)),
            _ => line.push(Role::Plain, &label::command(process)),
        }
        if process.inferred || event.reap().is_some_and(|reap| reap.inferred) {
            line.push(Role::Dim, "  (inferred)");
        }
    }

    fn ending(&self, line: &mut Line, exit: &Exit, process: &Process) {
        let role = if label::failed(exit) { Role::Bad } else { Role::Plain };
        line.push(role, &format!("{:<8}", label::status(exit)));
        let duration = exit.duration_ns.map(|ns| units::duration(ns, self.style.glyphs)).unwrap_or_default();
        line.push(Role::Plain, &format!(" {duration:>6}"));
        if let Some(usage) = exit.own() {
            let cpu = units::duration(usage.user_ns + usage.system_ns, self.style.glyphs);
            line.push(Role::Dim, &format!("  cpu {cpu:>6}  mem {:>5}", units::bytes(usage.max_rss_bytes)));
        }
        line.push(Role::Plain, &format!("  {}", label::ran(process)));
        if let Some(cause) = label::cause(process, exit) {
            line.push(Role::Bad, &format!("  ({cause})"));
        }
    }

    fn storm(&self, event: &Event, storm: &Storm) -> Line {
        let process = event.process.as_ref();
        let mut line = self.row(event, process);
        let name = process.map(label::command).unwrap_or_default();
        line.push(Role::Bad, &format!("{}: {}/s  ", phase(storm.phase), units::count(storm.rate)));
        line.push(Role::Plain, &name);
        if storm.phase == StormPhase::Begin {
            return line;
        }
        let counts = [(storm.forks, "fork"), (storm.execs, "exec"), (storm.exits, "exit"), (storm.failed, "failure")];
        let counts = counts.map(|(n, what)| units::counted(n, what)).join(", ");
        let cpu = units::duration(storm.user_ns + storm.system_ns, self.style.glyphs);
        line.push(Role::Plain, &format!("  {counts}, cpu {cpu}"));
        let most: Vec<_> = storm.commands.iter().take(3).map(|c| self.times(c.execs, &c.exe)).collect();
        if !most.is_empty() {
            line.push(Role::Dim, &format!("  ({})", most.join(", ")));
        }
        line
    }

    fn times(&self, n: u64, what: &str) -> String {
        format!("{}{} {}", units::count(n), self.style.glyphs.times, escape::text(what))
    }

    fn container(&self, event: &Event, container: &Container) -> Line {
        let process = event.process.as_ref();
        let mut line = self.row(event, process);
        let also = [&container.name, &container.image].into_iter().flatten().map(|text| format!(" {text}"));
        let engine = container.engine.as_deref().map(|engine| format!(" ({engine})")).unwrap_or_default();
        let who = format!("{}{}{engine}", label::container(&container.id), also.collect::<String>());
        line.push(Role::Plain, &escape::text(&who));
        if let Some(process) = process.filter(|_| event.kind() != Kind::ContainerCreate) {
            line.push(Role::Plain, &format!(": {}", label::command(process)));
        }
        if let Some(end) = &container.end {
            let how = Exit { code: end.code, signal: end.signal.clone(), ..Exit::default() };
            let role = if label::failed(&how) { Role::Bad } else { Role::Plain };
            line.push(role, &format!(": {}", label::status(&how)));
            let lifetime = end.lifetime_ns.map(|ns| format!(" after {}", units::duration(ns, self.style.glyphs)));
            line.push(Role::Plain, &lifetime.unwrap_or_default());
            let cpu = units::duration(end.user_ns + end.system_ns, self.style.glyphs);
            let memory = units::bytes(end.peak_memory_bytes.unwrap_or(end.max_rss_bytes));
            let sums = format!("  {}, cpu {cpu}, mem {memory}", units::counted(end.processes, "process"));
            line.push(Role::Dim, &sums);
        }
        line
    }

    fn adoption(&self, reparent: &Reparent) -> String {
        let whose = match reparent.reason {
            ReparentReason::Thread => "another thread of its parent",
            ReparentReason::Subreaper => "a subreaper",
            ReparentReason::Init => "init",
        };
        format!("{} {} {}, {whose}", reparent.from_id.pid(), self.style.glyphs.arrow, reparent.to_pid)
    }

    fn reaping(&self, reap: &Reap) -> String {
        let time = reap.zombie_ns.map(|ns| format!("a zombie for {}, ", units::duration(ns, self.style.glyphs)));
        format!("{}reaped by {}", time.unwrap_or_default(), someone(reap.by_pid, reap.by_comm.as_deref()))
    }

    fn neglect(&self, zombie: &Zombie) -> String {
        let time = units::duration(zombie.zombie_ns, self.style.glyphs);
        let parent = someone(zombie.parent_pid, zombie.parent_comm.as_deref());
        format!("a zombie for {time}: {parent} has left {} unreaped", units::count(zombie.unreaped))
    }

    fn farewell(&self, bye: &Bye) -> Line {
        let mut line = Line::new();
        let Bye { seen, emitted, filtered, lost, duration_ns, .. } = *bye;
        let seen =
            format!("# {} in {}: ", units::counted(seen, "event"), units::duration(duration_ns, self.style.glyphs));
        let mut shown = format!("{} shown, {} filtered, ", units::count(emitted), units::count(filtered));
        if bye.folded > 0 {
            let _ = write!(shown, "{} folded, ", units::count(bye.folded));
        }
        if bye.dropped > 0 {
            let _ = write!(shown, "{} dropped, ", units::count(bye.dropped));
        }
        line.push(Role::Dim, &seen);
        line.push(Role::Dim, &shown);
        line.push(if lost > 0 { Role::Bad } else { Role::Dim }, &format!("{} lost", units::count(lost)));
        let cpu = units::duration(bye.user_ns + bye.system_ns, self.style.glyphs);
        line.with(Role::Dim, &format!("; tracer itself used {cpu} CPU, {}", units::bytes(bye.max_rss_bytes)))
    }

    fn clock(&self, time: Timestamp) -> String {
        let time = jiff::Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or_default();
        let zoned = time.to_zoned(self.style.zone.clone());
        let millis = zoned.subsec_nanosecond() / 1_000_000;
        format!("{:02}:{:02}:{:02}.{millis:03}", zoned.hour(), zoned.minute(), zoned.second())
    }
}

/// Returns the kind in at most eight columns.
fn short(kind: Kind) -> &'static str {
    match kind {
        Kind::ExecFailed => "execfail",
        Kind::ThreadStart => "thread+",
        Kind::ThreadExit => "thread-",
        Kind::ContainerCreate => "c-create",
        Kind::ContainerInfo => "c-info",
        Kind::ContainerStart => "c-start",
        Kind::ContainerExec => "c-exec",
        Kind::ContainerExit => "c-exit",
        Kind::ContainerRemove => "c-remove",
        kind => kind.name(),
    }
}

const fn phase(phase: StormPhase) -> &'static str {
    match phase {
        StormPhase::Begin => "begins",
        StormPhase::Ongoing => "goes on",
        StormPhase::End => "ends",
        StormPhase::Cut => "not over",
    }
}

fn someone(pid: Option<u32>, comm: Option<&str>) -> String {
    let name = comm.map_or_else(|| "?".into(), escape::text);
    pid.map_or_else(|| "someone unknown".into(), |pid| format!("{pid} ({name})"))
}

fn number(n: Option<u32>) -> String {
    n.map_or_else(|| "-".into(), |n| n.to_string())
}

/// Returns what is unusual about an exec.
fn notes(event: &Event) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(info) = event.argv_info().filter(|info| info.truncated) {
        let missing = u64::from(info.bytes.saturating_sub(info.captured));
        notes.push(format!("{} of arguments", units::counted(missing, "more byte")));
    }
    let Some(exec) = event.exec() else { return notes };
    if let Some(interpreter) = &exec.interpreter {
        notes.push(format!("by {}", escape::text(interpreter)));
    }
    if let Some(tid) = exec.from_tid {
        notes.push(format!("from thread {tid}"));
    }
    let flags = [
        (exec.setid, "set-id"),
        (exec.caps_gained, "capabilities gained"),
        (exec.memfd, "memfd"),
        (exec.deleted, "deleted"),
    ];
    notes.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()));
    notes
}

/// Adds what a failed exec attempted, the error and the process.
fn refusal(line: &mut Line, failed: &ExecFailed, process: &Process) {
    let (errno, meaning) = label::refusal(failed);
    line.push(Role::Bad, &format!("{errno:<8} "));
    line.push(Role::Plain, &label::attempt(failed));
    line.push(Role::Dim, &format!("  ({meaning}; by {})", label::name(process)));
    if let Some(attempts) = failed.attempts {
        let paths: Vec<_> = failed.paths.iter().flatten().map(|path| escape::argument(path)).collect();
        line.push(Role::Dim, &format!("  ({}: {})", units::counted(attempts, "attempt"), paths.join(", ")));
    }
}

fn greeting(hello: &Hello) -> String {
    let Hello { version, kernel, arch, host, hooks, fallbacks, .. } = hello;
    let mut out = format!("# tracer {version} on {host}, Linux {kernel} {arch}");
    if hello.source == Some(HelloSource::Recording) {
        out.push_str("; read from a recording");
    }
    if !hooks.is_empty() {
        let _ = write!(out, "; hooks: {}", hooks.join(", "));
    }
    for fallback in fallbacks {
        let _ = write!(out, "; {fallback}");
    }
    escape::text(&out).into_owned()
}

fn left_out(dropped: &Dropped) -> String {
    let Dropped { total, forks, execs, exits, .. } = *dropped;
    let kinds = [(forks, "fork"), (execs, "exec"), (exits, "exit")];
    let kinds: Vec<_> = kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| units::counted(n, what)).collect();
    let mut out = format!("{} left out for a reader that was behind", units::counted(total, "event"));
    if !kinds.is_empty() {
        let _ = write!(out, ": {}", kinds.join(", "));
    }
    out
}

fn loss(lost: &Lost) -> String {
    let kinds = [
        (lost.forks, "fork"),
        (lost.execs, "exec"),
        (lost.exits, "exit"),
        (lost.signals, "signal"),
        (lost.exec_failures, "failed exec"),
        (lost.cgroups, "cgroup"),
        (lost.reaps, "reaping"),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| units::counted(n, what)).collect();
    let records = units::counted(lost.total, "record");
    let mut out = match lost.reason {
        LostReason::Ring => format!("{records} of CPU {} lost for want of room", lost.cpu),
        LostReason::Skipped => format!("at most {records} lost, skipped by the kernel"),
        LostReason::Recording if lost.total == 0 => "the recording has no end: what came after is missing".into(),
        LostReason::Recording => "the recording ends in the middle of a line: what came after is missing".into(),
        LostReason::Spool => format!("{records} lost, removed before they were sent"),
    };
    if !kinds.is_empty() {
        let _ = write!(out, ": {}", kinds.join(", "));
    }
    if lost.reason == LostReason::Ring { out + "; a larger --ring-size would hold more" } else { out }
}

#[cfg(test)]
mod tests;
