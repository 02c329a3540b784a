//! What `/proc` shows of one process or thread: its directory, and what is used of `stat` and `status`.

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

/// `task_struct.flags`: on its way through `do_exit` (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// How often a `stat` is read again that is of a task which has no pid any more. Each time another must have taken it and been
/// taken out again; more are not to be expected.
const RELEASED_LOOKS: u32 = 10;

/// How often the threads are listed of a process that changes while they are, and how long to wait before, from the third
/// time on.
const LISTINGS: u32 = 50;
const LISTING_AFTER: Duration = Duration::from_millis(1);

/// The directory of one process or thread.
pub(super) struct Dir {
    fd: OwnedFd,
    /// The pid, or tid, that it is to be of.
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

    /// All bytes of a file; none if it cannot be read (any more).
    pub(super) fn read(&mut self, name: &std::ffi::CStr) -> Option<&[u8]> {
        let fd = openat(&self.fd, name, Self::FLAGS, Mode::empty()).ok()?;
        self.buffer.clear();
        File::from(fd).read_to_end(&mut self.buffer).ok()?;
        Some(&self.buffer)
    }

    /// The `stat` of who has the pid; none if nobody has it, or it is the directory of another ([`twice`]).
    pub(super) fn stat(&mut self) -> Option<Stat> {
        // The kernel looks at the task some time after it has looked the pid up. Meanwhile that one may have been taken out of
        // the pid: then another look finds who has it now, an exec'ing thread or nobody.
        let stat = (0..RELEASED_LOOKS).find_map(|_| match self.read(c"stat").and_then(Stat::parse) {
            Some(stat) if stat.is_released() => None,
            stat => Some(stat),
        })?;
        stat.filter(|stat| stat.pid == self.id)
    }

    fn link(&self, name: &std::ffi::CStr) -> Option<Text> {
        let target = readlinkat(&self.fd, name).ok()?;
        let target = target.as_bytes();
        let deleted = target.strip_suffix(b" (deleted)").filter(|_| self.is_unlinked(name));
        Some(Text::new(deleted.unwrap_or(target)))
    }

    /// Whether what a link leads to has no name any more. A name may end like the mark of one that has none.
    fn is_unlinked(&self, name: &std::ffi::CStr) -> bool {
        // It is opened without asking its file system anything, and what is known of it suffices.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty()).and_then(|file| fstat(&file)).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Number of a namespace, from a link like `mnt:[4026531841]`; 0 if it cannot be read.
    pub(super) fn namespace(&self, name: &std::ffi::CStr) -> u32 {
        let number = |target: &std::ffi::OsStr| target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok();
        readlinkat(&self.fd, name).ok().and_then(|target| number(&target)).unwrap_or_default()
    }

    /// exe and cwd.
    pub(super) fn image(&mut self, process: &mut Process) {
        let image = process.image_mut();
        if let Some(exe) = self.link(c"exe") {
            image.set_exe(exe);
        }
        if let Some(cwd) = self.link(c"cwd") {
            image.set_cwd(cwd);
        }
    }

    /// A thread of this process that is not ending; none if there is none.
    pub(super) fn living_thread(&mut self) -> Option<u32> {
        for listing in 0..LISTINGS {
            if listing > 1 {
                std::thread::sleep(LISTING_AFTER);
            }
            let leader = self.stat()?;
            if !leader.is_ending() {
                return Some(self.id);
            }
            if leader.threads <= 1 {
                return None;
            }
            let (mut ending, mut whole) = (0, true);
            for tid in self.tids()? {
                match self.thread(tid).and_then(|mut thread| thread.stat()) {
                    Some(stat) if !stat.is_ending() => return Some(tid),
                    Some(stat) if !stat.is_dead() => ending += 1,
                    _ => whole = false,
                }
            }
            // A listing ends early where the thread is released that it stands on, and leaves out whom the others move up for
            // (`first_tid`, `next_tid`, fs/proc/base.c). One that execs becomes the leader after that was looked at, and leaves
            // its tid to the former one, which ends, is dead a moment later, and soon is released (`de_thread`, fs/exec.c): that
            // one is counted twice then, and the living one not at all.
            if whole && ending >= leader.threads && self.stat()?.is_ending() {
                return None;
            }
        }
        None
    }

    /// Its threads.
    fn tids(&self) -> Option<impl Iterator<Item = u32>> {
        let tasks = std::fs::read_dir(format!("/proc/self/fd/{}/task", self.fd.as_raw_fd())).ok()?;
        Some(tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
    }
}

/// Looks again where nobody was found. A thread that execs takes over the pid of its process (`de_thread`, fs/exec.c), and a
/// directory that is looked up in that moment can be that of the pid which the leader is left with: the kernel finds the task
/// first, then asks for its pid (`proc_pid_lookup`, `proc_pid_make_inode`, fs/proc/base.c).
pub(super) fn twice<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    look().or_else(&look)
}

/// `task_struct.comm` of a kernel thread, from the name that `/proc` shows. That can be longer: a worker's has what it works on
/// behind it (kernel/workqueue.c, `wq_worker_comm`), and since 5.17 other names are shown in full
/// (kernel/kthread.c, `get_kthread_comm`).
pub(super) fn kernel_name(shown: &[u8]) -> &[u8] {
    let end = match shown.strip_prefix(b"kworker/") {
        // A rescuer is named after its workqueue, which may have a `-` in its name.
        Some([b'R', b'-', ..]) => shown.iter().position(|&b| b == b'+'),
        Some(_) => shown.iter().position(|&b| matches!(b, b'-' | b'+')),
        None => None,
    };
    &shown[..end.unwrap_or(shown.len()).min(COMM_LEN - 1)]
}

pub(super) fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// What is used of `/proc/PID/stat`.
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
    /// Where its stack began; 0 if that is not shown.
    pub(super) start_stack: u64,
}

impl Stat {
    /// It is of a task that was waited for, or replaced by the thread that exec'd, since the kernel looked it up: of that one
    /// it tells no group, no session and 0 as parent (`do_task_stat` without `sighand`, fs/proc/array.c).
    pub(super) const fn is_released(&self) -> bool {
        self.pgid.is_none() && self.sid.is_none()
    }

    /// It is on its way through `do_exit`, or dead.
    pub(super) const fn is_ending(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// It waits for nobody: it is released as soon as the kernel gets to it.
    const fn is_dead(&self) -> bool {
        self.state == b'X'
    }

    /// Nobody of the process is left: this is its leader, and waits to be waited for.
    pub(super) const fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// The name, in parentheses, may hold anything, parentheses and newlines too: it ends at the last `)`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let comm = bytes.get(open + 1..close)?.to_vec();
        let pid = number(&bytes[..open])?;
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 as proc_pid_stat(5) does, the state being 3.
        let field = |number: usize| fields.get(number - 3).copied();
        // -1 where the task has none any more.
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

/// What is used of `/proc/PID/status`.
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
