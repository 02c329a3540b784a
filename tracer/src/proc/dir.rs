//! The directory of a process or thread in `/proc`, and the used fields of `stat` and `status`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use tracer_common::limits::COMM_LEN;

use crate::event::Process;
use crate::record::text::Text;
use crate::sys::tty;

/// `task_struct.flags`: in `do_exit` (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// How often `stat` is read again if it belongs to a task that has lost its pid. Each time, another task must have
/// taken the pid and lost it again, so more retries are never needed.
const STAT_RETRIES: u32 = 10;

/// How often the threads of a process are listed if they change meanwhile. The pause comes before each listing from the
/// third on.
const MAX_LISTINGS: u32 = 50;
const LISTING_PAUSE: Duration = Duration::from_millis(1);

/// The directory of one process or thread.
pub(super) struct Dir {
    fd: OwnedFd,
    /// The pid or tid that the directory was opened for.
    id: u32,
    buffer: Vec<u8>,
}

impl Dir {
    const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);

    pub(super) fn open(pid: u32) -> Option<Self> {
        let fd = open(format!("/proc/{pid}").as_str(), Self::FLAGS | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
        Some(Self { fd, id: pid, buffer: Vec::new() })
    }

    pub(super) fn thread(&self, tid: u32) -> Option<Self> {
        let path = format!("task/{tid}");
        let fd = openat(&self.fd, path.as_str(), Self::FLAGS | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
        Some(Self { fd, id: tid, buffer: Vec::new() })
    }

    /// Returns the content of a file, or None if it cannot be read (any more).
    pub(super) fn read(&mut self, name: &std::ffi::CStr) -> Option<&[u8]> {
        let fd = openat(&self.fd, name, Self::FLAGS, Mode::empty()).ok()?;
        self.buffer.clear();
        File::from(fd).read_to_end(&mut self.buffer).ok()?;
        Some(&self.buffer)
    }

    /// Returns the `stat` of the current holder of the pid. None if there is none, or the directory belongs to another
    /// pid ([`retry_once`]).
    pub(super) fn stat(&mut self) -> Option<Stat> {
        // The kernel reads the task some time after it looked up the pid. In between, the task may have lost the pid.
        // Then a retry finds the new holder: a thread that called exec, or nobody.
        let stat = (0..STAT_RETRIES).find_map(|_| match self.read(c"stat").and_then(Stat::parse) {
            Some(stat) if stat.is_released() => None,
            stat => Some(stat),
        })?;
        stat.filter(|stat| stat.pid == self.id)
    }

    /// The path that a link leads to, and whether that file has been deleted.
    fn link(&self, name: &std::ffi::CStr) -> Option<(Text, bool)> {
        let target = readlinkat(&self.fd, name).ok()?;
        let target = target.as_bytes();
        let deleted = target.strip_suffix(b" (deleted)").filter(|_| self.is_unlinked(name));
        Some((Text::new(deleted.unwrap_or(target)), deleted.is_some()))
    }

    /// Returns whether the target of a link is unlinked. A real name may end like the kernel's mark for that.
    fn is_unlinked(&self, name: &std::ffi::CStr) -> bool {
        // `O_PATH` does not involve the file system of the target, and the cached attributes suffice.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty()).and_then(|file| fstat(&file)).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Returns the number of a namespace from a link like `mnt:[4026531841]`. 0 if it cannot be read.
    pub(super) fn namespace(&self, name: &std::ffi::CStr) -> u32 {
        let number = |target: &std::ffi::OsStr| target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok();
        readlinkat(&self.fd, name).ok().and_then(|target| number(&target)).unwrap_or_default()
    }

    /// Reads exe and cwd.
    pub(super) fn image(&mut self, process: &mut Process) {
        let image = process.image_mut();
        if let Some((exe, deleted)) = self.link(c"exe") {
            image.set_exe(exe);
            image.exe_deleted = deleted;
        }
        if let Some((cwd, deleted)) = self.link(c"cwd") {
            image.set_cwd(cwd);
            image.cwd_deleted = deleted;
        }
    }

    /// Returns a thread of this process that is not exiting, if there is one.
    pub(super) fn living_thread(&mut self) -> Option<u32> {
        for listing in 0..MAX_LISTINGS {
            if listing > 1 {
                std::thread::sleep(LISTING_PAUSE);
            }
            let leader = self.stat()?;
            if !leader.is_exiting() {
                return Some(self.id);
            }
            if leader.threads <= 1 {
                return None;
            }
            let (mut exiting, mut complete) = (0, true);
            for tid in self.tids()? {
                match self.thread(tid).and_then(|mut thread| thread.stat()) {
                    Some(stat) if !stat.is_exiting() => return Some(tid),
                    Some(stat) if !stat.is_dead() => exiting += 1,
                    _ => complete = false,
                }
            }
            // A listing ends early if its current thread is released, and skips threads that move up (`first_tid`,
            // `next_tid`, fs/proc/base.c). A thread that execs may become the leader after the leader was read. It
            // leaves its tid to the old leader, which exits and is soon released (`de_thread`, fs/exec.c). Then the old
            // leader is counted twice and the living thread not at all.
            if complete && exiting >= leader.threads && self.stat()?.is_exiting() {
                return None;
            }
        }
        None
    }

    /// Returns its threads.
    fn tids(&self) -> Option<impl Iterator<Item = u32>> {
        let tasks = std::fs::read_dir(format!("/proc/self/fd/{}/task", self.fd.as_raw_fd())).ok()?;
        Some(tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
    }
}

/// Retries a lookup that found nothing. A thread that execs takes over the pid of its process (`de_thread`, fs/exec.c).
/// A directory that is looked up at that moment can belong to the pid that the old leader is left with. The kernel
/// finds the task first, then reads its pid (`proc_pid_lookup`, `proc_pid_make_inode`, fs/proc/base.c).
pub(super) fn retry_once<T>(lookup: impl Fn() -> Option<T>) -> Option<T> {
    lookup().or_else(&lookup)
}

/// Returns `task_struct.comm` of a kernel thread from the name in `/proc`, which can be longer. A worker's name is
/// followed by its current work (kernel/workqueue.c, `wq_worker_comm`). Since 5.17 other names are shown in full
/// (kernel/kthread.c, `get_kthread_comm`).
pub(super) fn kernel_name(shown: &[u8]) -> &[u8] {
    let end = match shown.strip_prefix(b"kworker/") {
        // A rescuer is named after its workqueue, and that name may contain `-`.
        Some([b'R', b'-', ..]) => shown.iter().position(|&b| b == b'+'),
        Some(_) => shown.iter().position(|&b| matches!(b, b'-' | b'+')),
        None => None,
    };
    &shown[..end.unwrap_or(shown.len()).min(COMM_LEN - 1)]
}

pub(super) fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// The used fields of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) comm: Vec<u8>,
    pub(super) state: u8,
    pub(super) ppid: u32,
    pub(super) pgid: Option<u32>,
    pub(super) sid: Option<u32>,
    pub(super) tty: u32,
    pub(super) flags: u32,
    pub(super) threads: u32,
    pub(super) start_ticks: u64,
    /// Start of its stack. 0 if not shown.
    pub(super) start_stack: u64,
}

impl Stat {
    /// Returns true if the task was reaped or replaced by an exec'ing thread after the kernel looked it up. Then the
    /// kernel shows no group, no session and parent 0 (`do_task_stat` without `sighand`, fs/proc/array.c).
    pub(super) const fn is_released(&self) -> bool {
        self.pgid.is_none() && self.sid.is_none()
    }

    /// Returns true if it is in `do_exit` or has exited.
    pub(super) const fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// Returns true if no process has to reap it: the kernel is about to release it.
    const fn is_dead(&self) -> bool {
        self.state == b'X'
    }

    /// Returns true for a leader that waits to be reaped, as the last thread of its process.
    pub(super) const fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// Parses a line. The name in parentheses may contain anything, even parentheses and newlines: it ends at the last
    /// `)`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let comm = bytes.get(open + 1..close)?.to_vec();
        let pid = number(&bytes[..open])?;
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 as in proc_pid_stat(5); the state is field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        // -1 if the task no longer has one.
        let id = |number| field(number)?.parse::<i64>().ok().map(|id| u32::try_from(id).ok());
        Some(Self {
            pid,
            comm,
            state: *field(3)?.as_bytes().first()?,
            ppid: field(4)?.parse().ok()?,
            pgid: id(5)?,
            sid: id(6)?,
            tty: tty::from_proc_stat(field(7)?.parse::<i32>().ok()? as u32),
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            start_stack: field(28).and_then(|at| at.parse().ok()).unwrap_or_default(),
        })
    }
}

/// The used fields of `/proc/PID/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) tgid: u32,
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gid: u32,
    pub(super) egid: u32,
    pub(super) ns_pids: Vec<u32>,
}

impl Status {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        // The name on the first line is escaped, so it cannot imitate another line.
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
