//! What frames a stream: its first and last line, and what is missing in between.

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
    /// The kernel skipped a program, because it preempted the same program on that CPU (Linux 7).
    Skipped,
    /// The recording is torn, or has no `bye`: its recorder was killed, or still writes.
    Recording,
    /// A spool had to remove events before they were sent (reserved).
    Spool,
}

/// What was lost, where, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Why.
    #[serde(default)]
    pub reason: LostReason,
    /// CPU whose records are missing (`ring`); 0 for another reason.
    pub cpu: u32,
    /// Missing records in all; 0 if their number is not known (`recording`).
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
    /// … of them signals (causes of death).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub signals: u64,
    /// … of them failed execs.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub exec_failures: u64,
    /// … of them changes of cgroups.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub cgroups: u64,
    /// … of them told that a dead process was waited for.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reaps: u64,
    /// … of them because the kernel passed over a program that was preempted meanwhile (Linux 7): at most so many, for it
    /// does not tell what they were, nor on which CPU; `cpu` is 0 then.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub passed_over: u64,
    /// Boot time of the last record of this CPU before the gap; may be beyond 2^53, as `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_boot_ns: Option<u64>,
    /// Boot time of the first one after it; may be beyond 2^53, as `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_boot_ns: Option<u64>,
}

/// Events that were left out because the reader of the output was behind (`--on-slow drop` and `collapse`).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Events in all.
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
    /// Boot time of the first of them; may be beyond 2^53, as `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_boot_ns: Option<u64>,
    /// Boot time of the last of them; may be beyond 2^53, as `boot_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_boot_ns: Option<u64>,
}

/// Where the events of a stream come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HelloSource {
    /// The running kernel.
    Kernel,
    /// `/proc`, read once: it knows the processes of that moment and no events.
    Proc,
    /// A recording (`--from FILE`): all else in `hello` is as its recorder wrote it.
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
    /// What this kernel lacks, and what is done instead.
    pub fallbacks: Vec<String>,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// Most bytes of argv that are captured.
    pub argv_max: u64,
    /// Most memory, in bytes, for what is remembered and what waits to be written (`--max-memory`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub max_memory: u64,
    /// Where events are left out that are not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filtering>,
}

/// Where events are left out that are not asked for. Options by name.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Filtering {
    /// By the kernel side: they cost next to nothing, are not `seen` by tracer, and are in none of the counts of `bye`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<String>,
    /// In user space: `bye` counts them as `filtered`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<String>,
    /// Why the kernel side does none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Filtering {
    /// The kernel side leaves nothing out.
    pub(crate) fn in_user_space(options: Vec<String>, why: String) -> Self {
        Self { kernel: Vec::new(), user: options, why: Some(why) }
    }
}

/// Last line: what became of it all. `seen` = `emitted` + `filtered` + `folded` + `dropped` + `lost`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Bye {
    /// Events there were: those that became lines, those that a filter left out, those that
    /// are only in `storm` lines, those dropped, and those lost.
    pub seen: u64,
    /// Lines of process events written (`hello`, `lost`, `dropped`, `storm` and `bye` are not counted).
    pub emitted: u64,
    /// Events left out by a filter.
    pub filtered: u64,
    /// Events that are only in `storm` lines (with `--collapse`): the sum of their `folded`.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub folded: u64,
    /// Events left out because the reader was behind: the sum of the `dropped` lines.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub dropped: u64,
    /// Storms that began.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub storms: u64,
    /// Records lost for want of room, or because the kernel passed over the program that was to make them.
    pub lost: u64,
    /// By kind of event, emitted ones.
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
    /// Dead processes that were waited for, emitted (with `--reap`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub reaps: u64,
    /// Processes, execs, exits and reaps among them that the kernel did not tell but that were found out in `/proc`.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub inferred: u64,
    /// Execs whose argv was cut short for want of room (their `argv_info` says so too).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub argv_degraded: u64,
    /// Execs whose exe and cwd were left out as well, because the ring was fuller still (their `exec.exe_capture` says so).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub paths_degraded: u64,
    /// Processes that `tracer run` could not follow: more were alive at once than it can. What they did is not told.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub untracked: u64,
    /// The dead that were forgotten earlier than they would have been with more memory (`--max-memory`).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub dead_forgotten: u64,
    /// Processes whose argv and cwd were forgotten for want of memory while they were known: their later lines lack them.
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
