//! `cargo xtask bench`

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{build, dist, packages, process, setup, workspace};

const TRACEXEC: &str = "1.0.0";

/// Measure tracer beside its peers, and write docs/benchmarks.md and its chart
///
/// Runs storms of processes alone and with each tracer in turn, round by round, so that other load on the machine
/// affects all alike. Missing peers are installed; a peer that is not available is named. Everything takes an hour or
/// more; --quick takes minutes. Needs root, and an otherwise idle machine. Leaves nothing running.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run few and short rounds
    #[arg(long)]
    quick: bool,
    /// Measure tracer alone
    #[arg(long)]
    no_peers: bool,
    /// Run only these workloads: exec, fork, vfork, threads, chain, fan, build
    #[arg(long, value_name = "LIST")]
    workload: Option<String>,
    /// Run only peers whose names start with these, e.g. "tracer stream,forkstat"
    #[arg(long, value_name = "LIST")]
    peer: Option<String>,
    /// Run only with N workers at once
    #[arg(long, value_name = "LIST")]
    workers: Option<String>,
    /// Measure each storm this many times
    #[arg(long)]
    rounds: Option<u32>,
    /// Add to the earlier measurements instead of starting over
    #[arg(long)]
    add: bool,
    /// Run only the storms: no system calls, BPF times, latencies
    #[arg(long)]
    storms_only: bool,
    /// Measure only the stages of user space (decode, process table, JSON) by criterion; takes minutes, and no root
    #[arg(long, conflicts_with_all = ["quick", "no_peers", "workload", "peer", "workers", "rounds", "add", "storms_only"])]
    stages: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.stages {
        build::bpf_object(&setup::bpf_toolchain()?)?;
        return stages();
    }
    // Measure the binary that is released.
    let (tracer, _) = dist::static_binary()?;
    process::build_quietly(process::cargo(["build", "--package", "tracer-bench", "--release"]))
        .context("the workloads")?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !args.no_peers {
        path = with_peers()?;
    }
    let dir = workspace::target_dir();
    fs::create_dir_all(dir.join("bench"))?;
    // Not root's PATH, which sudo would set: it may lack the peers that were just installed.
    let mut argv: Vec<OsString> = vec!["env".into(), [OsString::from("PATH="), path].into_iter().collect()];
    argv.extend([dir.join("release").join("tracer-bench").into(), "measure".into(), "--tracer".into(), tracer.into()]);
    let results = dir.join("bench").join("results.json");
    let page = page();
    for (name, file) in [("--results", results), ("--page", page)] {
        argv.extend([name.into(), file.into()]);
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 9 });
    argv.extend(["--rounds".into(), rounds.to_string().into()]);
    for (name, wanted) in [
        ("--quick", args.quick),
        ("--no-peers", args.no_peers),
        ("--add", args.add),
        ("--storms-only", args.storms_only),
    ] {
        argv.extend(wanted.then(|| name.into()));
    }
    for (name, list) in [("--workload", &args.workload), ("--peer", &args.peer), ("--workers", &args.workers)] {
        argv.extend(list.iter().flat_map(|list| [name.into(), list.into()]));
    }
    let argv: Option<Vec<&str>> = argv.iter().map(|word| word.to_str()).collect();
    let status = process::as_root(&argv.context("the path of the repository is not UTF-8")?)?.unchecked().run()?.status;
    if !status.success() {
        bail!("measuring failed");
    }
    workspace::say("docs/benchmarks.md and docs/benchmarks.svg are written");
    Ok(())
}

/// Returns the path of the page with the figures.
fn page() -> PathBuf {
    workspace::root().join("docs").join("benchmarks.md")
}

/// Measures the stages of user space by criterion, and writes the results into the page.
fn stages() -> Result<()> {
    process::cargo(["bench", "--package", "tracer", "--bench", "stages"]).run().context("the benchmark")?;
    let criterion = workspace::target_dir().join("criterion");
    let args = ["run", "--quiet", "--package", "tracer-bench", "--release", "--", "stages"].map(OsString::from);
    let files = ["--criterion".into(), criterion.into(), "--page".into(), page().into()];
    process::cargo(args.into_iter().chain(files)).run()?;
    workspace::say("docs/benchmarks.md is written");
    Ok(())
}

/// Installs the available peers. Returns a PATH on which the installed peers are found.
fn with_peers() -> Result<OsString> {
    for peer in packages::PEERS {
        if let Err(why) = packages::ensure(std::slice::from_ref(peer)) {
            workspace::say(&format!("{why:#}; going on without it"));
        }
    }
    // In a separate directory, so that they are not on this machine's PATH.
    let root: PathBuf = workspace::target_dir().join("bench").join("peers");
    if which::which("tracexec").is_err() && !root.join("bin/tracexec").is_file() {
        workspace::say(&format!("installing tracexec {TRACEXEC} (measured beside us)"));
        let place = root.display().to_string();
        let args =
            ["tracexec", "--version", TRACEXEC, "--locked", "--quiet", "--no-default-features", "--root", &place];
        if let Err(why) = process::cargo_install(args).run() {
            workspace::say(&format!("tracexec cannot be installed: {why}; going on without it"));
        }
    }
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin"), root.join("bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::env::split_paths(&path).chain(sbin))?)
}
