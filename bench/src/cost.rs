//! Costs that a storm's throughput does not show: system calls, BPF programs, latency, idle usage.

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use nix::time::{ClockId, clock_gettime};

use crate::figures::{quantile, ratio};
use crate::peer::Peer;
use crate::results::{Idle, Latency, Program, Syscall};
use crate::round::{Load, Place, Running, alone};
use crate::usage;
use crate::workload::Kind;

/// Returns the nanoseconds of a `getppid`, whose result the C library does not cache.
fn system_call() -> f64 {
    const CALLS: u32 = 1_000_000;
    let began = Instant::now();
    for _ in 0..CALLS {
        black_box(nix::unistd::getppid());
    }
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Measures the cost of a system call while a peer runs, compared with before and after.
pub(crate) fn syscall(place: &Place, peer: &Peer, at: &Path) -> Result<Syscall> {
    let before = system_call();
    let running = Running::start(peer, at, &place.path("out"))?;
    let ns = system_call();
    running.end()?;
    Ok(Syscall { peer: peer.name.into(), ns, ratio: ratio(ns, before, system_call()) })
}

/// Measures the time of each BPF program of a peer in a storm of execs. The kernel counts while we hold the
/// descriptor, and stops afterwards.
pub(crate) fn programs(place: &mut Place, peer: &Peer, at: &Path, load: Load) -> Result<Vec<Program>> {
    let others: BTreeSet<u32> = loaded_programs().flatten().map(|program| program.id()).collect();
    let running = Running::start(peer, at, &place.path("out"))?;
    let counting = enable_stats(Stats::RunTime)?;
    alone(place, load)?;
    let mut found = Vec::new();
    for program in loaded_programs().flatten().filter(|program| !others.contains(&program.id())) {
        let fd = program.fd()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        let number = |key: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let (run_ns, runs) = (number("run_time_ns").unwrap_or(0), number("run_cnt").unwrap_or(0));
        if runs > 0 {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            found.push(Program { peer: peer.name.into(), name, run_ns, runs });
        }
    }
    drop(counting);
    running.end()?;
    Ok(found)
}

/// Measures the time from an event to its line at the other end of a pipe.
pub(crate) fn latency(place: &mut Place, tracer: &Path, load: Option<Load>) -> Result<Latency> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = Command::new(tracer)
        .args(["stream", "--no-snapshot"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start tracer")?;
    let begun = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let lines = scope.spawn(|| read_lines(&mut reader, &begun));
        sleep(Duration::from_millis(600));
        begun.store(true, Ordering::Relaxed);
        match load {
            Some(load) => drop(alone(place, load)?),
            // One at a time, with pauses.
            None => {
                for _ in 0..100 {
                    alone(place, Load { kind: Kind::Exec, workers: 1, count: 1 })?;
                    sleep(Duration::from_millis(20));
                }
            }
        }
        begun.store(false, Ordering::Relaxed);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT)?;
        lines.join().ok().context("the reader panicked")?
    });
    child.wait()?;
    let mut micros = result?;
    micros.sort_by(f64::total_cmp);
    Ok(Latency {
        load: load.map_or("at rest".into(), |load| format!("{} storm, {} workers", load.kind.name(), load.workers)),
        lines: micros.len(),
        p50_us: quantile(&micros, 0.5).unwrap_or(f64::NAN),
        p99_us: quantile(&micros, 0.99).unwrap_or(f64::NAN),
        max_us: micros.last().copied().unwrap_or(f64::NAN),
    })
}

/// Returns the microseconds between the time in each line and its reading, while `counting`.
fn read_lines(reader: &mut std::io::PipeReader, counting: &AtomicBool) -> Result<Vec<f64>> {
    const KEY: &[u8] = b"\"boot_ns\":";
    let (mut micros, mut rest, mut chunk) = (Vec::new(), Vec::new(), vec![0; 1 << 20]);
    loop {
        let count = reader.read(&mut chunk)?;
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let now_ns = now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64;
        if count == 0 {
            return Ok(micros);
        }
        rest.extend_from_slice(&chunk[..count]);
        let end = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if counting.load(Ordering::Relaxed) {
            for line in rest[..end].split(|&byte| byte == b'\n') {
                let Some(at) = line.windows(KEY.len()).take(200).position(|window| window == KEY) else { continue };
                let digits = line[at + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit());
                let boot_ns = digits.fold(0.0, |sum, byte| sum * 10.0 + f64::from(byte - b'0'));
                micros.push((now_ns - boot_ns) / 1000.0);
            }
        }
        rest.drain(..end);
    }
}

/// Measures tracer while it has no events. It uses `tracer run` of a program that sleeps, because the machine itself
/// is never idle.
pub(crate) fn idle(tracer: &Path, seconds: u64) -> Result<Idle> {
    let out = tempfile::NamedTempFile::new()?;
    let mut child = Command::new(tracer)
        .args(["run", "-o"])
        .arg(out.path())
        .args(["--", "sleep"])
        .arg((seconds + 3).to_string())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start tracer")?;
    // Its last reads of the ring are over by then.
    sleep(Duration::from_secs(2));
    let pid = child.id() as i32;
    let before = usage::sleeps(pid)?;
    sleep(Duration::from_secs(seconds));
    let wake_ups = usage::sleeps(pid)? - before;
    let idle = Idle {
        resident_bytes: usage::resident_bytes(pid)?,
        anonymous_bytes: usage::resident_of(pid, "RssAnon")?,
        file_bytes: usage::resident_of(pid, "RssFile")?,
        shared_bytes: usage::resident_of(pid, "RssShmem")?,
        wake_ups_per_second: wake_ups as f64 / seconds as f64,
    };
    child.wait()?;
    Ok(idle)
}
