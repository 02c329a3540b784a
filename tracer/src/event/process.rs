//! The process that an event is about.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Image, Origin, ProcessContainer};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;

/// How a process became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Source")]
pub enum Provenance {
    /// The kernel reported its fork.
    Kernel,
    /// Found in `/proc`.
    Procfs,
}

/// A process.
// Shared data: a clone costs a few reference counts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Process {
    /// `(starttime << 22) pid` in 16 hex digits; `starttime` is field 22 of `/proc/PID/stat`.
    pub id: ProcessId,
    /// Thread-group id. Like all pids outside `ns_pids`, it is in the initial pid namespace.
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
    /// Real user id. Like all user and group ids, it is in the initial user namespace.
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
    /// Number of its execs since tracing began.
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
    /// How it entered its container.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// True for a kernel thread.
    #[serde(default)]
    pub kthread: bool,
    /// True for a process that was a zombie when tracing began.
    #[serde(default)]
    pub zombie: bool,
    /// How the process became known.
    pub source: Provenance,
    /// True when reconstructed after a loss or from a later event of the same process.
    #[serde(default)]
    pub inferred: bool,
}

impl Process {
    /// Returns a process with nothing but an identity.
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

    /// Returns the id of the container that the process is in.
    pub fn container_id(&self) -> Option<&Arc<str>> {
        self.container.as_ref().map(|container| &container.id)
    }

    /// Returns its image for changes, unshared.
    #[doc(hidden)]
    pub fn image_mut(&mut self) -> &mut Image {
        Arc::make_mut(&mut self.image)
    }
}

/// Hand-written: for flattened fields serde compares every key again in each line (crate::sink::json).
impl Serialize for Process {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Destructured, so that no field can be forgotten.
        #[rustfmt::skip]
        let Self {
            id, pid, tid, ns_pids, ppid, parent_id, creator_id, uid, gid, euid, egid, loginuid, sid, pgid, tty, image,
            start_time, execs, cgroup, unit, container, origin, kthread, zombie, source, inferred,
        } = self;
        let Image { comm, comm_b64, exe, exe_b64, exe_deleted, argv, argv_b64, cwd, cwd_b64, cwd_deleted } = &**image;
        let mut keys = serializer.serialize_struct("Process", MAX_KEYS)?;
        let to = &mut keys;
        to.serialize_field("id", id)?;
        to.serialize_field("pid", pid)?;
        write_known(to, "tid", tid)?;
        write_known(to, "ns_pids", ns_pids)?;
        write_known(to, "ppid", ppid)?;
        write_known(to, "parent_id", parent_id)?;
        write_known(to, "creator_id", creator_id)?;
        write_known(to, "uid", uid)?;
        write_known(to, "gid", gid)?;
        write_known(to, "euid", euid)?;
        write_known(to, "egid", egid)?;
        write_known(to, "loginuid", loginuid)?;
        write_known(to, "sid", sid)?;
        write_known(to, "pgid", pgid)?;
        write_known(to, "tty", tty)?;
        write_known(to, "comm", comm)?;
        write_known(to, "comm_b64", comm_b64)?;
        write_known(to, "exe", exe)?;
        write_known(to, "exe_b64", exe_b64)?;
        write_known(to, "exe_deleted", &exe_deleted.then_some(true))?;
        write_known(to, "argv", argv)?;
        write_known(to, "argv_b64", argv_b64)?;
        write_known(to, "cwd", cwd)?;
        write_known(to, "cwd_b64", cwd_b64)?;
        write_known(to, "cwd_deleted", &cwd_deleted.then_some(true))?;
        write_known(to, "start_time", start_time)?;
        write_known(to, "execs", &(*execs != 0).then_some(execs))?;
        write_known(to, "cgroup", cgroup)?;
        write_known(to, "unit", unit)?;
        write_known(to, "container", container)?;
        write_known(to, "origin", origin)?;
        write_known(to, "kthread", &kthread.then_some(true))?;
        write_known(to, "zombie", &zombie.then_some(true))?;
        to.serialize_field("source", source)?;
        write_known(to, "inferred", &inferred.then_some(true))?;
        keys.end()
    }
}

/// Maximum number of keys in a process. JSON does not need it.
const MAX_KEYS: usize = 35;

/// Writes a key, unless its value is unknown.
#[expect(clippy::ref_option, reason = "fields are")]
#[inline]
pub(super) fn write_known<S: SerializeStruct, T: Serialize>(
    to: &mut S,
    key: &'static str,
    value: &Option<T>,
) -> Result<(), S::Error> {
    match value {
        Some(value) => to.serialize_field(key, value),
        None => Ok(()),
    }
}
