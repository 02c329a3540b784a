//! The stages of user space, as criterion measured them (`cargo bench -p tracer --bench stages`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::page::{self, Part};
use crate::results::Results;

/// The records that are processed, and their names in the table.
const RINGS: [(&str, &str); 2] = [("make", "recorded build"), ("storm", "synthetic storm")];

/// The combinations of stages.
const STAGES: [&str; 3] = ["decode", "decode, table", "decode, table, JSON"];

/// Write criterion's measurements into the page
#[derive(clap::Args)]
pub(crate) struct Order {
    /// Where criterion keeps its results
    #[arg(long)]
    criterion: PathBuf,
    /// The page that they are written into
    #[arg(long)]
    page: PathBuf,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    throughput: Throughput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Throughput {
    elements: u64,
}

pub(crate) fn write(order: &Order) -> Result<()> {
    let mut results = Results::default();
    page::describe_machine(&mut results)?;
    let mut out = format!("\n{}\n\n", page::on_what(&results));
    out +=
        "| | records | ns a record (95 % of confidence) | million records a second on one core |\n|---|---|---|---|\n";
    for (ring, called) in RINGS {
        for stage in STAGES {
            let dir = order.criterion.join(ring).join(stage).join("new");
            let Estimates { median } = read(&dir.join("estimates.json"))?;
            let Throughput { elements: records } = read::<Benchmark>(&dir.join("benchmark.json"))?.throughput;
            let each = |nanos: f64| nanos / records as f64;
            let Interval { lower_bound, upper_bound } = median.confidence_interval;
            let ns = each(median.point_estimate);
            writeln!(
                out,
                "| {called}: {stage} | {records} | {ns:.0} ({:.0}–{:.0}) | {:.2} |",
                each(lower_bound),
                each(upper_bound),
                1e3 / ns
            )?;
        }
    }
    page::replace(&order.page, Part::Stages, &(out + "\n"))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("criterion left no {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not as criterion writes it", path.display()))
}
