//! Uses resources, and gets killed for it.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::Deed;
use super::kit::{self, fork, reap_and_record};
use crate::support::{Ident, SLOWNESS, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("usage-counters", counters),
    ("usage-cpu", cpu),
    ("usage-children", children),
    ("usage-io", io),
    ("usage-oom", oom),
];

const MIB: usize = 1 << 20;

/// Touches this much new memory, page by page, and frees it only at exit.
fn touch(bytes: usize) {
    // SAFETY: a separate anonymous mapping, then one byte of each of its pages.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED, "mmap");
        // A huge page would replace 512 faults by one.
        libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
        for page in (0..bytes).step_by(4096) {
            start.cast::<u8>().add(page).write_volatile(1);
        }
    }
}

/// Sleeps `count` times. A thread that is preempted on the way to sleep may wake up without having slept.
fn sleep_times(count: i64) {
    let slept = || getrusage(UsageWho::RUSAGE_THREAD).expect("no arguments to be wrong").voluntary_context_switches();
    let end = slept() + count;
    while slept() < end {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Faults, memory and switches, in a thread that exits, a thread that continues and the leader.
fn counters(truth: Truth, _: &[String]) {
    let child = fork(|| {
        thread::spawn(|| {
            touch(8 * MIB);
            sleep_times(20);
        })
        .join()
        .expect("it only touches memory");
        let gate = kit::Gate::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                touch(8 * MIB);
                gate.open();
                thread::sleep(kit::PATIENCE);
            });
            gate.pass();
            touch(16 * MIB);
            sleep_times(30);
            kit::exit_group(0)
        })
    });
    reap_and_record(truth, "ended", child);
}

/// Three threads use the CPU: one has exited long before, the leader has exited too, the last one ends the process.
fn cpu(truth: Truth, _: &[String]) {
    let part = Duration::from_millis(70) * SLOWNESS;
    let child = fork(|| {
        thread::spawn(move || kit::burn(part)).join().expect("it only counts");
        thread::spawn(move || {
            kit::burn(part);
            kit::exit_thread(0)
        });
        kit::burn(part);
        kit::exit_thread(0)
    });
    reap_and_record(truth, "ended", child);
}

/// Returns the usage of this process itself so far.
fn own() -> Value {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("no arguments to be wrong");
    let nanoseconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000;
    json!({
        "cpu_ns": nanoseconds(usage.user_time()) + nanoseconds(usage.system_time()),
        "minor_faults": usage.minor_page_faults(),
        "max_rss_bytes": usage.max_rss() * 1024,
    })
}

/// A process that reaps one busy child, and lets the kernel reap another.
fn children(truth: Truth, _: &[String]) {
    let child = fork(|| {
        let busy = fork(|| {
            touch(24 * MIB);
            kit::burn(Duration::from_millis(120) * SLOWNESS);
            0
        });
        reap_and_record(truth, "busy", busy);
        // SAFETY: two integers. From here on the kernel reaps children, and their usage is not added anywhere.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let (mut open, end) = std::io::pipe().expect("a pipe");
        let unwaited = fork(|| {
            kit::burn(Duration::from_millis(120) * SLOWNESS);
            0
        });
        // Polling for its exit would use the CPU too.
        drop(end);
        assert_eq!(open.read(&mut [0]).expect("a pipe"), 0, "it has closed its files");
        kit::until("the kernel has reaped it", || kit::is_gone(unwaited));
        // Up to 6.1 a thread's memory is added to the process's only every 64 faults, and a fault may map 16 pages of
        // a file.
        touch(MIB);
        truth.say("own", own());
        0
    });
    reap_and_record(truth, "ended", child);
}

/// Writes and reads past the page cache, in a thread and in a child that is reaped.
fn io(truth: Truth, arguments: &[String]) {
    let directory = PathBuf::from(&arguments[0]);
    let transfer = move |name: &str, bytes: usize| {
        let path = directory.join(name);
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path).expect("a new file");
        file.write_all(&vec![7u8; bytes]).and_then(|()| file.sync_all()).expect("the disk takes it");
        drop(file);
        // SAFETY: an aligned buffer for O_DIRECT: whole pages from the kernel.
        let buffer = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            std::slice::from_raw_parts_mut(start.cast::<u8>(), bytes)
        };
        match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path) {
            Ok(mut direct) => direct.read_exact(buffer).expect("what was written"),
            // tmpfs and others have no storage to read from: nothing is read, and both sides report that.
            Err(error) => truth.say("no direct I/O", json!({ "error": error.to_string() })),
        }
    };
    let child = fork(|| {
        let in_thread = transfer.clone();
        thread::spawn(move || in_thread("thread", MIB)).join().expect("it only reads and writes");
        transfer("leader", 2 * MIB);
        // The threads above have exited: forking is safe again.
        let grandchild = fork(|| {
            transfer("child", MIB);
            0
        });
        reap_and_record(truth, "grandchild", grandchild);
        0
    });
    reap_and_record(truth, "ended", child);
}

/// A separate memory cgroup. Dropping it removes it.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(limit: usize) -> Self {
        let parent = memory_hierarchy().expect("checked before the test began");
        let v2 = parent.join("cgroup.controllers").exists();
        let group = parent.join(format!("tracer-live-{}", std::process::id()));
        if v2 {
            fs::write(parent.join("cgroup.subtree_control"), "+memory")
                .expect("the memory controller can be passed on");
        }
        fs::create_dir(&group).expect("our own cgroup");
        let this = Self(group);
        let (max, swap) =
            if v2 { ("memory.max", "memory.swap.max") } else { ("memory.limit_in_bytes", "memory.swappiness") };
        fs::write(this.0.join(max), limit.to_string()).expect("a limit");
        // Without swap accounting there is no such file. Without swap there is nothing to forbid.
        let _ = fs::write(this.0.join(swap), "0");
        this
    }

    fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").expect("a process may move itself");
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Processes that the kernel has not released yet may still be in it.
        let mut attempts =
            (0..2000).map(|_| fs::remove_dir(&self.0).inspect_err(|_| thread::sleep(Duration::from_millis(5))));
        assert!(attempts.any(|gone| gone.is_ok()) || thread::panicking(), "{} is not removed", self.0.display());
    }
}

/// Returns where a memory cgroup can be made, v1 or v2.
pub(crate) fn memory_hierarchy() -> Option<PathBuf> {
    let v1 = PathBuf::from("/sys/fs/cgroup/memory");
    if v1.join("memory.limit_in_bytes").exists() || v1.join("cgroup.procs").exists() {
        return Some(v1);
    }
    let v2 = PathBuf::from("/sys/fs/cgroup");
    let controllers = fs::read_to_string(v2.join("cgroup.controllers")).ok()?;
    controllers.split_ascii_whitespace().any(|controller| controller == "memory").then_some(v2)
}

/// A child takes more memory than its cgroup has.
fn oom(truth: Truth, _: &[String]) {
    let group = MemoryGroup::new(32 * MIB);
    let child = fork(|| {
        group.enter();
        touch(256 * MIB);
        0
    });
    // Its copy of `group` must not remove anything; this one does.
    reap_and_record(truth, "ended", child);
    truth.say("killer", json!(Ident::me()));
}
