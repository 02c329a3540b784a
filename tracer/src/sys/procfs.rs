//! The mount options of `/proc`, and files that such a mount may hide.

use std::fs;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The id of this boot.
pub const BOOT_ID: &str = "sys/kernel/random/boot_id";

/// What the mount options of `/proc` hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// True if processes of other users are hidden (`hidepid`).
    pub hides_others: bool,
    /// True if only files about processes are shown (`subset=pid`).
    pub processes_only: bool,
}

impl Mounted {
    /// Returns what the current mount of `/proc` hides.
    pub fn now() -> Self {
        let groups = nix::unistd::getgroups().unwrap_or_default();
        let groups: Vec<u32> = groups.into_iter().chain([nix::unistd::getegid()]).map(nix::libc::gid_t::from).collect();
        Self::of(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &groups)
    }

    /// Parses `mountinfo` for a process with these groups (proc_pid_mountinfo(5), proc(5)).
    fn of(mounts: &str, groups: &[u32]) -> Self {
        let options = |line: &'_ str| {
            let (fields, tail) = line.split_once(" - ")?;
            let mut tail = tail.split(' ');
            let right = fields.split(' ').nth(4)? == "/proc" && tail.next()? == "proc";
            right.then(|| tail.nth(1).map(str::to_owned)).flatten()
        };
        // The last mount is on top.
        let Some(options) = mounts.lines().rev().find_map(options) else { return Self::default() };
        let value = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        let of_group = value("gid").and_then(|gid| gid.parse().ok()).is_some_and(|gid| groups.contains(&gid));
        let hides_others = match value("hidepid") {
            None | Some("0" | "off") => false,
            Some("4" | "ptraceable") => true,
            Some(_) => !of_group,
        };
        Self { hides_others, processes_only: value("subset") == Some("pid") }
    }
}

/// Reads a file with one line below `/proc`.
///
/// If the mount hides it, it is read through a private mount for this call, which needs `CAP_SYS_ADMIN`.
pub fn read(name: &str) -> Option<String> {
    let path = format!("/proc/{name}");
    let read = || fs::read_to_string(&path).map(|text| text.trim().to_owned());
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && Mounted::now().processes_only => {
            // The mount namespace belongs to the thread and ends with it.
            let privately = || mount_whole().ok().and_then(|()| read().ok());
            std::thread::scope(|scope| scope.spawn(privately).join()).ok().flatten()
        }
        read => read.ok(),
    }
}

fn mount_whole() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_RDONLY, none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_last_mount_count() {
        let line = |options: &str| format!("22 1 0:21 / /proc rw,nosuid shared:5 - proc proc {options}\n");
        let of = |options: &str| Mounted::of(&line(options), &[4, 7]);
        assert_eq!(of("rw"), Mounted::default());
        assert_eq!(of("rw,hidepid=0"), Mounted::default());
        let hides = Mounted { hides_others: true, processes_only: false };
        for options in
            ["rw,hidepid=2", "rw,hidepid=noaccess", "rw,gid=5,hidepid=invisible", "rw,gid=4,hidepid=ptraceable"]
        {
            assert_eq!(of(options), hides, "{options}");
        }
        assert_eq!(of("rw,gid=7,hidepid=invisible"), Mounted::default(), "members of that group see all");
        assert_eq!(of("rw,subset=pid"), Mounted { hides_others: false, processes_only: true });
        let both = line("rw,hidepid=2") + "23 1 0:22 / /mnt/proc rw - proc proc rw,hidepid=2\n" + &line("rw");
        assert_eq!(Mounted::of(&both, &[]), Mounted::default());
        assert_eq!(Mounted::of("", &[]), Mounted::default());
    }
}
