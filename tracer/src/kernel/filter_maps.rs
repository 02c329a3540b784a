//! The maps by which the kernel side decides which events match.

use std::io::ErrorKind;

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use tracer_common::config::{TRACKED_HELPER, TRACKED_MATCHING, TRACKED_RELATIVE};
use tracer_common::limits::{COMM_LEN, MAX_CGROUPS, MAX_HELPERS, MAX_NAMESPACES};

use super::error::{LoadError, refused};
use super::object::take;
use super::options::Selection;

/// `BPF_NOEXIST`: <https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/include/uapi/linux/bpf.h>
const NOEXIST: u64 = 1;

impl Selection {
    /// Returns the capacity of each map. An unused map gets the smallest.
    pub(super) fn capacities(&self, max_tracked: u32, reap: bool) -> [(&'static str, u32); 5] {
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

/// Programs that start others in another cgroup or as another user, by their comm (at most 15 bytes).
///
/// A process that they start may match though they do not. Then its creator and its earlier state are known all the same.
/// Other programs that do so are harmless: only the first exec of their child is reported with less.
const HELPERS: [&str; 37] = [
    // Container runtimes, and their comm when they execute themselves (`/proc/self/exe`).
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
    // Programs that change the user.
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
const _: () = assert!(HELPERS.len() <= MAX_HELPERS as usize);

/// Returns true for a program that may start matching processes.
pub fn is_helper(comm: &str) -> bool {
    HELPERS.contains(&comm)
}

/// What the kernel side reports of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracked {
    /// A relative of matching processes: only its exit.
    Relative,
    /// A helper: everything, and everything of its children until they exec another program.
    Helper,
    /// A matching process: everything.
    Matching,
}

/// The maps.
pub(super) struct FilterMaps {
    tracked: HashMap<MapData, u32, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    namespaces: HashMap<MapData, u32, u32>,
    open: Array<MapData, u32>,
}

impl FilterMaps {
    /// Fills in what is known before anything is attached.
    ///
    /// If running processes must be found first, everything is reported until [`FilterMaps::close`].
    pub(super) fn prepare(ebpf: &mut Ebpf, selection: &Selection) -> Result<Self, LoadError> {
        let mut maps = Self {
            tracked: take(ebpf, "TRACKED")?,
            cgroups: take(ebpf, "CGROUPS")?,
            namespaces: take(ebpf, "NAMESPACES")?,
            open: take(ebpf, "OPEN")?,
        };
        if !selection.needs_relatives() {
            return Ok(maps);
        }
        fill(
            ebpf,
            "HELPERS",
            HELPERS.iter().map(|name| {
                let mut comm = [0; COMM_LEN];
                comm[..name.len()].copy_from_slice(name.as_bytes());
                comm
            }),
        )?;
        if let Selection::Users(users) = selection {
            fill(ebpf, "USERS", users.iter().copied())?;
        }
        maps.open.set(0, 1, 0).map_err(failed)?;
        Ok(maps)
    }

    /// Applies the filter: from here on only matching processes are reported.
    pub(super) fn close(&mut self) -> Result<(), LoadError> {
        self.open.set(0, 0, 0).map_err(failed)
    }

    pub(super) fn track(&mut self, pid: u32, what: Tracked) -> Result<(), LoadError> {
        let state = match what {
            Tracked::Matching => TRACKED_MATCHING,
            Tracked::Helper => TRACKED_HELPER,
            Tracked::Relative => TRACKED_RELATIVE,
        };
        // The programs may have raised a relative to more by now.
        let flags = if state == TRACKED_RELATIVE { NOEXIST } else { 0 };
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

    /// Removes a cgroup. Does nothing if it is not in the map.
    pub(super) fn leave_out_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        removed(self.cgroups.remove(&id))
    }

    pub(super) fn admit_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.namespaces.insert(number, 1, 0).map_err(failed)
    }

    /// Removes a namespace. Does nothing if it is not in the map.
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

/// Adds keys to a map. The map stays in the object, because the programs are loaded with it later.
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
