//! Reads the processes that exist when tracing begins from `/proc`.
//!
//! Only a missing `/proc` is an error: processes come and go while they are read. Each process is read through one
//! descriptor of its directory. That refers to this process even if its pid is reused, and fails once the process is
//! gone.

mod arguments;
mod dir;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rustc_hash::{FxHashMap, FxHashSet};
use tracer_common::record::ID_UNSET;

use self::dir::{Dir, Stat, Status, kernel_name, number, retry_once};
use crate::clock::boot_ns;
use crate::event::id::{ProcessId, TICK_NS};
use crate::event::time::Timestamp;
use crate::event::{Image, Process, Provenance};
use crate::kernel::hierarchy::Hierarchy;
use crate::record::text::Text;
use crate::sys::tty;

/// `task_struct.flags`: a kernel thread.
const PF_KTHREAD: u32 = 0x20_0000;

/// The ancestor of all kernel threads.
pub(crate) const KTHREADD: u32 = 2;

/// How often processes are read again whose parent is exiting, and the pause before. Those that need longer are read
/// again later ([`crate::table::Table::unsettled`]).
const MAX_REREADS: u32 = 20;
const REREAD_PAUSE: Duration = Duration::from_millis(1);

/// [`Seed::ppid`] of a process of which only the existence is known.
pub const PPID_UNKNOWN: u32 = u32::MAX;

/// A process found in `/proc`.
#[derive(Clone, Debug, PartialEq)]
pub struct Seed {
    /// Everything that was found out about it.
    pub process: Process,
    /// Pid of its parent; 0 for none, [`PPID_UNKNOWN`] if unknown.
    pub ppid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// `CLOCK_BOOTTIME` at its creation, in nanoseconds; 0 if only the tick is known.
    pub start_ns: u64,
    /// Its terminal, encoded by [`crate::sys::tty::mkdev`].
    pub tty: u32,
    /// Id of its control group; 0 if unknown or only the path is known ([`Process::cgroup`]).
    pub cgroup_id: u64,
    /// Number of its mount namespace, 0 if unknown.
    pub mnt_ns: u32,
    /// Number of its pid namespace, 0 if unknown or the initial one.
    pub pid_ns: u32,
    /// All its threads are exiting or have exited (`PF_EXITING`). Its exit record is written already, or within
    /// microseconds.
    pub exiting: bool,
    /// It was reaped before it was read completely.
    pub gone: bool,
    /// `CLOCK_BOOTTIME` before it was read.
    pub read_from_ns: u64,
    /// `CLOCK_BOOTTIME` after it was read, without its arguments.
    pub read_until_ns: u64,
    /// `CLOCK_BOOTTIME` after its image was read. Not before `read_until_ns`, because arguments are read last.
    pub image_until_ns: u64,
}

impl Seed {
    /// Drops the image.
    pub fn forget_image(&mut self) {
        self.process.image = Image::none();
    }

    /// Returns false if another read may show another parent. That is so if the parent is exiting or gone. It may also
    /// have taken over the pid of the right parent after this process was read.
    pub fn is_settled(&self, parent: Option<&Self>) -> bool {
        let good = |parent: &Self| {
            let older = parent.start_ticks < self.start_ticks;
            let read_before = parent.start_ticks == self.start_ticks && parent.read_from_ns < self.read_until_ns;
            !parent.exiting && !parent.gone && (older || read_before)
        };
        self.ppid == 0 || self.gone || parent.is_some_and(good)
    }
}

/// Reads all processes. Fails only if `/proc` cannot be listed.
pub fn snapshot(utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> io::Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        seeds.extend(pid.and_then(|pid| read_all_but_arguments(pid, utc_minus_boot_ns, hierarchy)));
    }
    arguments::read(&mut seeds);
    settle_parents(&mut seeds);
    Ok(seeds)
}

/// Completes the result of the kernel's iterator. That does not read the memory of processes, and misses some whose
/// children it shows.
pub(crate) fn complete(seeds: &mut Vec<Seed>, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) {
    let mut pids: FxHashSet<u32> = seeds.iter().map(|seed| seed.process.pid).collect();
    let mut missing: Vec<u32> = Vec::from([1]);
    let mut next = 0;
    loop {
        missing.extend(seeds[next..].iter().map(|seed| seed.ppid));
        next = seeds.len();
        missing.retain(|&pid| pid != 0 && pids.insert(pid));
        if missing.is_empty() {
            break;
        }
        let read = |pid| read_all_but_arguments(pid, utc_minus_boot_ns, hierarchy);
        seeds.extend(missing.drain(..).filter_map(read));
    }
    arguments::read(seeds);
    settle_parents(seeds);
}

/// Reads one process. None if there is no such process, or it is only a thread.
pub fn read(pid: u32, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> Option<Seed> {
    let mut seed = read_all_but_arguments(pid, utc_minus_boot_ns, hierarchy)?;
    arguments::read(std::slice::from_mut(&mut seed));
    Some(seed)
}

/// Reads everything except the arguments. Those are in the process's memory, and reading them may block.
pub(crate) fn read_all_but_arguments(pid: u32, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> Option<Seed> {
    let attempt = || read_once(pid, utc_minus_boot_ns, hierarchy);
    let seed = retry_once(attempt)?;
    // Gone may be as wrong as not found: retry once.
    let again = if seed.gone { attempt() } else { None };
    Some(again.filter(|again| again.start_ticks == seed.start_ticks).unwrap_or(seed))
}

fn read_once(pid: u32, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> Option<Seed> {
    let read_from_ns = boot_ns();
    let mut dir = Dir::open(pid)?;
    let stat = dir.stat()?;
    let status = Status::parse(dir.read(c"status")?)?;
    if status.tgid != pid {
        return None;
    }
    let start_ns = stat.start_ticks.saturating_mul(TICK_NS);
    let mut process = Process::new(ProcessId::from_ticks(stat.start_ticks, pid), Provenance::Procfs);
    process.kthread = stat.flags & PF_KTHREAD != 0;
    (process.uid, process.gid) = (Some(status.uid), Some(status.gid));
    process.euid = Some(status.euid).filter(|&euid| euid != status.uid);
    process.egid = Some(status.egid).filter(|&egid| egid != status.gid);
    process.ns_pids = (status.ns_pids.len() > 1).then(|| status.ns_pids.into());
    process.start_time = Some(Timestamp(utc_minus_boot_ns.saturating_add_unsigned(start_ns)));

    // A leader that has exited has no memory, no directories, and in version 1 no cgroup. Another thread still has
    // them.
    let living = if stat.is_exiting() { dir.living_thread() } else { Some(pid) };
    let mut thread = living.filter(|&tid| tid != pid).and_then(|tid| dir.thread(tid));
    let from = thread.as_mut().unwrap_or(&mut dir);
    process.cgroup =
        from.read(c"cgroup").and_then(|lines| Some(hierarchy.path_in(&String::from_utf8_lossy(lines))?.into()));
    process.loginuid = from.read(c"loginuid").and_then(number).filter(|&uid| uid != ID_UNSET);
    let (mut mnt_ns, mut pid_ns) = (0, 0);
    if living.is_some() && !process.kthread {
        from.image(&mut process);
        mnt_ns = from.namespace(c"ns/mnt");
        pid_ns = if process.ns_pids.is_some() { from.namespace(c"ns/pid") } else { 0 };
    } else if pid == KTHREADD {
        mnt_ns = from.namespace(c"ns/mnt");
    }

    // Read last, so that what it says about the exit is as recent as possible.
    let (last, gone) = match dir.stat() {
        Some(last) => (last, false),
        None => (stat, true),
    };
    let exiting = gone || (last.is_exiting() && dir.living_thread().is_none());
    let comm = if process.kthread { kernel_name(&last.comm) } else { &last.comm };
    process.image_mut().set_comm(Text::new(comm));
    (process.sid, process.pgid) = (last.sid, last.pgid);
    process.tty = tty::name(last.tty).map(Into::into);
    process.zombie = exiting && last.is_zombie();
    process.ppid = Some(last.ppid);
    let read_until_ns = boot_ns();
    Some(Seed {
        process,
        ppid: last.ppid,
        start_ticks: last.start_ticks,
        start_ns: 0,
        tty: last.tty,
        cgroup_id: 0,
        mnt_ns,
        pid_ns,
        exiting,
        gone,
        read_from_ns,
        read_until_ns,
        image_until_ns: read_until_ns,
    })
}

/// Returns the path of the control group of a process.
pub(crate) fn cgroup(pid: u32, hierarchy: &Hierarchy) -> Option<Arc<str>> {
    let lines = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    Some(hierarchy.path_in(&String::from_utf8_lossy(&lines))?.into())
}

/// What is left of a process that has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Its exit is still in progress: it has files to close, or waits for members of its namespace. Or it is not
    /// visible.
    Ending,
    /// It waits to be reaped.
    Zombie,
    /// Nothing: it was reaped.
    None,
}

/// Returns the process that a `stat` file is about.
pub fn start_of(stat: &std::path::Path) -> Option<ProcessId> {
    let bytes = std::fs::read(stat).ok()?;
    let pid = std::str::from_utf8(bytes.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    Some(ProcessId::from_ticks(Stat::parse(&bytes)?.start_ticks, pid))
}

/// Returns what is left of a process.
pub fn remains(id: ProcessId) -> Remains {
    match std::fs::read(format!("/proc/{}/stat", id.pid())) {
        Ok(bytes) => remains_from_stat(&bytes, id),
        // `/proc` may hide processes of other users (`hidepid`).
        Err(_) if kill(Pid::from_raw(id.pid() as i32), None) == Err(Errno::ESRCH) => Remains::None,
        Err(_) => Remains::Ending,
    }
}

fn remains_from_stat(stat: &[u8], id: ProcessId) -> Remains {
    match Stat::parse(stat) {
        Some(stat) if ProcessId::from_ticks(stat.start_ticks, id.pid()) != id => Remains::None,
        // A leader is in state Z before its last thread has exited. Until then it cannot be reaped.
        Some(Stat { state: b'Z', threads: 1, .. }) => Remains::Zombie,
        _ => Remains::Ending,
    }
}

/// Reads processes again whose parent is doubtful: the kernel is about to reparent them, or already has.
fn settle_parents(seeds: &mut [Seed]) {
    let at: FxHashMap<u32, usize> = seeds.iter().enumerate().map(|(at, seed)| (seed.process.pid, at)).collect();
    for attempt in 0..MAX_REREADS {
        let unsettled = |seed: &Seed| !seed.is_settled(at.get(&seed.ppid).map(|&at| &seeds[at]));
        let again: Vec<usize> = (0..seeds.len()).filter(|&at| unsettled(&seeds[at])).collect();
        if again.is_empty() {
            return;
        }
        if attempt != 0 {
            std::thread::sleep(REREAD_PAUSE);
        }
        for at in again {
            let seed = &mut seeds[at];
            let stat = retry_once(|| Dir::open(seed.process.pid)?.stat());
            if let Some(stat) = stat.filter(|stat| stat.start_ticks == seed.start_ticks) {
                seed.ppid = stat.ppid;
            } else {
                (seed.gone, seed.exiting) = (true, true);
            }
            seed.process.ppid = Some(seed.ppid);
            seed.read_until_ns = boot_ns();
        }
    }
}

/// Checks that there is a process with this id. A thread with this number does not count.
pub fn must_exist(pid: u32) -> Result<(), String> {
    // kill(2) accepts the number of a thread too.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse::<u32>().ok());
    if let Some(process) = process.filter(|&process| process != pid) {
        return Err(format!("{pid} is a thread of process {process}: give {process} instead"));
    }
    if kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH) {
        return Err(format!("there is no process {pid}: `tracer tree -p` shows all processes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
