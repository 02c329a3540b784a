//! Resource usage of a process, from `/proc`.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Returns the CPU time of all its threads, in nanoseconds, as the scheduler measures it.
pub(crate) fn cpu_ns(pid: i32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut sum = 0;
    for task in tasks.flatten() {
        // The time of a thread that has just exited is lost. The processes measured here have no such threads.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Returns the CPU time of a process once it is idle. Waits only a few seconds.
pub(crate) fn settled_cpu_ns(pid: i32) -> Result<u64> {
    const PAUSE: Duration = Duration::from_millis(150);
    let mut last = cpu_ns(pid)?;
    for _ in 0..30 {
        sleep(PAUSE);
        let now = cpu_ns(pid)?;
        // Below a tenth of the time it is idle, except for other load on the machine.
        if now - last < PAUSE.as_nanos() as u64 / 10 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Returns its peak memory, in bytes.
pub(crate) fn peak_bytes(pid: i32) -> Result<u64> {
    status(pid, "VmHWM").map(|kib| kib * 1024)
}

/// Returns its resident memory, in bytes.
pub(crate) fn resident_bytes(pid: i32) -> Result<u64> {
    status(pid, "VmRSS").map(|kib| kib * 1024)
}

/// Returns its memory of a kind, in bytes: `RssAnon`, `RssFile` or `RssShmem`.
pub(crate) fn resident_of(pid: i32, kind: &str) -> Result<u64> {
    status(pid, kind).map(|kib| kib * 1024)
}

/// Returns how often its main thread slept.
pub(crate) fn sleeps(pid: i32) -> Result<u64> {
    status(pid, "voluntary_ctxt_switches")
}

fn status(pid: i32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("/proc/{pid}/status has no {key}"))
}
