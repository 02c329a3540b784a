//! What `tracer stream` and `tracer run` do on the live kernel.

use std::future::Future;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::held::Held;
use super::{Capture, ExitCode, run, stream};
use crate::event::Bye;
use crate::live::{Builder, Tracer};
use crate::pipeline::{self, Wanted};
use crate::sink::{self, Output, Sink};
use crate::view::summary::Summary;

/// Streams until it is told to end.
pub(super) fn stream(plan: stream::Plan) -> anyhow::Result<ExitCode> {
    plan.pids.iter().try_for_each(|&pid| must_exist(pid))?;
    let output = Output::open(plan.target)?;
    let colour = plan.globals.colours(&output);
    let mut sink = sink::open(plan.format, output, colour);
    runtime()?.block_on(async {
        let told = told_to_end()?;
        let limit = async {
            match plan.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let shutdown = async {
            tokio::select! {
                () = told => {}
                () = limit => {}
            }
        };
        let tracer = builder(&plan.capture).ancestors(plan.ancestors).start()?;
        let wanted = Wanted { snapshot: plan.snapshot, count: plan.count };
        pipeline::run(tracer, plan.filter, &mut *sink, &wanted, shutdown, |_| true).await?;
        Ok(ExitCode::Done)
    })
}

/// Runs the command and ends with its status.
pub(super) fn run(mut plan: run::Plan) -> anyhow::Result<ExitCode> {
    let Some((format, target)) = plan.output.take() else {
        let mut summary = Summary::default();
        let ended = runtime()?.block_on(run_traced(&plan, &mut summary))?;
        if ended.started {
            let colour = plan.globals.colours(&std::io::stderr());
            summary.print(ended.root, &ended.bye, colour).context("cannot show what was run on standard error")?;
        }
        return Ok(ended.code);
    };
    // Before CMD is started: if the output cannot be opened, nothing is to have happened.
    let output = Output::open(target)?;
    let colour = plan.globals.colours(&output);
    let mut sink = sink::open(format, output, colour);
    Ok(runtime()?.block_on(run_traced(&plan, &mut *sink))?.code)
}

/// How a traced run ended.
struct Ended {
    /// The command's pid.
    root: u32,
    /// False if it could not be executed.
    started: bool,
    code: ExitCode,
    bye: Bye,
}

async fn run_traced(plan: &run::Plan, sink: &mut dyn Sink) -> anyhow::Result<Ended> {
    let mut held = Held::start(&plan.command)?;
    let root = held.pid();
    let tracer = builder(&plan.capture).only(root).start()?;
    // Its ancestors are in the table too; nothing more will be heard of them.
    let others = tracer.table().len_living().saturating_sub(1);
    let failed = held.release()?;
    let wanted = Wanted { snapshot: true, count: None };
    let wait = plan.wait;
    let some_left = |tracer: &Tracer| !wait || tracer.table().len_living() > others;
    let traced = pipeline::run(tracer, plan.filter.clone(), sink, &wanted, held.ended(wait), some_left).await;
    // Whatever became of the trace, the command runs to its end.
    let code = held.code().await?;
    let bye = traced?;
    if let Some(errno) = failed {
        let command = plan.command[0].to_string_lossy();
        let reason = if errno == Errno::ENOENT { "command not found" } else { errno.desc() };
        eprintln!("tracer: cannot run {}: {reason}", crate::view::escape::argument(&command));
    }
    Ok(Ended { root, started: failed.is_none(), code, bye })
}

/// An error if there is no such process.
pub(super) fn must_exist(pid: u32) -> anyhow::Result<()> {
    if kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH) {
        anyhow::bail!("there is no process {pid}: `tracer tree -p` shows those there are");
    }
    Ok(())
}

/// A tracer that captures so much.
pub(super) fn builder(capture: &Capture) -> Builder {
    Tracer::builder()
        .ring_bytes(capture.ring_bytes)
        .argv_max(capture.argv_max)
        .threads(capture.threads)
        .btf(capture.btf.clone())
}

/// One thread: the kernel side does the parallel part, and order is what we sell.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Done when SIGINT or SIGTERM comes. They are caught from the moment of this call on.
pub(super) fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
