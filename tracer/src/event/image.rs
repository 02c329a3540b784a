//! What is told of the image of a process: what it runs, and where.

use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::record::text::{Arguments, Argv, Text};

/// What an exec gives a process and a fork hands down. All that have it in common share it, events and table alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Image {
    /// Name of the process, which is that of its leader: `task_struct.comm`, at most 15 bytes. Kernel threads too, whose names
    /// `/proc` may show longer.
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
    /// Arguments; bytes that are not UTF-8 show as U+FFFD.
    #[serde(default)]
    pub argv: Option<Arguments>,
    /// The bytes of each argument in base64, when any is not UTF-8.
    #[serde(default)]
    pub argv_b64: Option<Arguments>,
    /// Working directory at its last exec (or when it was found in `/proc`).
    #[serde(default)]
    pub cwd: Option<Arc<str>>,
    /// The bytes of `cwd` in base64, when it is not UTF-8.
    #[serde(default)]
    pub cwd_b64: Option<Arc<str>>,
}

#[doc(hidden)]
impl Image {
    /// What is known of an image.
    pub fn new(comm: Option<Text>, exe: Option<Text>, cwd: Option<Text>, argv: Option<Argv>) -> Self {
        let both = |text: Option<Text>| text.map_or((None, None), |text| (Some(text.lossy), text.b64));
        let ((comm, comm_b64), (exe, exe_b64), (cwd, cwd_b64)) = (both(comm), both(exe), both(cwd));
        let (argv, argv_b64) = argv.map_or((None, None), |argv| (Some(argv.lossy), argv.b64));
        Self { comm, comm_b64, exe, exe_b64, argv, argv_b64, cwd, cwd_b64 }
    }

    /// The image of a process of which nothing is known.
    pub fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Image>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Takes a name.
    pub fn set_comm(&mut self, comm: Text) {
        (self.comm, self.comm_b64) = (Some(comm.lossy), comm.b64);
    }

    /// Takes the path of an executable.
    pub fn set_exe(&mut self, exe: Text) {
        (self.exe, self.exe_b64) = (Some(exe.lossy), exe.b64);
    }

    /// Takes arguments.
    pub fn set_argv(&mut self, argv: Argv) {
        (self.argv, self.argv_b64) = (Some(argv.lossy), argv.b64);
    }

    /// Takes a working directory.
    pub fn set_cwd(&mut self, cwd: Text) {
        (self.cwd, self.cwd_b64) = (Some(cwd.lossy), cwd.b64);
    }

    /// Takes what it has not itself from another.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        if self.comm.is_none() {
            (self.comm, self.comm_b64) = (other.comm.clone(), other.comm_b64.clone());
        }
        if self.exe.is_none() {
            (self.exe, self.exe_b64) = (other.exe.clone(), other.exe_b64.clone());
        }
        if self.cwd.is_none() {
            (self.cwd, self.cwd_b64) = (other.cwd.clone(), other.cwd_b64.clone());
        }
        if self.argv.is_none() {
            (self.argv, self.argv_b64) = (other.argv.clone(), other.argv_b64.clone());
        }
        self
    }
}
