//! One measurement: a workload beside a peer, or alone.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::peer::{Peer, Way};
use crate::results::Sample;
use crate::usage;
use crate::workload::{Counts, Figures, Kind, program};

/// How long a peer may take to exit after its signal. A workload that has not exited by then is killed too.
const PATIENCE: Duration = Duration::from_secs(20);

/// The directory of a round's files, and the name of its workload.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    rounds: u32,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::Builder::new().prefix("tracer-bench-").tempdir()?, rounds: 0 })
    }

    /// Makes a program with a name that no other round has, to distinguish its events from all others.
    fn program(&mut self) -> Result<PathBuf> {
        self.rounds += 1;
        let path = self.dir.path().join(format!("tb{}r{}", std::process::id(), self.rounds));
        program::write(&path)?;
        Ok(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A requested workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) workers: u64,
    pub(crate) count: u64,
}

/// A peer that runs beside the workload. It is ended when it is dropped, even after an error.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(peer: &Peer, at: &Path, out: &Path) -> Result<Self> {
        let (program, args) = peer.argv(at, out);
        let stdout =
            if args.iter().any(|arg| Path::new(arg) == out) { Stdio::null() } else { File::create(out)?.into() };
        let child = Command::new(program).args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null()).spawn();
        let mut running = Self(child.with_context(|| format!("cannot start {}", peer.name))?);
        sleep(Duration::from_millis(peer.warm_up_ms));
        if let Some(status) = running.0.try_wait()? {
            bail!("{} does not run here: {status}", peer.name);
        }
        // On a busy machine it takes longer, so wait until it is idle.
        usage::settled_cpu_ns(running.pid())?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Ends it and waits for its exit.
    pub(crate) fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()), Signal::SIGINT)?;
        ended(&mut self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ended(child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("it did not end in {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns the workload's command line.
fn workload(load: Load, program: &Path, watch: Option<i32>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["workload", load.kind.name(), &load.count.to_string(), &load.workers.to_string()]).arg(program);
    if let Some(pid) = watch {
        command.arg("--watch").arg(pid.to_string());
    }
    Ok(command)
}

fn figures(command: &mut Command, out: &Path) -> Result<Figures> {
    // A separate process group, so that all of it can be ended at once.
    let mut child = command.stdin(Stdio::null()).stdout(File::create(out)?).process_group(0).spawn()?;
    if let Err(why) = ended(&mut child) {
        let _ = kill(Pid::from_raw(-(child.id() as i32)), Signal::SIGKILL);
        return Err(why.context("the workload"));
    }
    serde_json::from_slice(&fs::read(out)?).context("the workload printed nothing")
}

/// Measures processes (or threads) per second of the workload alone.
pub(crate) fn alone(place: &mut Place, load: Load) -> Result<f64> {
    let program = place.program()?;
    let figures = figures(&mut workload(load, &program, None)?, &place.path("figures"))?;
    fs::remove_file(program)?;
    Ok(rate(&figures))
}

fn rate(figures: &Figures) -> f64 {
    figures.counts.created() as f64 * 1e9 / figures.wall_ns as f64
}

/// Measures the workload with a peer; `at` is the peer's program.
pub(crate) fn traced(place: &mut Place, load: Load, peer: &Peer, at: &Path) -> Result<Sample> {
    let program = place.program()?;
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (out, file) = (place.path("out"), place.path("figures"));
    drop(fs::remove_file(&out));
    let figures = match peer.way {
        Way::Beside => {
            let running = Running::start(peer, at, &out)?;
            let figures = figures(&mut workload(load, &program, Some(running.pid()))?, &file)?;
            running.end().with_context(|| peer.name)?;
            figures
        }
        Way::Around => {
            let (wrapper, args) = peer.argv(at, &out);
            let inner = workload(load, &program, Some(0))?;
            let mut command = Command::new(wrapper);
            command.args(args).arg(inner.get_program()).args(inner.get_args()).stderr(Stdio::null());
            figures(&mut command, &file)?
        }
    };
    let seen = match peer.sees {
        Some((sees, reader)) => Some((seen(&out, &name, reader)?, sees.of(&figures.counts))),
        None => None,
    };
    fs::remove_file(program)?;
    drop(fs::remove_file(&out));
    Ok(Sample {
        workload: load.kind,
        workers: load.workers,
        peer: peer.name.into(),
        rate: rate(&figures),
        ratio: 0.0,
        created: figures.counts.created(),
        cpu_ns: figures.watched_cpu_ns.unwrap_or(0),
        peak_bytes: figures.watched_peak_bytes.unwrap_or(0),
        seen: seen.map(|(counts, _)| counts.forks + counts.execs + counts.exits),
        due: seen.map(|(_, due)| due),
    })
}

fn seen(out: &Path, name: &str, reader: crate::peer::Reader) -> Result<Counts> {
    let mut counts = Counts::default();
    for line in BufReader::new(File::open(out)?).split(b'\n') {
        counts = counts + reader(&String::from_utf8_lossy(&line?), name);
    }
    Ok(counts)
}
