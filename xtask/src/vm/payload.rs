//! The payload of a guest: the static release binary, and a static build of the live tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Arch;
use super::choice::{Choice, SEEDS};
use super::fetch::SERIES;
use crate::{apt, dist, process, workspace};

/// Time limit of a test in a guest, where everything is emulated on a busy machine.
const BOUND_SECONDS: &str = "240";

/// Builds both for `arch`, and puts them in one directory with the files that the init script reads.
pub(super) fn make(arch: Arch, choice: &Choice<'_>) -> Result<PathBuf> {
    let tracer = if arch.debian() == apt::host_architecture() {
        dist::static_binary()?.0
    } else {
        dist::static_binary_with(&arch.target(), |cargo, flags| super::cross::with(arch, &cargo, flags))?
    };
    let tests = live_tests(arch).context("the live tests")?;
    let dir = arch.dir().join("payload");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir)?;
    fs::copy(tracer, dir.join("tracer"))?;
    fs::copy(tests, dir.join("live"))?;
    let environment = format!("export TRACER_BIN=/payload/tracer TRACER_SEED={SEEDS} TRACER_TEST_TIMES=1\n");
    fs::write(dir.join("environment"), environment)?;
    fs::write(dir.join("arguments"), choice.arguments())?;
    fs::write(dir.join("arguments-between"), choice.arguments_between())?;
    let between = SERIES.iter().filter(|series| series.between).flat_map(|series| series.begins).copied();
    fs::write(dir.join("between"), between.collect::<Vec<_>>().join(" "))?;
    Ok(dir)
}

/// Builds the live tests.
fn live_tests(arch: Arch) -> Result<PathBuf> {
    let target = arch.target();
    if !workspace::target_dir().join(&target).join("guest").exists() {
        workspace::say("building the live tests for the guests (some minutes, the first time)");
    }
    let args = [
        "test",
        "--no-run",
        "--quiet",
        "--package",
        "tracer",
        "--test",
        "live",
        "--profile",
        "guest",
        "--target",
        &target,
        "--message-format",
        "json-render-diagnostics",
    ];
    let flags = dist::static_flags();
    let cargo = process::cargo(args).env("TRACER_TEST_BOUND", BOUND_SECONDS);
    let cargo = if arch.debian() == apt::host_architecture() {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
    } else {
        super::cross::with(arch, &cargo, flags)?
    };
    executable(&cargo.stdin_null().read().context("the build failed")?)
}

/// One message of cargo.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Returns the test binary that cargo reports.
fn executable(messages: &str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let live = messages.filter(|message| message.target.as_ref().is_some_and(|target| target.name == "live"));
    live.filter_map(|message| message.executable).next_back().context("cargo built no test binary `live`")
}

/// Returns the size of a payload for display.
pub(super) fn shown(dir: &Path) -> String {
    let bytes: u64 =
        fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    format!("{:.0} MB", bytes as f64 / 1e6)
}
