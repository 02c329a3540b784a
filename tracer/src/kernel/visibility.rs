//! Lists what tracer cannot see with its privileges, though tracing works.

use super::capabilities::{self, Capabilities, Capability};
use super::hierarchy::Hierarchy;
use crate::sys::procfs::Mounted;

/// Something that tracer cannot see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// What is not seen.
    pub what: What,
    /// The reason in a few words.
    pub why: String,
    /// What helps.
    pub remedy: String,
}

/// What may not be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Other users' processes that already run.
    Processes,
    /// Executable and working directory of those.
    Images,
    /// Names and images of containers.
    Containers,
    /// Paths of control groups from the root of their hierarchy.
    Paths,
}

impl What {
    /// Returns it in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Processes => "other users' running processes",
            Self::Images => "executable and working directory of other users' running processes",
            Self::Containers => "names and images of containers",
            Self::Paths => "paths of control groups from the root of their hierarchy",
        }
    }
}

/// Returns everything that this process cannot see now.
pub fn unseen() -> Vec<Unseen> {
    let held = Capabilities::current();
    let lacking = |what, capability: Capability, why: &str| {
        let why = format!("{why} without {}", capability.name);
        (!held.has(capability)).then(|| Unseen { what, why, remedy: held.remedy(capability) })
    };
    let hidden = if Mounted::now().hides_others {
        lacking(What::Processes, capabilities::SYS_PTRACE, "/proc hides them (hidepid)")
    } else {
        None
    };
    let outside = Unseen {
        what: What::Paths,
        why: "this is a cgroup namespace that shows a part of the hierarchy".to_owned(),
        remedy: "run tracer outside of it, e.g. with `nsenter -t 1 -C -m` or `docker run --cgroupns=host`".to_owned(),
    };
    [
        hidden,
        lacking(What::Images, capabilities::SYS_PTRACE, "/proc does not show them"),
        lacking(What::Containers, capabilities::DAC_READ_SEARCH, "they are in files that only root can read,"),
        (!Hierarchy::of_proc().is_placed()).then_some(outside),
    ]
    .into_iter()
    .flatten()
    .collect()
}
