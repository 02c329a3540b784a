//! Ways to exit.

use std::thread;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork, reap_and_record};
use crate::support::{Truth, proc};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("exit-codes", codes),
    ("exit-leader-first", leader_first),
    ("exit-group-from-thread", group_from_thread),
    ("exit-threads-alone", threads_alone),
    ("exit-killed", killed),
    ("exit-killed-threaded", killed_threaded),
    ("exit-every-signal", every_signal),
    ("exit-fault", fault),
    ("exit-last-thread", last_thread),
    ("exit-raised-again", raised_again),
    ("exit-by-kernel", by_kernel),
    ("exit-kernel-made-thread", kernel_made_thread),
];

/// Children that exit with each of the codes.
fn codes(truth: Truth, _: &[String]) {
    for code in 0..=255 {
        let child = fork(|| code);
        reap_and_record(truth, "ended", child);
    }
}

/// The leader calls exit(2) alone. The last thread ends the process, by exit(2) alone or by exit_group.
fn leader_first(truth: Truth, arguments: &[String]) {
    let by_group = arguments[0] == "group";
    let child = fork(|| {
        let leader = std::process::id();
        thread::spawn(move || {
            kit::until("the leader is a zombie", || {
                proc::stat(format!("{leader}/task/{leader}")).is_some_and(|stat| stat.is_zombie())
            });
            truth.say("leader gone", json!({ "boot_ns": proc::boot_ns() }));
            if by_group { kit::exit_group(7) } else { kit::exit_thread(9) }
        });
        kit::exit_thread(5)
    });
    reap_and_record(truth, "ended", child);
}

/// A thread that is not the leader calls exit_group while others sleep.
fn group_from_thread(truth: Truth, _: &[String]) {
    let child = fork(|| {
        for _ in 0..3 {
            thread::spawn(|| thread::sleep(kit::PATIENCE));
        }
        thread::spawn(|| kit::exit_group(33));
        thread::sleep(kit::PATIENCE);
        0
    });
    reap_and_record(truth, "ended", child);
}

/// Threads start and exit by exit(2) alone; the process continues and exits with 0.
fn threads_alone(truth: Truth, _: &[String]) {
    let child = fork(|| {
        let me = std::process::id();
        for code in 1..=3 {
            let gate = Gate::new();
            thread::scope(|scope| {
                scope.spawn(|| {
                    truth.say("thread", json!({ "tid": kit::gettid(), "code": code }));
                    gate.open();
                });
            });
            gate.pass();
        }
        // These exit without unwinding, so they can only be watched, not joined.
        for code in 4..=6 {
            thread::spawn(move || {
                truth.say("thread", json!({ "tid": kit::gettid(), "code": code }));
                kit::exit_thread(code)
            });
        }
        kit::until("all threads are gone", || proc::stat(me).is_some_and(|stat| stat.threads == 1));
        0
    });
    reap_and_record(truth, "ended", child);
}

/// A child is killed by another child, with a separate name and user.
fn killed(truth: Truth, arguments: &[String]) {
    let signal: i32 = arguments[0].parse().expect("a signal number");
    let ready = Gate::new();
    // SAFETY: an integer; the process has one thread.
    let become_other = || assert_eq!(unsafe { libc::setuid(1234) }, 0, "setuid");
    let victim = fork(|| {
        become_other();
        ready.open();
        thread::sleep(kit::PATIENCE);
        0
    });
    ready.pass();
    let sender = fork(|| {
        kit::set_name(b"assassin");
        become_other();
        kit::kill(victim, signal);
        0
    });
    reap_and_record(truth, "ended", victim);
    reap_and_record(truth, "sender", sender);
}

/// A process of several threads is killed.
fn killed_threaded(truth: Truth, _: &[String]) {
    let ready = Gate::new();
    let victim = fork(|| {
        for _ in 0..4 {
            thread::spawn(|| thread::sleep(kit::PATIENCE));
        }
        ready.open();
        thread::sleep(kit::PATIENCE);
        0
    });
    ready.pass();
    kit::kill(victim, libc::SIGKILL);
    reap_and_record(truth, "ended", victim);
}

/// A child for every signal that ends a process by default.
fn every_signal(truth: Truth, _: &[String]) {
    let ignored = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    for signal in (1..=31).chain([40, 64]).filter(|signal| !ignored.contains(signal) && !stops.contains(signal)) {
        let ready = Gate::new();
        let victim = fork(|| {
            // SAFETY: two integers. Rust ignores SIGPIPE from the start, and children inherit that.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            ready.open();
            thread::sleep(kit::PATIENCE);
            0
        });
        ready.pass();
        kit::kill(victim, signal);
        reap_and_record(truth, "ended", victim);
    }
}

/// A child that ends by its own fault, with or without a core file.
fn fault(truth: Truth, arguments: &[String]) {
    let [how, core, directory] = arguments else { panic!("HOW CORE DIRECTORY") };
    let child = fork(|| {
        std::env::set_current_dir(directory).expect("a directory for the core");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one rlimit, then reads it.
        unsafe {
            libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit);
            limit.rlim_cur = if core == "core" { limit.rlim_max } else { 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        match how.as_str() {
            // SAFETY: the fault is intended. Rust's handler sees that it is not a stack overflow, and lets it happen
            // again.
            "segv" => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
            "abort" => std::process::abort(),
            other => panic!("no such fault: {other}"),
        }
        0
    });
    reap_and_record(truth, "ended", child);
}

/// The last thread to exit has another name and user than the leader, which `/proc` shows.
fn last_thread(truth: Truth, _: &[String]) {
    let ready = Gate::new();
    let child = fork(|| {
        kit::set_name(b"the-leader");
        let leader = std::process::id();
        thread::spawn(move || {
            kit::set_name(b"worker-thread");
            // SAFETY: integers only. The system call changes this thread only; the C library would change all
            // threads.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 1234, 1234, 1234) };
            assert_eq!(changed, 0, "setresuid");
            kit::until("the leader is a zombie", || {
                proc::stat(format!("{leader}/task/{leader}")).is_some_and(|stat| stat.is_zombie())
            });
            kit::exit_group(0)
        });
        ready.open();
        kit::exit_thread(0)
    });
    ready.pass();
    kit::await_end(child);
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).expect("a zombie has a status");
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let uid: u32 = field("Uid:").split_whitespace().next().and_then(|uid| uid.parse().ok()).expect("a uid");
    truth.say("proc", json!({ "comm": field("Name:"), "uid": uid }));
    reap_and_record(truth, "ended", child);
}

extern "C" fn raise_again(signal: libc::c_int) {
    // SAFETY: a handler may call both (signal-safety(7)).
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
}

/// A process gets a signal, cleans up, and kills itself by the same signal. It handles the first one, takes it with
/// `sigwait`, or gets it from the kernel.
fn raised_again(truth: Truth, arguments: &[String]) {
    let how = arguments[0].as_str();
    let ready = Gate::new();
    let victim = fork(|| {
        // SAFETY: the handler only calls what handlers may call; the set is initialized before its use.
        unsafe {
            libc::signal(libc::SIGTERM, raise_again as *const () as libc::sighandler_t);
            match how {
                "handled" => {
                    ready.open();
                    thread::sleep(kit::PATIENCE);
                }
                "waited-for" => {
                    let (mut set, mut signal) = (std::mem::zeroed(), 0);
                    libc::signal(libc::SIGTERM, libc::SIG_DFL);
                    libc::sigemptyset(&raw mut set);
                    libc::sigaddset(&raw mut set, libc::SIGTERM);
                    libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                    ready.open();
                    libc::sigwait(&raw const set, &raw mut signal);
                    libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
                    libc::kill(libc::getpid(), signal);
                }
                "timer" => {
                    libc::signal(libc::SIGALRM, raise_again as *const () as libc::sighandler_t);
                    ready.open();
                    libc::alarm(1);
                    thread::sleep(kit::PATIENCE);
                }
                other => panic!("no such way: {other}"),
            }
        }
        0
    });
    ready.pass();
    if how != "timer" {
        let sender = fork(|| {
            kit::set_name(b"assassin");
            // The sender of a signal is a process, whatever the name of its thread.
            thread::scope(|scope| {
                scope.spawn(|| {
                    kit::set_name(b"a-thread");
                    kit::kill(victim, libc::SIGTERM);
                });
            });
            0
        });
        reap_and_record(truth, "sender", sender);
    }
    reap_and_record(truth, "ended", victim);
}

/// The kernel kills a process for its actions.
fn by_kernel(truth: Truth, arguments: &[String]) {
    let how = arguments[0].as_str();
    let child = fork(|| {
        let limit = |what, soft: u64, hard: u64| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: reads one rlimit.
            assert_eq!(unsafe { libc::setrlimit(what, &raw const limit) }, 0, "setrlimit");
        };
        // SAFETY: integers, and buffers of this stack with their lengths.
        unsafe {
            for signal in [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGXCPU] {
                libc::signal(signal, libc::SIG_DFL);
            }
            match how {
                "pipe" => {
                    let mut ends = [0; 2];
                    assert_eq!(libc::pipe(ends.as_mut_ptr()), 0, "pipe");
                    libc::close(ends[0]);
                    libc::write(ends[1], b"x".as_ptr().cast(), 1);
                }
                "file-size" => {
                    limit(libc::RLIMIT_FSIZE, 1, 1);
                    let file = tempfile::tempfile().expect("a file");
                    libc::write(std::os::fd::AsRawFd::as_raw_fd(&file), b"xx".as_ptr().cast(), 1);
                    libc::write(std::os::fd::AsRawFd::as_raw_fd(&file), b"xx".as_ptr().cast(), 1);
                }
                "cpu" => {
                    limit(libc::RLIMIT_CPU, 1, 2);
                    kit::burn(kit::PATIENCE);
                }
                "seccomp" => {
                    libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
                    libc::syscall(libc::SYS_getppid);
                }
                other => panic!("no such way: {other}"),
            }
        }
        0
    });
    reap_and_record(truth, "ended", child);
}

/// Returns an `io_uring` with a separate thread (`IORING_SETUP_SQPOLL`), or the errno.
pub(crate) fn ring_with_a_thread() -> Result<std::os::fd::OwnedFd, i32> {
    const SQPOLL: u32 = 1 << 1;
    // `struct io_uring_params`, include/uapi/linux/io_uring.h: 120 bytes, the flags are the third word.
    let mut params = [0u32; 30];
    params[2] = SQPOLL;
    // SAFETY: a number, and a structure of the size that the kernel expects.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or_default());
    }
    // SAFETY: the descriptor is new, and only ours.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
}

/// The kernel makes a thread for a process, and ends it.
fn kernel_made_thread(truth: Truth, _: &[String]) {
    let child = fork(|| {
        let me = std::process::id();
        let ring = ring_with_a_thread().expect("it was tried before");
        let other = || {
            let threads = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
            threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).find(|&tid| tid != me)
        };
        kit::until("the kernel makes a thread", || other().is_some());
        truth.say("thread", json!({ "tid": other() }));
        drop(ring);
        kit::until("the thread is gone", || other().is_none());
        0
    });
    reap_and_record(truth, "ended", child);
}
