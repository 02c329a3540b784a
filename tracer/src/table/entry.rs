//! What the table stores of one process, and its conversion to [`event::Process`].

use std::sync::Arc;

use tracer_common::record as raw;

use super::images::ImageId;
use super::store::Slot;
use crate::enrich::Cgroup;
use crate::event::id::{ProcessId, TICK_NS};
use crate::event::time::Timestamp;
use crate::event::{Image, Origin, Process, ProcessContainer, Provenance};

/// The parent of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// Not known.
    Unknown,
    /// None: the kernel started it (`init`, `kthreadd`).
    None,
    /// A process, by its public id and its slot. The slot is None once the table has forgotten the parent, and in
    /// entries of exited processes.
    Process(ProcessId, Option<Slot>),
}

/// The process that inherits the children of an exited process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// Unknown: the exit was lost, or its record does not name the heir.
    Unknown,
    /// Not yet known: the process was found exiting, or its reaper is too far up for the kernel side. It keeps its
    /// children until a record or a new read of `/proc` shows their parent.
    Later,
    /// Nobody: the init of a pid namespace kills every process in it (`zap_pid_ns_processes`, kernel/pid_namespace.c).
    /// They stay its children until they have exited.
    Nobody,
    /// A process, as the exit record says, and whether it is a child subreaper.
    Process(raw::TaskRef, bool),
}

/// How a process exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// `CLOCK_BOOTTIME`, in nanoseconds. If the exit was not seen, the time when it was noticed.
    pub(super) boot_ns: u64,
    /// As `wait()` returns it. None if the exit was not seen.
    pub(super) status: Option<u32>,
    /// Whether the exit was reported. False for a process that was found as a zombie.
    pub(super) reported: bool,
    pub(super) heir: Heir,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// `CLOCK_BOOTTIME` at creation, in nanoseconds. Rounded down to the tick while not `exact`.
    pub(super) start_ns: u64,
    /// `start_ns` comes from the kernel side, not from `/proc`.
    pub(super) exact: bool,
    /// Creation time in UTC, the same in every event: it is kept when `start_ns` becomes exact or the wall clock is
    /// set. 0 if unknown.
    pub(super) start_utc_ns: i64,
    pub(super) source: Provenance,
    pub(super) inferred: bool,
    /// Only its identity is known: its earlier records were filtered out
    /// ([`Table::forget_unmatched`](super::Table::forget_unmatched)).
    pub(super) bare: bool,
    pub(super) kthread: bool,
    pub(super) zombie: bool,
    /// Was chosen as reaper because it is a child subreaper.
    pub(super) subreaper: bool,
    pub(super) execs: u32,
    /// `CLOCK_BOOTTIME` of its last exec, in nanoseconds. Anything read earlier is about another image. 0 for none.
    pub(super) exec_ns: u64,
    pub(super) parent: Parent,
    /// When the parent was read from `/proc` (`CLOCK_BOOTTIME`). Earlier records about it are out of date. 0 for never.
    pub(super) parent_read_ns: u64,
    pub(super) creator: Option<ProcessId>,
    /// [`raw::ID_UNSET`] also stands for unknown.
    pub(super) ids: raw::Ids,
    /// The cgroup with the id `ids.cgroup`, if known.
    pub(super) cgroup: Option<Arc<Cgroup>>,
    /// How it entered its container.
    pub(super) origin: Option<Origin>,
    pub(super) image: ImageId,
    /// Root executed that image: only then is its command line evidence about containers.
    pub(super) by_root: bool,
    pub(super) ns_pids: Option<Arc<[u32]>>,
    pub(super) end: Option<End>,
    /// The living children in the order in which they were added (`task_struct.children`), and the links between
    /// siblings.
    pub(super) first_child: Option<Slot>,
    pub(super) last_child: Option<Slot>,
    pub(super) next_sibling: Option<Slot>,
    pub(super) previous_sibling: Option<Slot>,
    /// The process that had this pid before.
    pub(super) older: Option<Slot>,
}

impl Entry {
    /// Returns an entry with nothing but an identity.
    pub(super) fn new(pid: u32, start_ns: u64, utc_minus_boot_ns: i64, source: Provenance) -> Self {
        Self {
            pid,
            start_ns,
            start_utc_ns: if start_ns == 0 { 0 } else { boot_to_utc(start_ns, utc_minus_boot_ns) },
            exact: source == Provenance::Kernel,
            source,
            inferred: false,
            bare: false,
            kthread: false,
            zombie: false,
            subreaper: false,
            execs: 0,
            exec_ns: 0,
            parent: Parent::Unknown,
            parent_read_ns: 0,
            creator: None,
            ids: UNKNOWN_IDS,
            cgroup: None,
            origin: None,
            image: ImageId::NONE,
            by_root: false,
            ns_pids: None,
            end: None,
            first_child: None,
            last_child: None,
            next_sibling: None,
            previous_sibling: None,
            older: None,
        }
    }

    /// Drops shared data of a forgotten process, and returns its image to be released.
    pub(super) fn clear(&mut self) -> ImageId {
        (self.cgroup, self.ns_pids) = (None, None);
        std::mem::replace(&mut self.image, ImageId::NONE)
    }

    pub(super) fn id(&self) -> ProcessId {
        ProcessId::from_ns(self.start_ns, self.pid)
    }

    pub(super) fn is_living(&self) -> bool {
        self.end.is_none()
    }

    /// Returns true if this process started at `start_ns`, to the known precision.
    pub(super) fn started_at(&self, start_ns: u64) -> bool {
        if self.exact { self.start_ns == start_ns } else { self.start_ns / TICK_NS == start_ns / TICK_NS }
    }

    pub(super) fn parent_id(&self) -> Option<ProcessId> {
        match self.parent {
            Parent::Process(id, _) => Some(id),
            Parent::Unknown | Parent::None => None,
        }
    }

    pub(super) fn parent_slot(&self) -> Option<Slot> {
        match self.parent {
            Parent::Process(_, slot) => slot,
            Parent::Unknown | Parent::None => None,
        }
    }

    /// Converts the entry for output. `image` is what it runs, `container` where it runs, `tty` its terminal's name.
    pub(super) fn process(
        &self,
        image: Arc<Image>,
        container: Option<Arc<ProcessContainer>>,
        tty: Option<Arc<str>>,
    ) -> Process {
        let ids = &self.ids;
        let id = self.id();
        let parent_id = self.parent_id();
        let cgroup = self.cgroup.as_deref();
        Process {
            id,
            pid: self.pid,
            tid: None,
            ns_pids: self.ns_pids.clone(),
            ppid: match self.parent {
                Parent::Unknown => None,
                Parent::None => Some(0),
                Parent::Process(id, _) => Some(id.pid()),
            },
            parent_id,
            creator_id: self.creator.filter(|creator| Some(*creator) != parent_id),
            uid: known(ids.uid),
            gid: known(ids.gid),
            euid: known(ids.euid).filter(|_| ids.euid != ids.uid),
            egid: known(ids.egid).filter(|_| ids.egid != ids.gid),
            loginuid: known(ids.loginuid),
            sid: known(ids.sid),
            pgid: known(ids.pgid),
            tty,
            image,
            start_time: (self.start_utc_ns != 0).then_some(Timestamp(self.start_utc_ns)),
            execs: self.execs,
            cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
            unit: cgroup.and_then(|cgroup| cgroup.unit.clone()),
            container,
            origin: self.origin,
            kthread: self.kthread,
            zombie: self.zombie,
            source: self.source,
            inferred: self.inferred,
        }
    }
}

/// Converts boot time to UTC.
pub(super) fn boot_to_utc(boot_ns: u64, utc_minus_boot_ns: i64) -> i64 {
    utc_minus_boot_ns.saturating_add_unsigned(boot_ns)
}

fn known(id: u32) -> Option<u32> {
    (id != raw::ID_UNSET).then_some(id)
}

pub(super) const UNKNOWN_IDS: raw::Ids = raw::Ids {
    uid: raw::ID_UNSET,
    gid: raw::ID_UNSET,
    euid: raw::ID_UNSET,
    egid: raw::ID_UNSET,
    loginuid: raw::ID_UNSET,
    sid: raw::ID_UNSET,
    pgid: raw::ID_UNSET,
    tty: 0,
    cgroup: 0,
    mnt_ns: 0,
    pid_ns: 0,
};
