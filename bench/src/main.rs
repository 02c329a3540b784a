//! `cargo xtask bench` builds this and runs it as root: storms, alone and beside tracer and its peers, round by
//! round.

mod cost;
mod figures;
mod page;
mod peer;
mod plot;
mod results;
mod round;
mod stages;
mod usage;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::peer::{PEERS, Peer, Way};
use crate::results::Results;
use crate::round::{Load, Place};
use crate::workload::Kind;

/// Measure tracer and its peers beside storms of processes
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Measure(Box<Measure>),
    Workload(workload::Order),
    Stages(stages::Order),
}

#[derive(clap::Args)]
struct Measure {
    /// The tracer to measure
    #[arg(long)]
    tracer: PathBuf,
    /// The file of the results
    #[arg(long)]
    results: PathBuf,
    /// The page that the results are written into
    #[arg(long)]
    page: PathBuf,
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Run shorter workloads
    #[arg(long)]
    quick: bool,
    /// Run no other program than tracer
    #[arg(long)]
    no_peers: bool,
    /// Run only these workloads
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Kind>,
    /// Run only peers whose names start with these
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// Run only with N workers [default: 1, and the number of CPUs]
    #[arg(long, value_delimiter = ',')]
    workers: Vec<u64>,
    /// Add to the earlier measurements
    #[arg(long)]
    add: bool,
    /// Run only the storms
    #[arg(long)]
    storms_only: bool,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Measure(measure) => run(&measure),
        Command::Workload(order) => workload::run(&order),
        Command::Stages(order) => stages::write(&order),
    }
}

fn run(args: &Measure) -> Result<()> {
    own_tracefs();
    let mut results = match fs::read(&args.results) {
        Ok(bytes) if args.add => serde_json::from_slice(&bytes).context("the earlier results are not understood")?,
        _ => Results::default(),
    };
    page::describe_machine(&mut results)?;
    let peers = peers(args, &mut results);
    let cpus = std::thread::available_parallelism()?.get() as u64;
    let workers = if args.workers.is_empty() { vec![1, cpus] } else { args.workers.clone() };
    let kinds = if args.workload.is_empty() { Kind::ALL.to_vec() } else { args.workload.clone() };
    let mut place = Place::new()?;
    for round in 0..args.rounds {
        for &kind in &kinds {
            for &workers in &workers {
                let count = kind.count() * workers / if args.quick { 4 } else { 1 };
                storm(&mut place, &peers, Load { kind, workers, count }, round, &mut results)?;
                save(args, &results)?;
            }
        }
    }
    if !args.storms_only {
        costs(&mut place, &peers, args, cpus, &mut results)?;
    }
    save(args, &results)?;
    page::write(&args.page, &results)?;
    plot::write(&args.page.with_extension("svg"), &results)
}

/// Runs each peer once, each between two runs without a peer. Every round starts with another peer.
fn storm(place: &mut Place, peers: &[(Peer, PathBuf)], load: Load, round: u32, results: &mut Results) -> Result<()> {
    let mut before = round::alone(place, load)?;
    for at in 0..peers.len() {
        let (peer, program) = &peers[(at + round as usize) % peers.len()];
        let traced = round::traced(place, load, peer, program);
        let after = round::alone(place, load)?;
        match traced {
            Ok(mut sample) => {
                sample.ratio = figures::ratio(sample.rate, before, after);
                eprintln!(
                    "{:>7} x{} {:25} {:6.0}/s  ratio {:.3}  {:5.1} us each  {}/{}",
                    load.kind.name(),
                    load.workers,
                    peer.name,
                    sample.rate,
                    sample.ratio,
                    sample.cpu_ns as f64 / 1000.0 / sample.created as f64,
                    sample.seen.map_or("-".into(), |count| count.to_string()),
                    sample.due.map_or("-".into(), |count| count.to_string()),
                );
                results.samples.push(sample);
            }
            Err(why) => skip(results, peer.name, &format!("{why:#}")),
        }
        before = after;
    }
    Ok(())
}

fn costs(place: &mut Place, peers: &[(Peer, PathBuf)], args: &Measure, cpus: u64, results: &mut Results) -> Result<()> {
    let scale = if args.quick { 4 } else { 1 };
    let storm = |workers| Load { kind: Kind::Exec, workers, count: 3000 * workers / scale };
    for (peer, program) in peers.iter().filter(|(peer, _)| peer.way == Way::Beside) {
        for _ in 0..args.rounds {
            match cost::syscall(place, peer, program) {
                Ok(syscall) => results.syscalls.push(syscall),
                Err(why) => skip(results, peer.name, &format!("{why:#}")),
            }
        }
        match cost::programs(place, peer, program, storm(1)) {
            Ok(programs) => {
                results.programs.retain(|known| known.peer != peer.name);
                results.programs.extend(programs);
            }
            Err(why) => skip(results, peer.name, &format!("{why:#}")),
        }
    }
    for load in [None, Some(storm(1)), Some(storm(cpus))] {
        let latency = cost::latency(place, &args.tracer, load)?;
        results.latencies.retain(|known| known.load != latency.load);
        results.latencies.push(latency);
    }
    results.idle = Some(cost::idle(&args.tracer, if args.quick { 5 } else { 20 })?);
    Ok(())
}

fn save(args: &Measure, results: &Results) -> Result<()> {
    fs::write(&args.results, serde_json::to_vec_pretty(results)?).context("the results cannot be kept")
}

/// Returns the requested peers that are installed, and their paths.
fn peers(args: &Measure, results: &mut Results) -> Vec<(Peer, PathBuf)> {
    let mut found = Vec::new();
    for peer in PEERS {
        let requested = args.peer.is_empty() || args.peer.iter().any(|name| peer.name.starts_with(name.as_str()));
        if !requested || (args.no_peers && peer.program != "tracer") {
            continue;
        }
        if peer.program == "tracer" {
            found.push((*peer, args.tracer.clone()));
            continue;
        }
        match which::which(peer.program) {
            Ok(path) => found.push((*peer, path)),
            Err(_) => skip(results, peer.name, "it is not installed, and could not be"),
        }
    }
    found
}

fn skip(results: &mut Results, peer: &str, why: &str) {
    eprintln!("skipped: {peer}: {why}");
    if !results.skipped.iter().any(|(name, _)| name == peer) {
        results.skipped.push((peer.into(), why.into()));
    }
}

/// Mounts tracefs in a private mount namespace for peers that need it. If that fails, they report it themselves.
fn own_tracefs() {
    let at = Path::new("/sys/kernel/tracing");
    if at.join("events").exists() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return;
    }
    let none: Option<&str> = None;
    let _ = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    let _ = mount(Some("tracefs"), at, Some("tracefs"), MsFlags::empty(), none);
}
