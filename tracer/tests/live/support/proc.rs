//! Reads the parts of `/proc` that the truth needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) ppid: u32,
    /// Process group.
    pub(crate) pgid: u32,
    /// Session.
    pub(crate) sid: u32,
    /// Controlling terminal, by number.
    pub(crate) tty_nr: u32,
    /// `PF_*`.
    pub(crate) flags: u32,
    pub(crate) threads: u32,
    /// Field 22.
    pub(crate) start: u64,
}

/// `PF_EXITING`, include/linux/sched.h.
const PF_EXITING: u32 = 0x4;
/// `PF_KTHREAD`, likewise.
const PF_KTHREAD: u32 = 0x0020_0000;

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // comm may contain any byte, including `)`. It ends at the last one.
        let (head, tail) = text.rsplit_once(')')?;
        let (pid, comm) = head.split_once(" (")?;
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        // fields[0] is field 3.
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: fields.get(1)?.parse().ok()?,
            pgid: fields.get(2)?.parse().ok()?,
            sid: fields.get(3)?.parse().ok()?,
            tty_nr: fields.get(4)?.parse().ok()?,
            flags: fields.get(6)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Returns the terminal as `ps` names it, for major numbers 136 to 143; None for no terminal. Field 7 has the
    /// minor number around the major one (proc_pid_stat(5)).
    pub(crate) fn pts(&self) -> Option<String> {
        let (major, minor) = (self.tty_nr >> 8 & 0xfff, self.tty_nr & 0xff | self.tty_nr >> 12 & 0xf_ff00);
        (136..144).contains(&major).then(|| format!("pts/{}", (major - 136) * 256 + minor))
    }

    pub(crate) fn is_kthread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Returns true if it is exiting or a zombie.
    pub(crate) fn is_ending(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Reads `/proc/PROCESS/stat`, where `PROCESS` is a pid, `self` or `PID/task/TID`.
pub(crate) fn stat(process: impl std::fmt::Display) -> Option<Stat> {
    // While a thread execs, the look-up of its process can fail. It can also find a released task, whose process
    // group and session are -1, and which does not parse. A retry finds the process.
    (0..3).find_map(|_| {
        // Lossy, because comm is bytes.
        Stat::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{process}/stat")).ok()?))
    })
}

/// Returns the audit login uid, if one is set.
pub(crate) fn loginuid(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// Returns every process that exists now, by pid.
pub(crate) fn all() -> BTreeMap<u32, Stat> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

/// Returns the pids in each namespace, outermost first (`NStgid` of `/proc/PID/status`).
pub(crate) fn ns_pids(pid: u32) -> Vec<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("NStgid:"))
        .map(|pids| pids.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
        .unwrap_or_default()
}

/// Returns the current `CLOCK_BOOTTIME` in nanoseconds.
pub(crate) fn boot_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists since 2.6.39");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Describes a process and its descendants, with the state of each thread, for the message when something hangs.
pub(crate) fn process_tree(root: u32) -> String {
    let all = all();
    let mut text = String::new();
    let mut pending = vec![root];
    while let Some(pid) = pending.pop() {
        let Some(stat) = all.get(&pid) else { continue };
        let _ = writeln!(text, "{pid} (child of {}) {} {}", stat.ppid, stat.state, stat.comm);
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let _ = writeln!(text, "    {}: {} {}", task.file_name().display(), read("wchan"), read("syscall").trim());
        }
        pending.extend(all.values().filter(|stat| stat.ppid == pid).map(|stat| stat.pid));
    }
    text
}
