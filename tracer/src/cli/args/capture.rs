//! Options that choose what is recorded, and with which resources.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracer_common::limits::{ARGV_DEFAULT_BYTES, RING_DEFAULT_BYTES};

use super::limits::{self, Size, size};
use super::{FilterArgs, duration};
use crate::cli::UsageError;
use crate::event::Kind;
use crate::source::live::{Builder, ExecFailures};

/// Options that choose what is recorded, and with which resources.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Trace threads too
    ///
    /// Adds the events thread_start and thread_exit.
    #[arg(short, long)]
    threads: bool,

    /// Record at most BYTES of each process's arguments (K: 1024, M: 1024²)
    ///
    /// argv_info.truncated marks a truncated argument list. The kernel allows at most 6M.
    #[arg(long, value_name = "BYTES", default_value_t = Size(ARGV_DEFAULT_BYTES), value_parser = size)]
    argv_max: Size,

    /// Report failed execs: the path, the arguments and the error
    ///
    /// Adds the event exec_failed. With `summary`, the search for a program along PATH becomes one event. It covers the
    /// attempts of one process for the same argv[0] that fail with ENOENT or ENOTDIR. It gives their number and paths. tracer
    /// reports it at the next other event of the process, at its exit, or after one second. Most shells search PATH on their
    /// own first, and the kernel never sees those attempts. Execs of 32-bit programs on a 64-bit kernel are not recorded.
    ///
    /// This costs nothing on kernels that let BPF programs attach to functions. On others, tracer uses the system call tracepoints.
    /// Then every system call of the machine is slower while tracer runs. `tracer doctor` reports which of the two applies.
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_enum
    )]
    exec_failed: Option<FailureDetail>,

    /// Report when exited processes are reaped, and report zombies
    ///
    /// Adds the events reap and zombie. `reap` says which process waited for an exited process, and how long that was a
    /// zombie. `zombie` reports a process that nobody has waited for after --zombie-after. It names the process that should wait,
    /// and counts that process's zombies. A parent that ignores SIGCHLD has its children reaped by the kernel.
    ///
    /// A reap is reported up to some tens of milliseconds late, when the kernel frees the process. If the kernel's record is
    /// lost, tracer checks /proc, at least one second after --zombie-after. It marks that event `inferred`.
    #[arg(long)]
    reap: bool,

    /// Report a zombie after TIME, e.g. 500ms or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "reap", value_parser = duration)]
    zombie_after: Duration,

    /// Set the size of the ring buffer between kernel and tracer: a power of two
    ///
    /// The ring buffer holds events until tracer reads them. When it is full, events are lost. Each loss is reported.
    #[arg(long, value_name = "BYTES", default_value_t = Size(RING_DEFAULT_BYTES), value_parser = size)]
    ring_size: Size,

    /// Use at most BYTES for known processes and waiting output (K, M, G)
    ///
    /// When the limit is reached, tracer forgets exited processes, the oldest first. Then it forgets argument lists and working
    /// directories of running processes, the largest first. `bye` counts both: dead_forgotten and argv_forgotten. A running
    /// process is never forgotten, and takes about 250 bytes. A sixteenth of the limit is for output that waits for a slow
    /// reader. The limit does not include the ring buffer (--ring-size) and about 10M for tracer itself.
    #[arg(long, value_name = "BYTES", default_value_t = Size(Builder::MAX_MEMORY as u32), value_parser = size)]
    max_memory: Size,

    /// Read the kernel's types from FILE, and refuse those of another kernel
    ///
    /// This only checks which kernel FILE describes. The offsets still come from the running kernel: from
    /// /sys/kernel/btf/vmlinux, or from bpf(2) if sysfs is not mounted (since Linux 5.11). A kernel built without BTF cannot be
    /// traced. It has no types to attach programs by, and no file can provide them.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    btf: Option<PathBuf>,
}

/// How failed execs are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailureDetail {
    /// One event for each attempt
    All,
    /// One event for a search along PATH
    Summary,
}

/// What is recorded, and with which resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Whether threads are traced.
    pub threads: bool,
    /// Most bytes of argv, from 1 B to 6 MiB.
    pub argv_max: u32,
    /// Size of the ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Most memory for known processes and waiting output.
    pub max_memory: usize,
    /// Which failed execs are reported.
    pub exec_failures: ExecFailures,
    /// The age at which a zombie is reported. `None` reports neither reaps nor zombies.
    pub zombie_after: Option<Duration>,
    /// A file with the kernel's types.
    pub btf: Option<PathBuf>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            threads: false,
            argv_max: ARGV_DEFAULT_BYTES,
            ring_bytes: RING_DEFAULT_BYTES,
            max_memory: Builder::MAX_MEMORY,
            exec_failures: ExecFailures::No,
            zombie_after: None,
            btf: None,
        }
    }
}

impl CaptureArgs {
    /// Refuses options that choose what is recorded. With `--from`, the recorder chose that.
    pub fn refuse_with_from(&self, command: &'static str) -> Result<(), UsageError> {
        let Self { threads, argv_max, exec_failed, reap, zombie_after: _, ring_size, max_memory: _, btf } = self;
        let given = [
            (*threads, "--threads"),
            (*argv_max != Size(ARGV_DEFAULT_BYTES), "--argv-max"),
            (exec_failed.is_some(), "--exec-failed"),
            (*reap, "--reap"),
            (*ring_size != Size(RING_DEFAULT_BYTES), "--ring-size"),
            (btf.is_some(), "--btf"),
        ];
        match given.into_iter().find_map(|(given, name)| given.then_some(name)) {
            Some(name) => {
                let message = format!("{name} chooses what is recorded: give it to the recorder, and not with --from");
                Err(UsageError::new(command, message))
            }
            None => Ok(()),
        }
    }

    /// Checks the options and returns their meaning. An error names `command`.
    pub fn capture(&self, filter: &FilterArgs, command: &'static str) -> Result<Capture, UsageError> {
        limits::check(self.argv_max, self.ring_size, self.max_memory)
            .map_err(|message| UsageError::new(command, message))?;
        Ok(Capture {
            threads: self.threads || filter.names_kind(&[Kind::ThreadStart, Kind::ThreadExit]),
            argv_max: self.argv_max.0,
            ring_bytes: self.ring_size.0,
            max_memory: self.max_memory.0 as usize,
            zombie_after: (self.reap || filter.names_kind(&[Kind::Reap, Kind::Zombie])).then_some(self.zombie_after),
            exec_failures: match self.exec_failed {
                Some(FailureDetail::All) => ExecFailures::All,
                Some(FailureDetail::Summary) => ExecFailures::Summary,
                None if filter.names_kind(&[Kind::ExecFailed]) => ExecFailures::All,
                None => ExecFailures::No,
            },
            btf: self.btf.clone(),
        })
    }
}
