//! Runs `tracer stream` and `tracer run`.

use std::io::Write as _;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use nix::errno::Errno;
use tokio::runtime::Runtime;

use super::run::Containers;
use super::run::containers::{self, ContainerWatch};
use super::run::launch::{HeldCommand, Released};
use super::run::signals::Signals;
use super::stop::{self, Stop};
use super::{Capture, ExitCode, exit, from, run, stream};
use crate::clock;
use crate::event::time::Timestamp;
use crate::event::{Bye, Detail, Event, Filtering, Kind, Process};
use crate::filter::{Filter, Matcher, Terms};
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::preflight;
use crate::kernel::visibility::{self, Unseen, What};
use crate::pipeline::consumer::Consumer;
use crate::pipeline::{self, Wanted};
use crate::proc;
use crate::sink::{Output, Writer};
use crate::source::live::{Builder, Live};
use crate::view::glyphs::Glyphs;
use crate::view::line;
use crate::view::summary::Summary;

/// Streams events until the plan or a signal ends it.
pub(super) fn stream(plan: stream::StreamPlan) -> anyhow::Result<ExitCode> {
    let recording = plan.from.as_deref().map(|file| from::open(file, &plan.globals)).transpose()?;
    if recording.is_none() {
        plan.pids.iter().try_for_each(|&pid| must_exist(pid))?;
        must_be_followed(&plan.cgroups)?;
    }
    let output = Output::open(plan.target.clone())?;
    // Before the first thread, but after the output, because opening a FIFO may block forever.
    let (stop, mut again) = (Stop::catch(false)?, Stop::catch(false)?);
    let colour = plan.globals.colours(&output);
    let mut writer = Writer::open(plan.format.encoder(colour), output, backlog_bytes(&plan.capture))?;
    runtime()?.block_on(async {
        let limit = async {
            match plan.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let shutdown = async {
            tokio::select! {
                () = stop.requested() => {}
                () = limit => {}
            }
        };
        let wanted = Wanted {
            snapshot: plan.snapshot,
            count: plan.count,
            storm: plan.storm,
            on_slow: plan.on_slow,
            // A recording is read to its end: the process may start late in it.
            until_over: recording.is_none() && !plan.keep_going,
        };
        if let Some(recording) = recording {
            // All filters of a recording work in user space, so `hello` gives no reason.
            let filtering = plan.filtering.map(|filtering| Filtering { why: None, ..filtering });
            let source = recording.filtering(filtering);
            pipeline::run(source, plan.filter, &mut writer, &wanted, shutdown, |_| true).await?;
        } else {
            let tracer =
                builder(&plan.capture).ancestors(plan.ancestors).push_down(plan.pushdown, plan.filtering).start()?;
            pipeline::run(tracer, plan.filter, &mut writer, &wanted, shutdown, |_| true).await?;
        }
        writer.drain(async || again.next().await, stop::note_progress).await?;
        Ok(ExitCode::Done)
    })
}

/// Runs the command and ends with its status.
pub(super) fn run(mut plan: run::RunPlan) -> anyhow::Result<ExitCode> {
    preflight::check()?;
    // Before CMD starts: if the output cannot be opened, CMD must not run.
    let opened = match plan.output.take() {
        Some((format, target)) => Some((format, Output::open(target)?)),
        None => None,
    };
    // Before the first thread, but after the output, because opening a FIFO may block forever.
    let signals = Signals::catch()?;
    let writer = match opened {
        Some((format, output)) => {
            let colour = plan.globals.colours(&output);
            Some(Writer::open(format.encoder(colour), output, backlog_bytes(&plan.capture))?)
        }
        None => None,
    };
    runtime()?.block_on(async {
        let mut held = HeldCommand::start(&plan.command, signals)?;
        let tracer = if plan.containers == Containers::Anywhere {
            let wanted = Terms { trees: vec![held.pid()], ..plan.filter.wanted.clone() };
            plan.matcher = Matcher::new(&Filter { wanted, engines: true, ..plan.filter.clone() })?;
            builder(&plan.capture).start()?
        } else {
            builder(&plan.capture).only(held.pid()).start()?
        };
        let colour = plan.globals.colours(&std::io::stderr());
        if let Some(mut writer) = writer {
            let mut caused = ContainerWatch::new(held.pid(), plan.containers, false, &mut writer);
            let ended = follow(&plan, tracer, &mut held, &mut caused).await?;
            // If standard error cannot be written, the exit status is still that of the command.
            let _ = containers::print(&caused.take(), colour);
            if ended.bye.is_some() {
                let drained = writer.drain(async || held.stop_requested().await, stop::note_progress).await;
                exit::unless_closed_pipe(drained.map_err(anyhow::Error::from))?;
            }
            return Ok(ended.code);
        }
        // Time and CPU time are counted from the same moment: the release of the command.
        let summary = Summary::since(Timestamp(clock::boot_ns().cast_signed()));
        let mut report = Report { root: held.pid(), before_ns: held.cpu_ns(), summary };
        let mut caused = ContainerWatch::new(held.pid(), plan.containers, true, &mut report);
        let ended = follow(&plan, tracer, &mut held, &mut caused).await?;
        let starts = caused.take();
        if let Some(bye) = ended.bye.filter(|_| ended.started) {
            // If standard error cannot be written, the exit status is still that of the command.
            let _ = report.print(&bye, colour);
            let _ = containers::print(&starts, colour);
        }
        Ok(ended.code)
    })
}

/// How a traced run ended.
struct Ended {
    /// False if the command could not be executed.
    started: bool,
    code: ExitCode,
    /// `None` if the reader closed the output.
    bye: Option<Bye>,
}

/// Traces the held command from its release to its exit.
async fn follow(
    plan: &run::RunPlan,
    tracer: Live,
    held: &mut HeldCommand,
    caused: &mut ContainerWatch<'_>,
) -> anyhow::Result<Ended> {
    // The ancestors of the command are in the table too. They get no events.
    let others = tracer.table().len_living().saturating_sub(1);
    let members = (plan.containers == Containers::Anywhere).then(|| caused.running());
    let failed = match held.release().await? {
        Released::Started => None,
        Released::NotStarted(errno) => Some(errno),
        Released::Killed => return Ok(Ended { started: false, code: held.code().await?, bye: Some(Bye::default()) }),
    };
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    let wait = plan.wait;
    let some_left = |tracer: &Live| {
        !wait
            || match &members {
                // The whole machine is traced, but only the command's descendants count.
                Some(members) => members.load(Ordering::Relaxed) > 0,
                None => tracer.table().len_living() > others,
            }
    };
    let traced = pipeline::run(tracer, plan.matcher.clone(), caused, &wanted, held.ended(wait), some_left).await;
    // The command runs to its end, even if the trace failed.
    let code = held.code().await?;
    let bye = exit::unless_closed_pipe(traced.map_err(anyhow::Error::from))?;
    if let Some(errno) = failed {
        let command = plan.command[0].to_string_lossy();
        let reason = if errno == Errno::ENOENT { "command not found" } else { errno.desc() };
        let command = crate::view::escape::argument(&command);
        // Not `eprintln!`, which panics when standard error cannot be written.
        let _ = writeln!(std::io::stderr(), "tracer: cannot run {command}: {reason}");
    }
    Ok(Ended { started: failed.is_none(), code, bye })
}

/// The summary. It subtracts the CPU time that the held process used before it became the command.
struct Report {
    summary: Summary,
    root: u32,
    /// CPU time of the process while it was held, in nanoseconds.
    before_ns: u64,
}

impl Report {
    /// Writes the summary to standard error, truncated to the width of the terminal.
    fn print(&self, bye: &Bye, colour: bool) -> std::io::Result<()> {
        let width = terminal_size::terminal_size_of(std::io::stderr()).map(|(width, _)| usize::from(width.0));
        let now = Timestamp(clock::boot_ns().cast_signed());
        let lines = self.summary.lines(self.root, bye, now, width, Glyphs::of_locale());
        line::print(&lines, &mut std::io::stderr().lock(), colour)
    }
}

impl Consumer for Report {
    fn take(&mut self, event: &Event) -> std::io::Result<()> {
        let searches_command = |process: &Process| process.pid == self.root && process.execs == 0;
        if event.kind() == Kind::ExecFailed && event.process.as_ref().is_some_and(searches_command) {
            // tracer itself searched PATH for the command.
            return Ok(());
        }
        let of_root = event.process.as_ref().is_some_and(|process| process.pid == self.root);
        let (Detail::Exit(exit), true) = (&event.detail, of_root) else {
            self.summary.apply(event);
            return Ok(());
        };
        let mut exit = exit.clone();
        // Only once, because another process may get the pid later.
        let before_ns = std::mem::take(&mut self.before_ns);
        for usage in [&mut exit.usage, &mut exit.own_usage].into_iter().flatten() {
            let user_ns = usage.user_ns.min(before_ns);
            usage.user_ns -= user_ns;
            usage.system_ns = usage.system_ns.saturating_sub(before_ns - user_ns);
        }
        self.summary.apply(&Event { detail: Detail::Exit(exit), ..event.clone() });
        Ok(())
    }
}

/// Returns an error if there is no such process, or if the number is that of a thread.
pub(super) fn must_exist(pid: u32) -> anyhow::Result<()> {
    proc::must_exist(pid).map_err(anyhow::Error::msg)
}

/// Returns an error if a control group exists only in a hierarchy that tracer does not follow.
pub(super) fn must_be_followed(cgroups: &[String]) -> anyhow::Result<()> {
    if cgroups.is_empty() {
        return Ok(());
    }
    let hierarchy = Hierarchy::of_proc();
    match cgroups.iter().find_map(|path| hierarchy.lacks(path)) {
        Some(wrong) => anyhow::bail!("{wrong}"),
        None => Ok(()),
    }
}

/// Reports on standard error what a view cannot show, before it is drawn.
pub(super) fn report_unseen(what: &[What]) {
    for Unseen { what, why, remedy } in visibility::unseen().iter().filter(|unseen| what.contains(&unseen.what)) {
        // Not `eprintln!`, which panics when standard error cannot be written.
        let _ = writeln!(std::io::stderr(), "tracer: {} are not shown: {why}; {remedy}", what.words());
    }
}

/// Returns how many bytes may wait for a slow reader.
fn backlog_bytes(capture: &Capture) -> u64 {
    capture.max_memory as u64 / 16
}

/// Returns a builder with the options of a capture.
pub(super) fn builder(capture: &Capture) -> Builder {
    Live::builder()
        .ring_bytes(capture.ring_bytes)
        .max_memory(capture.max_memory)
        .argv_max(capture.argv_max)
        .threads(capture.threads)
        .exec_failures(capture.exec_failures)
        .zombie_after(capture.zombie_after)
        .btf(capture.btf.clone())
}

/// Creates a runtime with one thread. More threads would lose the order of events.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the event loop")
}
