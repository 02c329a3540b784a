//! `cargo xtask soak`

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::tally::Tally;
use crate::{build, packages, setup, test, workspace};

/// Run the long rounds that `cargo xtask test` runs only briefly
///
/// Random workloads against their own logs, a hostile user, injected faults, saturating storms of a minute each, and long random
/// histories. The seeds are printed first and can be given again with --seed. It takes about an hour with the default rounds.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seeds per part
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u64,
    /// First seed [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run only the parts with TEXT in their names
    part: Option<String>,
}

/// A part: its tests, and the variables that make them run for a long time. `SEEDS` stands for the seeds.
struct Part {
    name: &'static str,
    which: &'static [&'static str],
    filter: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

const LIVE: &[&str] = &["--release", "--package", "tracer", "--test", "live"];

const PARTS: &[Part] = &[
    Part { name: "oracle", which: LIVE, filter: "oracle", environment: &[("TRACER_SEED", SEEDS)] },
    Part { name: "hostile", which: LIVE, filter: "hostile", environment: &[("TRACER_HOSTILE_SEEDS", SEEDS)] },
    Part { name: "faults", which: LIVE, filter: "faults", environment: &[("TRACER_SEED", SEEDS)] },
    Part { name: "storms", which: LIVE, filter: "load", environment: &[("TRACER_STORM_SECONDS", "60")] },
    Part {
        name: "histories",
        which: &["--release", "--package", "tracer", "--lib", "--test", "table", "--test", "decode"],
        filter: "",
        environment: &[("PROPTEST_CASES", "20000")],
    },
    Part {
        name: "memory",
        which: &["--release", "--package", "tracer", "--test", "soak"],
        filter: "",
        environment: &[],
    },
];

/// Placeholder for the seeds, separated by commas.
const SEEDS: &str = "SEEDS";

pub(crate) fn run(args: &Args) -> ExitCode {
    match parts(args) {
        Ok(tally) => {
            println!("{tally}");
            if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            workspace::say(&format!("error: {why:#}"));
            ExitCode::FAILURE
        }
    }
}

fn parts(args: &Args) -> Result<Tally> {
    build::bpf_object(&setup::bpf_toolchain()?)?;
    if packages::on_debian() {
        packages::ensure(packages::TESTS)?;
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let first = args.seed.unwrap_or_else(clock);
    let seeds: Vec<String> = (first..first + args.rounds).map(|seed| seed.to_string()).collect();
    let seeds = seeds.join(",");
    println!("seeds: {seeds}");
    let mut tally = Tally::default();
    let wanted = |part: &&Part| args.part.as_ref().is_none_or(|text| part.name.contains(text.as_str()));
    for part in PARTS.iter().filter(wanted) {
        println!("==> {}", part.name);
        let filter: &[&str] = if part.filter.is_empty() { &[] } else { &[part.filter] };
        let command = test::test_command(part.which, filter, &first.to_string())?;
        let command = part.environment.iter().fold(command, |command, (name, value)| {
            command.env(name, if *value == SEEDS { seeds.as_str() } else { *value })
        });
        let (part_tally, status) = test::read(&command)?;
        tally.add(part_tally);
        if !status.success() && tally.failed.is_empty() {
            tally.failed.push(format!("{}: cargo test ended with {status}", part.name));
        }
    }
    if tally.count() == 0 {
        tally.failed.push("no test ran".to_owned());
    }
    Ok(tally)
}
