//! What is told of a process.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Image, Origin, ProcessContainer};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;

/// Where the knowledge of a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Source")]
pub enum Provenance {
    /// Seen being born by the kernel side.
    Kernel,
    /// Found in `/proc`.
    Procfs,
}

/// A process.
// What it has in common with others is shared: cloning one costs a few reference counts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Process {
    /// `(starttime << 22) | pid` in 16 hex digits; `starttime` is field 22 of `/proc/PID/stat`.
    pub id: ProcessId,
    /// Thread-group id, in the initial pid namespace as are all ids without `ns`.
    pub pid: u32,
    /// Thread id, when it is not the pid.
    #[serde(default)]
    pub tid: Option<u32>,
    /// Its pid in each pid namespace, outermost first, when it is in a nested one.
    #[serde(default)]
    pub ns_pids: Option<Arc<[u32]>>,
    /// Pid of the current parent, 0 for none.
    #[serde(default)]
    pub ppid: Option<u32>,
    /// Id of the current parent.
    #[serde(default)]
    pub parent_id: Option<ProcessId>,
    /// Id of the process that forked it, when that is not the current parent.
    #[serde(default)]
    pub creator_id: Option<ProcessId>,
    /// Real user id, in the initial user namespace as are all user and group ids.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Real group id.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Effective user id, when it differs.
    #[serde(default)]
    pub euid: Option<u32>,
    /// Effective group id, when it differs.
    #[serde(default)]
    pub egid: Option<u32>,
    /// Audit login uid, when one is set.
    #[serde(default)]
    pub loginuid: Option<u32>,
    /// Session id.
    #[serde(default)]
    pub sid: Option<u32>,
    /// Process group id.
    #[serde(default)]
    pub pgid: Option<u32>,
    /// Controlling terminal as `ps` names it, e.g. `pts/0`.
    #[serde(default)]
    pub tty: Option<Arc<str>>,
    /// What it runs.
    #[serde(flatten)]
    pub image: Arc<Image>,
    /// When it was created, in UTC.
    #[serde(default)]
    pub start_time: Option<Timestamp>,
    /// How often it has exec'd since tracing began.
    #[serde(default)]
    pub execs: u32,
    /// Path of its control group.
    #[serde(default)]
    pub cgroup: Option<Arc<str>>,
    /// systemd unit.
    #[serde(default)]
    pub unit: Option<Arc<str>>,
    /// The container that the process is in.
    #[serde(default)]
    pub container: Option<Arc<ProcessContainer>>,
    /// How it came into its container.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// True for a kernel thread.
    #[serde(default)]
    pub kthread: bool,
    /// True for a process that was dead but not yet waited for when tracing began.
    #[serde(default)]
    pub zombie: bool,
    /// Where this knowledge comes from.
    pub source: Provenance,
    /// True when reconstructed after a loss or from a later event of the same process.
    #[serde(default)]
    pub inferred: bool,
}

impl Process {
    /// A process of which no more is known than which one it is.
    pub fn new(id: ProcessId, source: Provenance) -> Self {
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
            image: Image::none(),
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

    /// Id of the container that the process is in.
    pub fn container_id(&self) -> Option<&Arc<str>> {
        self.container.as_ref().map(|container| &container.id)
    }

    /// Its image, to be changed for it alone.
    #[doc(hidden)]
    pub fn image_mut(&mut self) -> &mut Image {
        Arc::make_mut(&mut self.image)
    }
}

/// By hand: for what is flattened serde looks at each key anew, in each line (crate::sink::json).
impl Serialize for Process {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Taken apart, so that no field can be forgotten.
        #[rustfmt::skip]
        let Self {
            id, pid, tid, ns_pids, ppid, parent_id, creator_id, uid, gid, euid, egid, loginuid, sid, pgid, tty, image,
            start_time, execs, cgroup, unit, container, origin, kthread, zombie, source, inferred,
        } = self;
        let Image { comm, comm_b64, exe, exe_b64, argv, argv_b64, cwd, cwd_b64 } = &**image;
        let mut keys = serializer.serialize_struct("Process", MOST_KEYS)?;
        let to = &mut keys;
        to.serialize_field("id", id)?;
        to.serialize_field("pid", pid)?;
        known(to, "tid", tid)?;
        known(to, "ns_pids", ns_pids)?;
        known(to, "ppid", ppid)?;
        known(to, "parent_id", parent_id)?;
        known(to, "creator_id", creator_id)?;
        known(to, "uid", uid)?;
        known(to, "gid", gid)?;
        known(to, "euid", euid)?;
        known(to, "egid", egid)?;
        known(to, "loginuid", loginuid)?;
        known(to, "sid", sid)?;
        known(to, "pgid", pgid)?;
        known(to, "tty", tty)?;
        known(to, "comm", comm)?;
        known(to, "comm_b64", comm_b64)?;
        known(to, "exe", exe)?;
        known(to, "exe_b64", exe_b64)?;
        known(to, "argv", argv)?;
        known(to, "argv_b64", argv_b64)?;
        known(to, "cwd", cwd)?;
        known(to, "cwd_b64", cwd_b64)?;
        known(to, "start_time", start_time)?;
        known(to, "execs", &(*execs != 0).then_some(execs))?;
        known(to, "cgroup", cgroup)?;
        known(to, "unit", unit)?;
        known(to, "container", container)?;
        known(to, "origin", origin)?;
        known(to, "kthread", &kthread.then_some(true))?;
        known(to, "zombie", &zombie.then_some(true))?;
        to.serialize_field("source", source)?;
        known(to, "inferred", &inferred.then_some(true))?;
        keys.end()
    }
}

/// Keys of a process, if all were known. JSON has no use for the number.
const MOST_KEYS: usize = 33;

/// A key that is left out where nothing is known.
#[expect(clippy::ref_option, reason = "fields are")]
#[inline]
pub(super) fn known<S: SerializeStruct, T: Serialize>(
    to: &mut S,
    key: &'static str,
    value: &Option<T>,
) -> Result<(), S::Error> {
    match value {
        Some(value) => to.serialize_field(key, value),
        None => Ok(()),
    }
}
