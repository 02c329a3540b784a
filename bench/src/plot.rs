//! The chart: remaining throughput, and the tool's CPU time, by storm and peer.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figures::spread;
use crate::page::{by_peer, storms};
use crate::results::{Results, Sample};
use crate::workload::Kind;

const SIZE: (u32, u32) = (1000, 480);
const OURS: RGBColor = RGBColor(31, 119, 180);
const THEIRS: RGBColor = RGBColor(160, 160, 160);
const INK: RGBColor = RGBColor(60, 60, 60);

/// Draws the storm of execs with one worker: on the left the remaining throughput, on the right the CPU time of the
/// tool.
pub(crate) fn write(path: &Path, results: &Results) -> Result<()> {
    let Some(&(kind, workers)) = storms(results).iter().find(|(kind, _)| *kind == Kind::Exec) else { return Ok(()) };
    let peers = by_peer(results, kind, workers);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |why: &dyn std::fmt::Display| anyhow!("the chart cannot be drawn: {why}");
    root.fill(&WHITE).map_err(|why| failed(&why))?;
    let (left, right) = root.split_horizontally(560);
    let of = |figure: fn(&Sample) -> f64| -> Vec<(&str, f64)> {
        let median =
            |samples: &[&Sample]| spread(samples.iter().map(|sample| figure(sample))).map(|spread| spread.median);
        peers.iter().filter_map(|(name, samples)| Some((*name, median(samples)?))).collect()
    };
    let throughput = of(|sample| sample.ratio);
    let cpu = of(|sample| sample.cpu_ns as f64 / 1e3 / sample.created as f64);
    bars(&left, "Storm of execs: throughput, traced ÷ untraced", &throughput, true, 2).map_err(|why| failed(&why))?;
    bars(&right, "own CPU per process, µs", &cpu, false, 1).map_err(|why| failed(&why))?;
    root.present().map_err(|why| failed(&why))
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Draws horizontal bars from top to bottom, each with its name and number.
fn bars<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    title: &str,
    values: &[(&str, f64)],
    names: bool,
    digits: usize,
) -> Drawn<'a> {
    let (width, height) = area.dim_in_pixel();
    let left = if names { 190 } else { 20 };
    let room = f64::from(width) - f64::from(left) - 70.0;
    let step = (f64::from(height) - 60.0) / values.len().max(1) as f64;
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let text = ("sans-serif", 14).into_font().color(&INK);
    area.draw(&Text::new(title.to_owned(), (left, 14), ("sans-serif", 16).into_font().color(&BLACK)))?;
    for (row, (name, value)) in values.iter().enumerate() {
        let top = (45.0 + row as f64 * step) as i32;
        let bottom = top + (step * 0.7) as i32;
        let end = left + (room * value / most) as i32;
        let colour = if name.starts_with("tracer") { OURS } else { THEIRS };
        area.draw(&Rectangle::new([(left, top), (end.max(left + 1), bottom)], colour.filled()))?;
        let middle = i32::midpoint(top, bottom) - 7;
        area.draw(&Text::new(format!("{value:.digits$}"), (end + 6, middle), text.clone()))?;
        if names {
            area.draw(&Text::new((*name).to_owned(), (10, middle), text.clone()))?;
        }
    }
    Ok(())
}
