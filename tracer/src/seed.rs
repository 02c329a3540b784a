//! The processes that are there when tracing begins, from `/proc`.
//!
//! Nothing here is an error but a missing `/proc`: processes come and go while they are read. Everything of one process is
//! read through one descriptor of its directory, which goes on meaning that process (and fails once it is gone) even
//! if its pid is used again.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rustc_hash::FxHashMap;
use tracer_common::record::ID_UNSET;

use crate::clock::boot_ns;
use crate::event::{Image, Process, Source};
use crate::id::{ProcessId, TICK_NS};
use crate::kernel::hierarchy::Hierarchy;
use crate::text::{Argv, Text};
use crate::time::Timestamp;
use crate::tty;

/// `task_struct.flags`: on its way through `do_exit` (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;
/// `task_struct.flags`: a kernel thread.
const PF_KTHREAD: u32 = 0x20_0000;

/// The ancestor of all kernel threads.
const KTHREADD: u32 = 2;

/// How often processes are read again whose parent is just ending, and how long to wait before. One that needs longer is
/// looked at again later ([`crate::table::Table::unsettled`]).
const SECOND_LOOKS: u32 = 20;
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(1);

/// How often a `stat` is read again that is of a task which has no pid any more. Each time another must have taken it and been
/// taken out again; more are not to be expected.
const RELEASED_LOOKS: u32 = 10;

/// [`Seed::ppid`] of a process that nothing is told of but that it was there.
pub const PPID_UNKNOWN: u32 = u32::MAX;

/// A process found in `/proc`.
#[derive(Clone, Debug, PartialEq)]
pub struct Seed {
    /// All that was found out about it.
    pub process: Process,
    /// Pid of its parent; 0 for none, [`PPID_UNKNOWN`] if not even that is known.
    pub ppid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// Its terminal, as [`crate::tty::mkdev`] has it.
    pub tty: u32,
    /// Number of its mount namespace, 0 if unknown.
    pub mnt_ns: u32,
    /// Number of its pid namespace, 0 if unknown, or the initial one.
    pub pid_ns: u32,
    /// All its threads are ending or have ended (`PF_EXITING`): its exit is told already, or within microseconds.
    pub exiting: bool,
    /// It was waited for before all of it was read.
    pub gone: bool,
    /// `CLOCK_BOOTTIME` before the first of it was read.
    pub read_from_ns: u64,
    /// `CLOCK_BOOTTIME` after the last of it was read.
    pub read_until_ns: u64,
}

impl Seed {
    /// Forgets what it runs.
    pub fn forget_image(&mut self) {
        self.process.image = Image::none();
    }

    /// False if another look may show another parent: the one that was seen is just ending, or gone, or it took over the pid
    /// of the right one after this process was read.
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
        seeds.extend(pid.and_then(|pid| read(pid, utc_minus_boot_ns, hierarchy)));
    }
    settle_parents(&mut seeds);
    Ok(seeds)
}

/// Reads one process; none if there is no such process (or only a thread of that number).
pub fn read(pid: u32, utc_minus_boot_ns: i64, hierarchy: &Hierarchy) -> Option<Seed> {
    twice(|| read_once(pid, utc_minus_boot_ns, hierarchy))
}

/// Looks again where nobody was found. A thread that execs takes over the pid of its process (`de_thread`, fs/exec.c), and a
/// directory that is looked up in that moment can be that of the pid which the leader is left with: the kernel finds the task
/// first, then asks for its pid (`proc_pid_lookup`, `proc_pid_make_inode`, fs/proc/base.c).
fn twice<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    look().or_else(&look)
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
    let mut process = Process::new(ProcessId::from_ticks(stat.start_ticks, pid), Source::Procfs);
    process.kthread = stat.flags & PF_KTHREAD != 0;
    process.cgroup =
        dir.read(c"cgroup").and_then(|lines| Some(hierarchy.path_in(&String::from_utf8_lossy(lines))?.into()));
    process.loginuid = dir.read(c"loginuid").and_then(number).filter(|&uid| uid != ID_UNSET);
    (process.uid, process.gid) = (Some(status.uid), Some(status.gid));
    process.euid = Some(status.euid).filter(|&euid| euid != status.uid);
    process.egid = Some(status.egid).filter(|&egid| egid != status.gid);
    process.ns_pids = (status.ns_pids.len() > 1).then(|| status.ns_pids.into());
    process.start_time = Some(Timestamp(utc_minus_boot_ns.saturating_add_unsigned(start_ns)));

    // A leader that has ended has no memory and no directories; another thread of it may still have them.
    let alive = if stat.flags & PF_EXITING == 0 { Some(None) } else { dir.living_thread(pid).map(Some) };
    let (mut mnt_ns, mut pid_ns) = (0, 0);
    if let Some(thread) = &alive
        && !process.kthread
    {
        let mut thread_dir = thread.as_ref().and_then(|thread| dir.thread(*thread));
        dir.image(thread_dir.as_mut(), &mut process);
        let from = thread_dir.as_ref().unwrap_or(&dir);
        mnt_ns = from.namespace(c"ns/mnt");
        pid_ns = if process.ns_pids.is_some() { from.namespace(c"ns/pid") } else { 0 };
    } else if pid == KTHREADD {
        mnt_ns = dir.namespace(c"ns/mnt");
    }

    // Last, so that what it says about the end is as fresh as can be.
    let (last, gone) = match dir.stat() {
        Some(last) => (last, false),
        None => (stat, true),
    };
    let exiting = gone || (last.flags & PF_EXITING != 0 && dir.living_thread(pid).is_none());
    process.image_mut().set_comm(Text::new(&last.comm));
    (process.sid, process.pgid) = (last.sid, last.pgid);
    process.tty = tty::name(last.tty).map(Into::into);
    process.zombie = exiting && matches!(last.state, b'Z' | b'X' | b'x');
    process.ppid = Some(last.ppid);
    Some(Seed {
        process,
        ppid: last.ppid,
        start_ticks: last.start_ticks,
        tty: last.tty,
        mnt_ns,
        pid_ns,
        exiting,
        gone,
        read_from_ns,
        read_until_ns: boot_ns(),
    })
}

/// What is left of a process that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// It still ends: it may have files to close, or a namespace's members to wait for. Or it cannot be seen.
    Ending,
    /// It is to be waited for.
    Zombie,
    /// Nothing: it has been waited for.
    None,
}

/// Looks at what is left of one.
pub fn remains(id: ProcessId) -> Remains {
    match std::fs::read(format!("/proc/{}/stat", id.pid())) {
        Ok(bytes) => remains_by(&bytes, id),
        // Of others' processes `/proc` may show nothing (`hidepid`).
        Err(_) if kill(Pid::from_raw(id.pid() as i32), None) == Err(Errno::ESRCH) => Remains::None,
        Err(_) => Remains::Ending,
    }
}

fn remains_by(stat: &[u8], id: ProcessId) -> Remains {
    match Stat::parse(stat) {
        Some(stat) if ProcessId::from_ticks(stat.start_ticks, id.pid()) != id => Remains::None,
        // A leader is one before the last of its threads has ended; until then nobody can wait for it.
        Some(Stat { state: b'Z', threads: ..=1, .. }) => Remains::Zombie,
        _ => Remains::Ending,
    }
}

/// Looks again at processes whose parent is doubtful: the kernel gives them another one soon, or has already.
fn settle_parents(seeds: &mut [Seed]) {
    let at: FxHashMap<u32, usize> = seeds.iter().enumerate().map(|(at, seed)| (seed.process.pid, at)).collect();
    for look in 0..SECOND_LOOKS {
        let unsettled = |seed: &Seed| !seed.is_settled(at.get(&seed.ppid).map(|&at| &seeds[at]));
        let again: Vec<usize> = (0..seeds.len()).filter(|&at| unsettled(&seeds[at])).collect();
        if again.is_empty() {
            return;
        }
        if look != 0 {
            std::thread::sleep(SECOND_LOOK_AFTER);
        }
        for at in again {
            let seed = &mut seeds[at];
            let stat = twice(|| Dir::open(seed.process.pid)?.stat());
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

/// The directory of one process or thread.
struct Dir {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Dir {
    const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);

    fn open(pid: u32) -> Option<Self> {
        let fd = open(format!("/proc/{pid}").as_str(), Self::FLAGS | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
        Some(Self { fd, buffer: Vec::new() })
    }

    fn thread(&self, tid: u32) -> Option<Self> {
        let path = format!("task/{tid}");
        let fd = openat(&self.fd, path.as_str(), Self::FLAGS | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
        Some(Self { fd, buffer: Vec::new() })
    }

    /// All bytes of a file; none if it cannot be read (any more).
    fn read(&mut self, name: &std::ffi::CStr) -> Option<&[u8]> {
        let fd = openat(&self.fd, name, Self::FLAGS, Mode::empty()).ok()?;
        self.buffer.clear();
        File::from(fd).read_to_end(&mut self.buffer).ok()?;
        Some(&self.buffer)
    }

    /// The `stat` of who has the pid.
    fn stat(&mut self) -> Option<Stat> {
        // The kernel looks at the task some time after it has looked the pid up. Meanwhile that one may have been taken out of
        // the pid: then another look finds who has it now, an exec'ing thread or nobody.
        (0..RELEASED_LOOKS).find_map(|_| match self.read(c"stat").and_then(Stat::parse) {
            Some(stat) if stat.is_released() => None,
            stat => Some(stat),
        })?
    }

    fn link(&self, name: &std::ffi::CStr) -> Option<Text> {
        let target = readlinkat(&self.fd, name).ok()?;
        let target = target.as_bytes();
        Some(Text::new(target.strip_suffix(b" (deleted)").unwrap_or(target)))
    }

    /// Number of a namespace, from a link like `mnt:[4026531841]`; 0 if it cannot be read.
    fn namespace(&self, name: &std::ffi::CStr) -> u32 {
        let number = |target: &std::ffi::OsStr| target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok();
        readlinkat(&self.fd, name).ok().and_then(|target| number(&target)).unwrap_or_default()
    }

    /// exe, cwd and argv, from a thread that still has them if the leader has not.
    fn image(&mut self, thread: Option<&mut Self>, process: &mut Process) {
        let from = thread.unwrap_or(self);
        let image = process.image_mut();
        if let Some(exe) = from.link(c"exe") {
            image.set_exe(exe);
        }
        if let Some(cwd) = from.link(c"cwd") {
            image.set_cwd(cwd);
        }
        // No bytes: in the middle of an exec. (An empty list is not to be had since Linux 5.18: execve makes it one
        // empty string.)
        if let Some(argv) = from.read(c"cmdline").filter(|bytes| !bytes.is_empty()).map(arguments) {
            image.set_argv(argv);
        }
    }

    /// A thread that is not ending.
    fn living_thread(&self, pid: u32) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/self/fd/{}/task", self.fd.as_raw_fd())).ok()?;
        tasks
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&tid: &u32| tid != pid)
            // The leader was ending; but it may be one of the others by now, by an exec.
            .chain(std::iter::once(pid))
            .find(|&tid| {
                let stat = self.thread(tid).and_then(|mut thread| thread.stat());
                stat.is_some_and(|stat| stat.flags & PF_EXITING == 0)
            })
    }
}

/// The arguments as `/proc/PID/cmdline` has them. One string followed by nothing but NULs is a title that the process
/// wrote over its arguments (`setproctitle`).
fn arguments(bytes: &[u8]) -> Argv {
    let title = bytes.trim_ascii_end().iter().rposition(|&b| b != 0).map_or(&b""[..], |last| &bytes[..=last]);
    let padding = bytes.len() - title.len();
    if padding > 2 && !title.contains(&0) { Argv::new(title) } else { Argv::new(bytes) }
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    state: u8,
    ppid: u32,
    pgid: Option<u32>,
    sid: Option<u32>,
    tty: u32,
    flags: u32,
    threads: u32,
    start_ticks: u64,
}

impl Stat {
    /// It is of a task that was waited for, or replaced by the thread that exec'd, since the kernel looked it up: of that one
    /// it tells no group, no session and 0 as parent (`do_task_stat` without `sighand`, fs/proc/array.c).
    const fn is_released(&self) -> bool {
        self.pgid.is_none() && self.sid.is_none()
    }

    /// The name, in parentheses, may hold anything, parentheses and newlines too: it ends at the last `)`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let comm = bytes.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 as proc_pid_stat(5) does, the state being 3.
        let field = |number: usize| fields.get(number - 3).copied();
        // -1 where the task has none any more.
        let id = |number| field(number)?.parse::<i64>().ok().map(|id| u32::try_from(id).ok());
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            ppid: field(4)?.parse().ok()?,
            pgid: id(5)?,
            sid: id(6)?,
            tty: tty::from_proc_stat(field(7)?.parse::<i32>().ok()? as u32),
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
        })
    }
}

/// What is used of `/proc/PID/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    tgid: u32,
    uid: u32,
    euid: u32,
    gid: u32,
    egid: u32,
    ns_pids: Vec<u32>,
}

impl Status {
    fn parse(bytes: &[u8]) -> Option<Self> {
        // The name, on the first line, is escaped there: no line of it can look like another.
        let line = |key: &str| {
            let line = bytes.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()))?;
            Some(std::str::from_utf8(line).ok()?.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()))
        };
        let (mut uids, mut gids) = (line("Uid:")?, line("Gid:")?);
        Some(Self {
            tgid: line("Tgid:")?.next()?,
            uid: uids.next()?,
            euid: uids.next()?,
            gid: gids.next()?,
            egid: gids.next()?,
            ns_pids: line("NStgid:").map(Iterator::collect).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
#[path = "seed_tests.rs"]
mod tests;
