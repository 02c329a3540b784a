//! The sets by which the kernel side tells whose events are asked for.

use std::io::ErrorKind;

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use tracer_common::config::{TRACKED_AIDE, TRACKED_ASKED, TRACKED_KIN};
use tracer_common::limits::{COMM_LEN, MAX_AIDES, MAX_CGROUPS, MAX_NAMESPACES};

use super::error::{LoadError, refused};
use super::object::take;
use super::options::Selection;

/// `BPF_NOEXIST`: <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NOEXIST: u64 = 1;

impl Selection {
    /// Room in each set. One that is not used takes none.
    pub(super) fn rooms(&self, max_tracked: u32, reap: bool) -> [(&'static str, u32); 5] {
        let tracked = if self.is_some() { max_tracked } else { 1 };
        let users = if let Self::Users(users) = self { users.len().max(1) as u32 } else { 1 };
        [
            ("TRACKED", tracked),
            ("UNREAPED", if reap { tracked } else { 1 }),
            ("USERS", users),
            (
                "CGROUPS",
                if matches!(self, Self::Cgroups | Self::Containers) { MAX_CGROUPS.min(max_tracked) } else { 1 },
            ),
            ("NAMESPACES", if *self == Self::Containers { MAX_NAMESPACES.min(max_tracked) } else { 1 }),
        ]
    }
}

/// Programs that start others in another cgroup, or as another user, by the names that the kernel gives them
/// (cut to 15 bytes). What they start may be asked for, though they are not: who created it, and what it was before, is
/// then known all the same. Others that do so are no matter, but for what is told of their first exec.
const AIDES: [&str; 37] = [
    // Container runtimes, and how they call themselves when they execute themselves (`/proc/self/exe`).
    "runc",
    "crun",
    "youki",
    "runsc",
    "kata-runtime",
    "docker-runc",
    "exe",
    "nsenter",
    "unshare",
    "systemd-nspawn",
    "lxc-start",
    "lxc-attach",
    // Managers of services and sessions.
    "systemd",
    "(sd-executor)",
    "systemd-executo",
    "init",
    "runsvdir",
    "runsv",
    "s6-supervise",
    "supervisord",
    "login",
    "sshd",
    "sshd-session",
    "cron",
    "crond",
    "atd",
    "cgexec",
    "systemd-run",
    // Those that change the user.
    "su",
    "sudo",
    "doas",
    "runuser",
    "setpriv",
    "pkexec",
    "gosu",
    "su-exec",
    "start-stop-daem",
];
const _: () = assert!(AIDES.len() <= MAX_AIDES as usize);

/// True for a program that may put others where they are asked for.
pub fn is_aide(comm: &str) -> bool {
    AIDES.contains(&comm)
}

/// What is reported of a process, as far as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracked {
    /// Its end.
    Kin,
    /// All, and all of its children until they execute something else.
    Aide,
    /// All.
    Asked,
}

/// The sets.
pub(super) struct Sets {
    tracked: HashMap<MapData, u32, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    namespaces: HashMap<MapData, u32, u32>,
    open: Array<MapData, u32>,
}

impl Sets {
    /// Fills in what is known before anything is attached. Where what is there already has to be found, everything is
    /// reported until [`Sets::close`].
    pub(super) fn prepare(ebpf: &mut Ebpf, selection: &Selection) -> Result<Self, LoadError> {
        let mut sets = Self {
            tracked: take(ebpf, "TRACKED")?,
            cgroups: take(ebpf, "CGROUPS")?,
            namespaces: take(ebpf, "NAMESPACES")?,
            open: take(ebpf, "OPEN")?,
        };
        if !selection.kin() {
            return Ok(sets);
        }
        fill(
            ebpf,
            "AIDES",
            AIDES.iter().map(|name| {
                let mut comm = [0; COMM_LEN];
                comm[..name.len()].copy_from_slice(name.as_bytes());
                comm
            }),
        )?;
        if let Selection::Users(users) = selection {
            fill(ebpf, "USERS", users.iter().copied())?;
        }
        sets.open.set(0, 1, 0).map_err(failed)?;
        Ok(sets)
    }

    /// From here on only what is asked for is reported.
    pub(super) fn close(&mut self) -> Result<(), LoadError> {
        self.open.set(0, 0, 0).map_err(failed)
    }

    pub(super) fn track(&mut self, pid: u32, what: Tracked) -> Result<(), LoadError> {
        let state = match what {
            Tracked::Asked => TRACKED_ASKED,
            Tracked::Aide => TRACKED_AIDE,
            Tracked::Kin => TRACKED_KIN,
        };
        // Who is known as kin only may be more by now.
        let flags = if state == TRACKED_KIN { NOEXIST } else { 0 };
        match self.tracked.insert(pid, state, flags) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(failed),
        }
    }

    pub(super) fn untrack(&mut self, pid: u32) -> Result<(), LoadError> {
        removed(self.tracked.remove(&pid))
    }

    pub(super) fn tracked(&self) -> Vec<u32> {
        self.tracked.keys().filter_map(Result::ok).collect()
    }

    pub(super) fn admit_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.cgroups.insert(id, 1, 0).map_err(failed)
    }

    /// One that is not in the set is no matter.
    pub(super) fn leave_out_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        removed(self.cgroups.remove(&id))
    }

    pub(super) fn admit_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.namespaces.insert(number, 1, 0).map_err(failed)
    }

    /// One that is not in the set is no matter.
    pub(super) fn leave_out_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        removed(self.namespaces.remove(&number))
    }
}

fn removed(done: Result<(), MapError>) -> Result<(), LoadError> {
    match done {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(failed),
    }
}

/// Puts all into a set. It stays with the object: the programs are yet to be loaded with it.
fn fill<K: Pod>(ebpf: &mut Ebpf, name: &str, keys: impl Iterator<Item = K>) -> Result<(), LoadError> {
    let map = ebpf.map_mut(name).ok_or_else(|| refused(name, "the map is missing from the object"))?;
    let mut set = HashMap::<&mut MapData, K, u32>::try_from(map).map_err(|error| refused(name, error))?;
    for key in keys {
        set.insert(key, 1, 0).map_err(failed)?;
    }
    Ok(())
}

fn failed(error: MapError) -> LoadError {
    refused("the sets of the filter", error)
}
