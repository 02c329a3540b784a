//! What is told of an exec.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::record::text::Arguments;

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
    /// How much of argv was captured. In JSON it stands beside `exec`.
    #[serde(skip)]
    pub argv_info: Option<ArgvInfo>,
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
    /// How much of argv was captured. In JSON it stands beside `exec_failed`.
    #[serde(skip)]
    pub argv_info: Option<ArgvInfo>,
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
    pub argv: Option<Arguments>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Arguments>,
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
