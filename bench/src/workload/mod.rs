//! Storms of processes that count their own events: `tracer-bench workload`.
//!
//! A workload runs in a separate process under a separate name. It prints how long it took, how many events it made,
//! and what the process that traces it used meanwhile.

mod deeds;
pub(crate) mod program;

use std::ops::Add;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};

use crate::usage;

/// The repeated work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// posix_spawn of a program that exits at once
    Exec,
    /// fork, and the child exits at once
    Fork,
    /// The same with vfork
    Vfork,
    /// Threads that exit at once
    Threads,
    /// Each process starts the next, 64 deep
    Chain,
    /// 256 children at once
    Fan,
    /// Shells that start programs with long command lines and compute between them
    Build,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 7] =
        [Self::Exec, Self::Fork, Self::Vfork, Self::Threads, Self::Chain, Self::Fan, Self::Build];

    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Vfork => "vfork",
            Self::Threads => "threads",
            Self::Chain => "chain",
            Self::Fan => "fan",
            Self::Build => "build",
        }
    }

    /// Returns the number of processes (or threads) that take about a second.
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Exec => 3000,
            Self::Fork | Self::Chain | Self::Fan => 5120,
            Self::Vfork => 15_000,
            Self::Threads => 20_000,
            Self::Build => 1600,
        }
    }
}

/// Number of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) forks: u64,
    pub(crate) execs: u64,
    pub(crate) exits: u64,
    pub(crate) threads: u64,
}

impl Counts {
    /// Returns the number of processes and threads created. Costs are divided by it.
    pub(crate) fn created(&self) -> u64 {
        self.forks + self.threads
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forks: self.forks + other.forks,
            execs: self.execs + other.execs,
            exits: self.exits + other.exits,
            threads: self.threads + other.threads,
        }
    }
}

/// Run a workload and print its figures
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The kind of workload
    kind: Kind,
    /// How many processes
    count: u64,
    /// Number of processes that work at the same time
    workers: u64,
    /// The program to execute; its name is also the workload's name
    program: PathBuf,
    /// Print the usage of process PID during the workload; 0 for the parent
    #[arg(long)]
    watch: Option<i32>,
}

/// The figures of a workload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Number of events, including the workload's own exit.
    pub(crate) counts: Counts,
    pub(crate) wall_ns: u64,
    /// CPU time of the watched process from the start until it had caught up.
    pub(crate) watched_cpu_ns: Option<u64>,
    /// Peak memory of the watched process.
    pub(crate) watched_peak_bytes: Option<u64>,
    /// CPU time of the workload itself.
    pub(crate) own_cpu_ns: u64,
}

/// Runs the workload.
pub(crate) fn run(order: &Order) -> Result<()> {
    let name = order.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::write("/proc/self/comm", &name)?;
    let path = order.program.display().to_string();
    let watched = order.watch.map(|pid| if pid == 0 { getppid().as_raw() } else { pid });
    let cpu_before = watched.map(usage::cpu_ns).transpose()?;

    let share = order.count / order.workers;
    let began = Instant::now();
    let counts = if order.workers == 1 { deeds::work(order.kind, share, &path)? } else { apart(order, share, &path)? };
    let wall_ns = began.elapsed().as_nanos() as u64;

    let watched_cpu_ns = match (watched, cpu_before) {
        (Some(pid), Some(before)) => Some(usage::settled_cpu_ns(pid)? - before),
        _ => None,
    };
    let mut own_cpu_ns = 0;
    for whose in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(whose)?;
        own_cpu_ns += (usage.user_time() + usage.system_time()).num_nanoseconds() as u64;
    }
    let figures = Figures {
        counts: counts + Counts { exits: 1, ..Counts::default() },
        wall_ns,
        watched_cpu_ns,
        watched_peak_bytes: watched.map(usage::peak_bytes).transpose()?,
        own_cpu_ns,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Each worker does its share in a separate process.
fn apart(order: &Order, share: u64, path: &str) -> Result<Counts> {
    let mut workers = Vec::new();
    for _ in 0..order.workers {
        let (read, write) = std::io::pipe()?;
        let pid = deeds::fork_off(|| {
            let counts = deeds::work(order.kind, share, path)?;
            Ok(serde_json::to_writer(&write, &counts)?)
        })?;
        workers.push((pid, read));
    }
    let own = Counts { forks: order.workers, exits: order.workers, ..Counts::default() };
    workers.into_iter().try_fold(own, |sum, (pid, read)| {
        nix::sys::wait::waitpid(pid, None)?;
        let counts: Counts = serde_json::from_reader(read)?;
        Ok(sum + counts)
    })
}
