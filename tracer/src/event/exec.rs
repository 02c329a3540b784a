//! Details of execs and failed execs.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::record::text::Arguments;

/// Why a captured field is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Cut at the configured limit.
    Cut,
    /// It could not be read.
    Unreadable,
    /// Cut below the configured limit, because the ring was almost full.
    Degraded,
}

/// How much of argv was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArgvInfo {
    /// Number of arguments passed to the process. For a failed exec with an incomplete `argv`: the number that was
    /// read, 256 at most.
    pub argc: u32,
    /// Bytes of all arguments, NULs included. The same limit applies to a failed exec.
    pub bytes: u32,
    /// Bytes of all arguments in `argv`.
    pub captured: u32,
    /// True when `argv` is incomplete.
    pub truncated: bool,
    /// Why it is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Capture>,
}

/// Details of an exec.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// How much of argv was captured. In JSON this is a key next to `exec`.
    #[serde(skip)]
    pub argv_info: Option<ArgvInfo>,
    /// Path as passed to execve. For execveat on a descriptor: `/dev/fd/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Arc<str>>,
    /// The bytes of `filename` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_b64: Option<Arc<str>>,
    /// Interpreter that runs it (for `#!` and binfmt_misc). The last one, if they are nested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Arc<str>>,
    /// True when the executable is a memfd.
    #[serde(default, skip_serializing_if = "is_false")]
    pub memfd: bool,
    /// True when the executable was already unlinked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// True when the exec changed the effective user or group id.
    #[serde(default, skip_serializing_if = "is_false")]
    pub setid: bool,
    /// Previous effective user id, when the exec changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_euid: Option<u32>,
    /// Previous effective group id, when the exec changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_egid: Option<u32>,
    /// True when the exec gained permitted capabilities (setuid root, file capabilities).
    #[serde(default, skip_serializing_if = "is_false")]
    pub caps_gained: bool,
    /// Previous executable, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_exe: Option<Arc<str>>,
    /// Thread that called exec, when it was not the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    /// Set when `process.exe` is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_capture: Option<Capture>,
    /// Set when `process.cwd` is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_capture: Option<Capture>,
}

/// A failed exec: its parameters and the kernel's error. `process` is the caller, which is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExecFailed {
    /// How much of argv was captured. In JSON this is a key next to `exec_failed`.
    #[serde(skip)]
    pub argv_info: Option<ArgvInfo>,
    /// Name of the error, e.g. `ENOENT`.
    pub errno: String,
    /// Number of the error on this machine.
    pub code: i32,
    /// Path as passed to execve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Arc<str>>,
    /// The bytes of `filename` in base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_b64: Option<Arc<str>>,
    /// Set when `filename` is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename_capture: Option<Capture>,
    /// Arguments as passed to execve; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Arguments>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Arguments>,
    /// Descriptor of the directory that `filename` is relative to. If `filename` is empty, descriptor of the file
    /// (execveat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirfd: Option<i32>,
    /// Thread that called exec, when it was not the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    /// How many attempts this line sums up, when there are several (with `--exec-failed=summary`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// The paths of these attempts in order, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<Arc<str>>>,
}
