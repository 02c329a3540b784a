//! The one language spoken past the process table: an [`Event`], owned, enriched and serialisable.
//!
//! These types *are* schema 1: the JSON Schema in `docs/schema/v1.json` is generated from them, keys are
//! written in the order of the fields, and an absent key means unknown or not applicable.

mod container;
mod storm;

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ProcessId;
use crate::time::Timestamp;
pub use container::{Container, ContainerEnd, Origin};
pub use storm::{Storm, StormCommand, StormPhase, StormStatus};

/// Version of the schema that this build writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What an [`Event`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// First line of a stream.
    Hello,
    /// A process that was already running when tracing began; or one whose birth was missed, which says `inferred`, and is
    /// told again once more than its id is known.
    Process,
    /// A process was created.
    Fork,
    /// A process replaced its image.
    Exec,
    /// A process tried to replace its image, and the kernel refused (on request).
    ExecFailed,
    /// A process ended.
    Exit,
    /// A process got another parent, because its own ended.
    Reparent,
    /// A dead process was waited for (on request).
    Reap,
    /// A dead process has not been waited for in a while (on request).
    Zombie,
    /// A thread was created (on request).
    ThreadStart,
    /// A thread ended while its process lives on (on request).
    ThreadExit,
    /// A container was created: its control group was made. The process is the one that did it.
    ContainerCreate,
    /// A container's first process became its entrypoint.
    ContainerStart,
    /// A program was put into a container that runs.
    ContainerExec,
    /// A container ended: its first process, and then all others.
    ContainerExit,
    /// A container's control group was removed.
    ContainerRemove,
    /// Records were lost here.
    Lost,
    /// What a process and its descendants spawned above a rate (on request).
    Storm,
    /// Last line of a stream.
    Bye,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::Hello,
        Self::Process,
        Self::Fork,
        Self::Exec,
        Self::ExecFailed,
        Self::Exit,
        Self::Reparent,
        Self::Reap,
        Self::Zombie,
        Self::ThreadStart,
        Self::ThreadExit,
        Self::ContainerCreate,
        Self::ContainerStart,
        Self::ContainerExec,
        Self::ContainerExit,
        Self::ContainerRemove,
        Self::Lost,
        Self::Storm,
        Self::Bye,
    ];

    /// The name it has in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Process => "process",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::ExecFailed => "exec_failed",
            Self::Exit => "exit",
            Self::Reparent => "reparent",
            Self::Reap => "reap",
            Self::Zombie => "zombie",
            Self::ThreadStart => "thread_start",
            Self::ThreadExit => "thread_exit",
            Self::ContainerCreate => "container_create",
            Self::ContainerStart => "container_start",
            Self::ContainerExec => "container_exec",
            Self::ContainerExit => "container_exit",
            Self::ContainerRemove => "container_remove",
            Self::Lost => "lost",
            Self::Storm => "storm",
            Self::Bye => "bye",
        }
    }

    /// True for the lines that frame and annotate a stream, which no filter takes away: `hello`, `lost`, `storm`, `bye`.
    pub const fn is_framing(self) -> bool {
        matches!(self, Self::Hello | Self::Lost | Self::Storm | Self::Bye)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Schema version, 1.
    pub v: u32,
    /// What it tells of.
    #[serde(rename = "event")]
    pub kind: Kind,
    /// 0, 1, 2 … of this stream; a hole is what a filter left out.
    pub seq: u64,
    /// When, in UTC: RFC 3339 with nanoseconds.
    pub time: Timestamp,
    /// `CLOCK_BOOTTIME` of the event, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ns: Option<u64>,
    /// CPU on which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The process it is about, as it is after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How much of argv there is (exec, exec_failed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_info: Option<ArgvInfo>,
    /// Details of an exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// What a process tried to run, and why it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_failed: Option<Box<ExecFailed>>,
    /// How a process or thread ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Box<Exit>>,
    /// Who became the parent, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparent: Option<Reparent>,
    /// Who waited for a dead process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reap: Option<Reap>,
    /// Who has not waited for a dead process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombie: Option<Zombie>,
    /// The container it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// What was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// What a storm spawned (with `--collapse` or `--storm-alert`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Box<Storm>>,
    /// The process's ancestors, nearest first (with `--ancestors`, and for a storm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestors: Option<Vec<Ancestor>>,
    /// What is being traced, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Box<Hello>>,
    /// What became of it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bye: Option<Box<Bye>>,
}

impl Event {
    /// An event of a kind, with nothing else told yet.
    pub fn new(kind: Kind, time: Timestamp) -> Self {
        Self {
            v: SCHEMA_VERSION,
            kind,
            seq: 0,
            time,
            boot_ns: None,
            cpu: None,
            process: None,
            argv_info: None,
            exec: None,
            exec_failed: None,
            exit: None,
            reparent: None,
            reap: None,
            zombie: None,
            container: None,
            lost: None,
            storm: None,
            ancestors: None,
            hello: None,
            bye: None,
        }
    }

    /// True if the kernel did not tell it: it was found out after a loss. (A process of which only that much is known says
    /// `inferred` in all its events.)
    pub fn is_inferred(&self) -> bool {
        match self.kind {
            Kind::Process => self.process.as_ref().is_some_and(|process| process.inferred),
            Kind::Exec => self.exec.is_none(),
            Kind::Exit => self.exit.as_ref().is_none_or(|exit| exit.code.is_none() && exit.signal.is_none()),
            _ => false,
        }
    }
}

/// Where the knowledge of a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Seen being born by the kernel side.
    Kernel,
    /// Found in `/proc`.
    Procfs,
}

/// A process. Strings are shared: cloning one costs a few reference counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// `(starttime << 22) | pid` in 16 hex digits; `starttime` is field 22 of `/proc/PID/stat`.
    pub id: ProcessId,
    /// Thread-group id, in the initial pid namespace as are all ids without `ns`.
    pub pid: u32,
    /// Thread id, when it is not the pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Its pid in each pid namespace, outermost first, when it is in a nested one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pids: Option<Arc<[u32]>>,
    /// Pid of the current parent, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Id of the current parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ProcessId>,
    /// Id of the process that forked it, when that is not the current parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_id: Option<ProcessId>,
    /// Real user id, in the initial user namespace as are all user and group ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Real group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Effective user id, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// Effective group id, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egid: Option<u32>,
    /// Audit login uid, when one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<u32>,
    /// Process group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgid: Option<u32>,
    /// Controlling terminal as `ps` names it, e.g. `pts/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<Arc<str>>,
    /// Name (`task_struct.comm`, at most 15 bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// The bytes of `comm` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm_b64: Option<Arc<str>>,
    /// Path of the executable, from the root of its mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
    /// The bytes of `exe` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_b64: Option<Arc<str>>,
    /// Arguments; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arc<[Arc<str>]>>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Arc<[Arc<str>]>>,
    /// Working directory at its last exec (or when it was found in `/proc`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Arc<str>>,
    /// The bytes of `cwd` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_b64: Option<Arc<str>>,
    /// When it was created, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// How often it has exec'd since tracing began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub execs: u32,
    /// Path of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Arc<str>>,
    /// systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Arc<str>>,
    /// Container id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// How it came into its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// True for a kernel thread.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kthread: bool,
    /// True for a process that was dead but not yet waited for when tracing began.
    #[serde(default, skip_serializing_if = "is_false")]
    pub zombie: bool,
    /// Where this knowledge comes from.
    pub source: Source,
    /// True when reconstructed after a loss or from a later event of the same process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inferred: bool,
}

impl Process {
    /// A process of which no more is known than which one it is.
    pub fn new(id: ProcessId, source: Source) -> Self {
        Self {
            id,
            pid: id.pid(),
            tid: None,
            ns_pids: None,
            ppid: None,
            parent_id: None,
            creator_id: None,
            uid: None,
            gid: None,
            euid: None,
            egid: None,
            loginuid: None,
            sid: None,
            pgid: None,
            tty: None,
            comm: None,
            comm_b64: None,
            exe: None,
            exe_b64: None,
            argv: None,
            argv_b64: None,
            cwd: None,
            cwd_b64: None,
            start_time: None,
            execs: 0,
            cgroup: None,
            unit: None,
            container: None,
            origin: None,
            kthread: false,
            zombie: false,
            source,
            inferred: false,
        }
    }
}

/// How much of a captured field there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Cut at the configured limit.
    Cut,
    /// It could not be read.
    Unreadable,
    /// Cut shorter than configured, because the ring had no room for more.
    Degraded,
}

/// How much of argv there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArgvInfo {
    /// Number of arguments the process was given (of a failed exec that is not whole: that were looked at, 256 at most).
    pub argc: u32,
    /// Bytes of all of them, NULs included (likewise).
    pub bytes: u32,
    /// Bytes of them in `argv`.
    pub captured: u32,
    /// True when `argv` is not whole.
    pub truncated: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Capture>,
}

/// Details of an exec.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// Path as it was given to execve (for execveat on a descriptor: `/dev/fd/N`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Arc<str>>,
    /// The bytes of `filename` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_b64: Option<Arc<str>>,
    /// Interpreter that runs it (for `#!` and binfmt_misc; the last one where they nest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Arc<str>>,
    /// True when the executable is a memfd.
    #[serde(default, skip_serializing_if = "is_false")]
    pub memfd: bool,
    /// True when the executable's name was already unlinked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// True when the effective user or group id was changed by the exec.
    #[serde(default, skip_serializing_if = "is_false")]
    pub setid: bool,
    /// Effective user id before, when the exec changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_euid: Option<u32>,
    /// Effective group id before, when the exec changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_egid: Option<u32>,
    /// True when the exec gained permitted capabilities (setuid root, file capabilities).
    #[serde(default, skip_serializing_if = "is_false")]
    pub caps_gained: bool,
    /// Executable before, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_exe: Option<Arc<str>>,
    /// Thread that called exec, when it was not the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    /// Set when `process.exe` is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_capture: Option<Capture>,
    /// Set when `process.cwd` is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_capture: Option<Capture>,
}

/// An exec that failed: what was asked for, and what the kernel said. `process` is who asked, as it still is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExecFailed {
    /// Why: the name of the error, e.g. `ENOENT`.
    pub errno: String,
    /// Its number on this machine.
    pub code: i32,
    /// Path as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Arc<str>>,
    /// The bytes of `filename` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_b64: Option<Arc<str>>,
    /// Set when `filename` is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_capture: Option<Capture>,
    /// Arguments it would have run with; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arc<[Arc<str>]>>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Arc<[Arc<str>]>>,
    /// Descriptor of the directory that `filename` is relative to, or (`filename` empty) of the file (execveat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirfd: Option<i32>,
    /// Thread that called exec, when it was not the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    /// How many attempts this line stands for, when there are several (with `--exec-failed=summary`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// The paths of these attempts, in their order, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<Arc<str>>>,
}

/// How a process or thread ended.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Exit code (`WEXITSTATUS`), when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Signal that ended it, e.g. `SIGKILL`, when it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// True when a core was dumped (`WCOREDUMP`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub core: bool,
    /// Time since it was created, in nanoseconds (to the clock tick for a process found in `/proc`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    /// Who or what killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What it used, as `wait4()` reports it: all its threads and the children it waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it used itself, without the children it waited for; absent when it waited for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_usage: Option<Usage>,
    /// True when it had more threads at its end than could be summed: the usage is short of some.
    #[serde(default, skip_serializing_if = "is_false")]
    pub usage_partial: bool,
}

impl Exit {
    /// What the process used itself.
    pub fn own(&self) -> Option<&Usage> {
        self.own_usage.as_ref().or(self.usage.as_ref())
    }

    /// True for an end that is not exit code 0.
    pub fn failed(&self) -> bool {
        self.signal.is_some() || self.code.is_some_and(|code| code != 0)
    }
}

/// Who or what sent the signal that ended a process.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Pid of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pid: Option<u32>,
    /// Id of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<ProcessId>,
    /// Name of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_comm: Option<Arc<str>>,
    /// Real user id of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_uid: Option<u32>,
    /// True when the kernel sent it by itself (a fault, a timer, a limit).
    #[serde(default, skip_serializing_if = "is_false")]
    pub kernel: bool,
    /// True when the OOM killer chose this process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
}

/// Resources used.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// CPU time in user mode, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// Largest resident set, bytes.
    pub max_rss_bytes: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Bytes read from storage (`/proc/PID/io` `read_bytes`; always with waited-for children).
    pub read_bytes: u64,
    /// Bytes sent to storage (always with waited-for children).
    pub write_bytes: u64,
    /// Times it gave up the CPU by itself.
    pub voluntary_switches: u64,
    /// Times the CPU was taken from it.
    pub involuntary_switches: u64,
}

/// Why a process got another parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReparentReason {
    /// Another thread of the same parent process took over.
    Thread,
    /// The nearest living ancestor that is a child subreaper (`PR_SET_CHILD_SUBREAPER`).
    Subreaper,
    /// The init of the pid namespace.
    Init,
}

/// A change of parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reparent {
    /// The parent that ended.
    pub from_id: ProcessId,
    /// The new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_id: Option<ProcessId>,
    /// Its pid.
    pub to_pid: u32,
    /// Why this one.
    pub reason: ReparentReason,
}

/// The end of a zombie: the kernel let go of it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Reap {
    /// How long it was dead by then, nanoseconds; the kernel tells up to some tens of milliseconds late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombie_ns: Option<u64>,
    /// Pid of its last parent: who waited for it, or lets the kernel do without (`SIGCHLD` ignored).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_pid: Option<u32>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_id: Option<ProcessId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_comm: Option<Arc<str>>,
}

/// A process that is dead for some time, and was not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Zombie {
    /// How long, nanoseconds; at least so long for one that was found dead.
    pub zombie_ns: u64,
    /// Pid of its current parent, which has to wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ProcessId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_comm: Option<Arc<str>>,
    /// How many dead children this parent has left unreaped, this one included.
    pub unreaped: u64,
}

/// What was lost, where, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// CPU whose records are missing.
    pub cpu: u32,
    /// Missing records in all.
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
    /// Boot time of the last record of this CPU before the gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_boot_ns: Option<u64>,
    /// Boot time of the first one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_boot_ns: Option<u64>,
}

/// One of a process's ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Its id.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
}

/// First line: what is being traced, and how.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
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
}

/// Last line: what became of it all. `seen` = `emitted` + `filtered` + `folded` + `lost`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Bye {
    /// Events there were: those that became lines, those that a filter left out, those that
    /// are only in `storm` lines, and those lost.
    pub seen: u64,
    /// Lines of process events written (`hello`, `lost`, `storm` and `bye` are not counted).
    pub emitted: u64,
    /// Events left out by a filter.
    pub filtered: u64,
    /// Events that are only in `storm` lines (with `--collapse`): the sum of their `folded`.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub folded: u64,
    /// Storms that began.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub storms: u64,
    /// Records lost for want of room.
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
    /// Processes, execs and exits among them that the kernel did not tell but that were found out after a loss.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub inferred: u64,
    /// Execs whose argv was cut short for want of room (their `argv_info` says so too).
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub argv_degraded: u64,
    /// Processes that `tracer run` could not follow: more were alive at once than it can. What they did is not told.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub untracked: u64,
    /// Time traced, nanoseconds.
    pub duration_ns: u64,
    /// tracer's own CPU time in user mode, nanoseconds.
    pub user_ns: u64,
    /// tracer's own CPU time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// tracer's own largest resident set, bytes.
    pub max_rss_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero64(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_false(b: &bool) -> bool {
    !*b
}
