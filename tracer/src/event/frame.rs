//! The lines that frame a stream: its first and last line, and reports of missing events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_zero64;

/// Why events are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The ring buffer was full.
    #[default]
    Ring,
    /// The kernel skipped a program, because it had preempted the same program on that CPU (Linux 7).
    Skipped,
    /// The recording is incomplete or has no `bye`: its recorder was killed or is still writing.
    Recording,
    /// A spool had to remove events before they were sent (reserved).
    Spool,
}

/// What was lost, where, and why.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Why.
    #[serde(default)]
    pub reason: LostReason,
    /// CPU whose records are missing (`ring`); 0 for another reason.
    pub cpu: u32,
    /// Total of missing records; 0 if unknown (`recording`).
    pub total: u64,
    /// … of them forks.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub forks: u64,
    /// … of them execs.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub execs: u64,
    /// … of them exits.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub exits: u64,
    /// … of them signals (causes of exits).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub signals: u64,
    /// … of them failed execs.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub exec_failures: u64,
    /// … of them changes of cgroups.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub cgroups: u64,
    /// … of them reaped zombies.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reaps: u64,
    /// … of them skipped by the kernel, because the program was preempted on that CPU (Linux 7). This is an upper
    /// limit: the kernel does not say what it skipped, nor on which CPU (`cpu` is 0).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub passed_over: u64,
    /// Boot time of the last record of this CPU before the gap; may exceed 2^53, like `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_boot_ns: Option<u64>,
    /// Boot time of the first record after the gap; may exceed 2^53, like `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_boot_ns: Option<u64>,
}

/// Events that were dropped because the reader of the output was too slow (`--on-slow drop` and `collapse`).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Total of dropped events.
    pub total: u64,
    /// … of them forks.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub forks: u64,
    /// … of them execs.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub execs: u64,
    /// … of them exits.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub exits: u64,
    /// Boot time of the first of them; may exceed 2^53, like `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_boot_ns: Option<u64>,
    /// Boot time of the last of them; may exceed 2^53, like `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_boot_ns: Option<u64>,
}

/// Where the events of a stream come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HelloSource {
    /// The running kernel.
    Kernel,
    /// `/proc`, read once: processes without events.
    Proc,
    /// A recording (`--from FILE`). The rest of `hello` is as its recorder wrote it.
    Recording,
}

/// First line: what is being traced, and how.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Where the events come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<HelloSource>,
    /// Version of tracer.
    pub version: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Machine (`uname -m`).
    pub arch: String,
    /// Host name.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Hooks in use.
    pub hooks: Vec<String>,
    /// Features that this kernel lacks, and their replacements.
    pub fallbacks: Vec<String>,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// Maximum bytes of argv that are captured.
    pub argv_max: u64,
    /// Maximum memory in bytes for process state and pending output (`--max-memory`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub max_memory: u64,
    /// Where filters are applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filtering>,
}

/// Where filters are applied. Options by name.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Filtering {
    /// In the kernel: such events cost almost nothing. They are not `seen` by tracer and not counted in `bye`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<String>,
    /// In user space: `bye` counts these events as `filtered`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<String>,
    /// Why no filter is applied in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Filtering {
    /// Returns a filter that is applied in user space only.
    pub(crate) fn in_user_space(options: Vec<String>, why: String) -> Self {
        Self { kernel: Vec::new(), user: options, why: Some(why) }
    }
}

/// Last line: the totals. `seen` = `emitted` + `filtered` + `folded` + `dropped` + `lost`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Bye {
    /// All events: lines written, events filtered out, events that are only in `storm` lines, dropped events and lost
    /// events.
    pub seen: u64,
    /// Lines of process events written (without `hello`, `lost`, `dropped`, `storm` and `bye`).
    pub emitted: u64,
    /// Events filtered out.
    pub filtered: u64,
    /// Events that are only in `storm` lines (with `--collapse`): the sum of their `folded`.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub folded: u64,
    /// Events dropped because the reader was too slow: the sum of the `dropped` lines.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub dropped: u64,
    /// Storms that began.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub storms: u64,
    /// Records lost because the ring was full, or because the kernel skipped the program.
    pub lost: u64,
    /// Process lines emitted.
    pub processes: u64,
    /// Forks emitted.
    pub forks: u64,
    /// Execs emitted.
    pub execs: u64,
    /// Exits emitted.
    pub exits: u64,
    /// Failed execs emitted (with `--exec-failed`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub exec_failures: u64,
    /// Reaped zombies emitted (with `--reap`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reaps: u64,
    /// Inferred processes, execs, exits and reaps: found in `/proc`, not reported by the kernel.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub inferred: u64,
    /// Execs whose argv was cut because the ring was almost full (their `argv_info` says so too).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub argv_degraded: u64,
    /// Execs without exe and cwd, because the ring was even fuller (their `exec.exe_capture` says so).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub paths_degraded: u64,
    /// Processes that `tracer run` could not follow, because too many were alive at once. Their events are missing.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub untracked: u64,
    /// Exited processes that were forgotten early to save memory (`--max-memory`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub dead_forgotten: u64,
    /// Processes whose argv and cwd were dropped to save memory: their later lines lack them.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub argv_forgotten: u64,
    /// Time traced, nanoseconds.
    pub duration_ns: u64,
    /// tracer's own CPU time in user mode, nanoseconds.
    pub user_ns: u64,
    /// tracer's own CPU time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// tracer's own largest resident set, bytes.
    pub max_rss_bytes: u64,
}
