//! The image of a process: what it runs, and where.

use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::record::text::{Arguments, Argv, Text};

/// Set by exec and inherited by fork. Events and table share one value among all processes with the same image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Image {
    /// Name of the process, which is that of its leader: `task_struct.comm`, at most 15 bytes. `/proc` may show longer
    /// names for kernel threads.
    #[serde(default)]
    pub comm: Option<Arc<str>>,
    /// The bytes of `comm` in base64, when it is not UTF-8.
    #[serde(default)]
    pub comm_b64: Option<Arc<str>>,
    /// Path of the executable, from the root of its mount namespace.
    #[serde(default)]
    pub exe: Option<Arc<str>>,
    /// The bytes of `exe` in base64, when it is not UTF-8.
    #[serde(default)]
    pub exe_b64: Option<Arc<str>>,
    /// True if the executable had been deleted when tracing found the process. Absent for programs that were executed later:
    /// see `exec.deleted`.
    #[serde(default)]
    pub exe_deleted: bool,
    /// Arguments; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default)]
    pub argv: Option<Arguments>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default)]
    pub argv_b64: Option<Arguments>,
    /// Working directory at its last exec, or when it was found in `/proc`.
    #[serde(default)]
    pub cwd: Option<Arc<str>>,
    /// The bytes of `cwd` in base64, when it is not UTF-8.
    #[serde(default)]
    pub cwd_b64: Option<Arc<str>>,
    /// True if the working directory had been deleted when tracing found the process.
    #[serde(default)]
    pub cwd_deleted: bool,
}

#[doc(hidden)]
impl Image {
    /// Returns an image from its known parts.
    pub fn new(comm: Option<Text>, exe: Option<Text>, cwd: Option<Text>, argv: Option<Argv>) -> Self {
        let both = |text: Option<Text>| text.map_or((None, None), |text| (Some(text.lossy), text.b64));
        let ((comm, comm_b64), (exe, exe_b64), (cwd, cwd_b64)) = (both(comm), both(exe), both(cwd));
        let (argv, argv_b64) = argv.map_or((None, None), |argv| (Some(argv.lossy), argv.b64));
        Self { comm, comm_b64, exe, exe_b64, argv, argv_b64, cwd, cwd_b64, ..Self::default() }
    }

    /// Returns the image of a process of which nothing is known.
    pub fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Image>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Sets the name.
    pub fn set_comm(&mut self, comm: Text) {
        (self.comm, self.comm_b64) = (Some(comm.lossy), comm.b64);
    }

    /// Sets the path of the executable.
    pub fn set_exe(&mut self, exe: Text) {
        (self.exe, self.exe_b64) = (Some(exe.lossy), exe.b64);
    }

    /// Sets the arguments.
    pub fn set_argv(&mut self, argv: Argv) {
        (self.argv, self.argv_b64) = (Some(argv.lossy), argv.b64);
    }

    /// Sets the working directory.
    pub fn set_cwd(&mut self, cwd: Text) {
        (self.cwd, self.cwd_b64) = (Some(cwd.lossy), cwd.b64);
    }

    /// Fills in what is missing from another image.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        if self.comm.is_none() {
            (self.comm, self.comm_b64) = (other.comm.clone(), other.comm_b64.clone());
        }
        if self.exe.is_none() {
            (self.exe, self.exe_b64) = (other.exe.clone(), other.exe_b64.clone());
            self.exe_deleted = other.exe_deleted;
        }
        if self.cwd.is_none() {
            (self.cwd, self.cwd_b64) = (other.cwd.clone(), other.cwd_b64.clone());
            self.cwd_deleted = other.cwd_deleted;
        }
        if self.argv.is_none() {
            (self.argv, self.argv_b64) = (other.argv.clone(), other.argv_b64.clone());
        }
        self
    }
}
