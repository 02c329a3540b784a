//! The work of a worker, one process after the other. Each is reaped, so none remains.

use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, close, fork, pipe, read};

use super::{Counts, Kind};

/// Generations of a chain.
const DEPTH: u64 = 64;
/// Children of a fan that run at the same time.
const WIDTH: u64 = 256;
/// Programs that one job of a build starts, and how long it computes after each.
const STEPS: u64 = 3;
const STEP: Duration = Duration::from_micros(200);

/// Makes `count` processes of one kind.
pub(super) fn work(kind: Kind, count: u64, program: &str) -> Result<Counts> {
    let program = CString::new(program)?;
    match kind {
        Kind::Exec => each(count, || spawn(&program, &[])),
        Kind::Fork => each(count, || forked(|| Ok(()))),
        Kind::Vfork => vforks(count),
        Kind::Threads => threads(count),
        Kind::Chain => each(count / DEPTH, || chain(DEPTH)),
        Kind::Fan => each(count / WIDTH, fan),
        Kind::Build => build(count / (STEPS + 1), &program),
    }
}

fn each(count: u64, mut deed: impl FnMut() -> Result<Counts>) -> Result<Counts> {
    (0..count).try_fold(Counts::default(), |sum, _| Ok(sum + deed()?))
}

fn wait(pid: Pid) -> Result<()> {
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => bail!("a process of the workload ended otherwise than planned: {other:?}"),
    }
}

fn spawn(program: &CString, arguments: &[CString]) -> Result<Counts> {
    let mut argv = vec![program.clone()];
    argv.extend_from_slice(arguments);
    let environment: [&CString; 0] = [];
    let (actions, attributes) = (PosixSpawnFileActions::init()?, PosixSpawnAttr::init()?);
    wait(posix_spawn(program.as_c_str(), &actions, &attributes, &argv, &environment).context("posix_spawn")?)?;
    Ok(Counts { forks: 1, execs: 1, exits: 1, threads: 0 })
}

/// Forks a child that does something and exits.
pub(super) fn forked(deed: impl FnOnce() -> Result<()>) -> Result<Counts> {
    wait(fork_off(deed)?)?;
    Ok(Counts { forks: 1, exits: 1, ..Counts::default() })
}

/// Likewise, without reaping it.
pub(super) fn fork_off(deed: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: the workload has one thread whenever it forks, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = i32::from(deed().is_err());
            // SAFETY: it ends the process at once, without the exit handlers of the parent.
            unsafe { libc::_exit(status) }
        }
    }
}

fn vforks(count: u64) -> Result<Counts> {
    let mut stack = vec![0; 64 * 1024];
    let flags = CloneFlags::CLONE_VFORK | CloneFlags::CLONE_VM;
    each(count, || {
        // SAFETY: the child touches only its own stack, and the parent is suspended until it has exited.
        let child = unsafe { clone(Box::new(|| 0), &mut stack, flags, Some(libc::SIGCHLD)) }?;
        wait(child)?;
        Ok(Counts { forks: 1, exits: 1, ..Counts::default() })
    })
}

fn threads(count: u64) -> Result<Counts> {
    each(count, || {
        let thread = std::thread::Builder::new().stack_size(32 * 1024).spawn(|| ())?;
        thread.join().ok().context("a thread panicked")?;
        Ok(Counts { threads: 1, ..Counts::default() })
    })
}

/// Each generation starts the next and waits for it.
fn chain(depth: u64) -> Result<Counts> {
    forked(|| if depth > 1 { chain(depth - 1).map(drop) } else { Ok(()) })?;
    Ok(Counts { forks: depth, exits: depth, ..Counts::default() })
}

/// Children that run side by side until the last one exists.
fn fan() -> Result<Counts> {
    let (go, hold) = pipe()?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&hold);
    let mut children = Vec::new();
    for _ in 0..WIDTH {
        children.push(fork_off(|| {
            close(raw)?;
            // Nothing is ever written: the read ends when the parent closes its end.
            read(go.as_fd(), &mut [0])?;
            Ok(())
        })?);
    }
    drop(hold);
    children.into_iter().try_for_each(wait)?;
    Ok(Counts { forks: WIDTH, exits: WIDTH, ..Counts::default() })
}

/// Jobs like those of a build: a shell that starts some programs with long command lines and computes in between.
fn build(jobs: u64, program: &CString) -> Result<Counts> {
    let arguments: Vec<CString> = (0..40)
        .map(|n| CString::new(format!("-I/usr/src/some/project/include/directory/{n:02}")))
        .collect::<Result<_, _>>()?;
    each(jobs, || {
        let shell = forked(|| {
            for _ in 0..STEPS {
                spawn(program, &arguments)?;
                compute(STEP);
            }
            Ok(())
        })?;
        Ok(shell + Counts { forks: STEPS, execs: STEPS, exits: STEPS, threads: 0 })
    })
}

fn compute(time: Duration) {
    let began = Instant::now();
    let mut sum: u64 = 0;
    while began.elapsed() < time {
        sum = (0..100).fold(black_box(sum), u64::wrapping_add);
    }
}
