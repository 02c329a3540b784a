//! The page docs/benchmarks.md, whose part between two marks is generated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::utsname::uname;

use crate::figures::{Spread, spread};
use crate::peer::PEERS;
use crate::results::{Latency, Results, Sample};
use crate::workload::Kind;

/// A generated part of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Storms and costs, tracer beside its peers.
    Measured,
    /// The stages of user space.
    Stages,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Stages => "stages",
        }
    }
}

/// Records the machine and the date.
pub(crate) fn describe_machine(results: &mut Results) -> Result<()> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let hypervisor = if cpuinfo.contains(" hypervisor") { ", in a virtual machine" } else { "" };
    let cpus = std::thread::available_parallelism()?;
    results.machine = format!("{cpus} CPUs, {}{hypervisor}", model.map_or("of an unknown model", |(_, model)| model));
    results.kernel = uname()?.release().to_string_lossy().into_owned();
    results.date = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    Ok(())
}

/// Returns that as a sentence.
pub(crate) fn on_what(results: &Results) -> String {
    format!("{}; Linux {}; {}.", results.machine, results.kernel, results.date)
}

/// Writes the results into the page.
pub(crate) fn write(page: &Path, results: &Results) -> Result<()> {
    replace(page, Part::Measured, &render(results)?)
}

/// Replaces a part of the page by a text.
pub(crate) fn replace(page: &Path, part: Part, new: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {}: begin -->", part.name()), format!("<!-- {}: end -->", part.name()));
    let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let (head, rest) = text.split_once(&begin).with_context(|| format!("the page has no {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("the page has no {end}"))?;
    fs::write(page, format!("{head}{begin}\n{new}{end}{tail}"))?;
    Ok(())
}

/// Returns the samples of each peer in one storm, in the order of the list.
pub(crate) fn by_peer(results: &Results, kind: Kind, workers: u64) -> Vec<(&'static str, Vec<&Sample>)> {
    let of = |name: &str| -> Vec<&Sample> {
        let same = |sample: &&Sample| sample.workload == kind && sample.workers == workers && sample.peer == name;
        results.samples.iter().filter(same).collect()
    };
    PEERS.iter().map(|peer| (peer.name, of(peer.name))).filter(|(_, samples)| !samples.is_empty()).collect()
}

/// Returns the storms that were measured.
pub(crate) fn storms(results: &Results) -> Vec<(Kind, u64)> {
    let set: std::collections::BTreeSet<_> =
        results.samples.iter().map(|sample| (sample.workload, sample.workers)).collect();
    set.into_iter().collect()
}

fn render(results: &Results) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "\n{}\n", on_what(results))?;
    for (kind, workers) in storms(results) {
        let plural = if workers == 1 { "worker" } else { "workers" };
        writeln!(out, "### {}, {workers} {plural}\n", title(kind))?;
        out += "| | traced ÷ untraced (middle half) | rounds | own CPU, µs each | events captured | peak RSS, MB |\n";
        out += "|---|---|---|---|---|---|\n";
        for (name, samples) in by_peer(results, kind, workers) {
            let figure = |of: fn(&Sample) -> f64| spread(samples.iter().map(|sample| of(sample)));
            writeln!(
                out,
                "| {name} | {} | {} | {} | {} | {} |",
                figure(|sample| sample.ratio).map_or("–".into(), ratio),
                samples.len(),
                figure(|sample| sample.cpu_ns as f64 / 1e3 / sample.created as f64)
                    .map_or("–".into(), |cpu| format!("{:.1}", cpu.median)),
                captured(&samples),
                figure(|sample| sample.peak_bytes as f64 / 1e6)
                    .map_or("–".into(), |rss| format!("{:.0}", rss.median)),
            )?;
        }
        out += "\n";
    }
    costs(&mut out, results)?;
    Ok(out)
}

fn costs(out: &mut String, results: &Results) -> Result<()> {
    let mut syscalls: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for syscall in &results.syscalls {
        syscalls.entry(&syscall.peer).or_default().push(syscall.ratio);
    }
    *out += "### A system call that does nothing\n\n| | traced ÷ untraced |\n|---|---|\n";
    for (peer, ratios) in syscalls {
        writeln!(out, "| {peer} | {} |", spread(ratios).map_or("–".into(), ratio))?;
    }
    *out += "\n### In the kernel\n\n| | BPF program | ns per run | runs |\n|---|---|---|---|\n";
    for program in results.programs.iter().filter(|program| program.runs > 100) {
        let each = program.run_ns / program.runs;
        writeln!(out, "| {} | `{}` | {each} | {} |", program.peer, program.name, program.runs)?;
    }
    *out += "\n### From event to line\n\n| | lines | p50, µs | p99, µs | longest, µs |\n|---|---|---|---|---|\n";
    for Latency { load, lines, p50_us, p99_us, max_us } in &results.latencies {
        writeln!(out, "| {load} | {lines} | {p50_us:.0} | {p99_us:.0} | {max_us:.0} |")?;
    }
    if let Some(idle) = &results.idle {
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            out,
            "\n### At rest\n\n{:.1} MiB resident ({:.1} anonymous, {:.1} of files, {:.1} shared: the ring); woken {:.2} times a second.\n",
            mb(idle.resident_bytes),
            mb(idle.anonymous_bytes),
            mb(idle.file_bytes),
            mb(idle.shared_bytes),
            idle.wake_ups_per_second
        )?;
    }
    for (peer, why) in &results.skipped {
        writeln!(out, "Skipped: {peer}: {why}.\n")?;
    }
    Ok(())
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Exec => "Storm of execs",
        Kind::Fork => "Storm of forks",
        Kind::Vfork => "Storm of vforks",
        Kind::Threads => "Storm of threads",
        Kind::Chain => "Chains, 64 deep",
        Kind::Fan => "Fans, 256 wide",
        Kind::Build => "Build",
    }
}

fn ratio(spread: Spread) -> String {
    format!("{:.3} ({:.3}–{:.3})", spread.median, spread.low, spread.high)
}

fn captured(samples: &[&Sample]) -> String {
    let sum = |of: fn(&Sample) -> Option<u64>| samples.iter().filter_map(|sample| of(sample)).sum::<u64>();
    match (sum(|sample| sample.seen), sum(|sample| sample.due)) {
        (_, 0) => "–".into(),
        (seen, due) => format!("{seen} of {due}"),
    }
}
