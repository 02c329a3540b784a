//! The program that deeds exec: it reports its own ids, arguments and files.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::libc;
use serde_json::{Value, json};

use super::kit::{self, Gate, PATIENCE};
use crate::support::{Ident, Truth, proc};

/// Environment variable that makes this binary report, whatever its arguments. It holds three descriptors: of the
/// truth, of the gate to open when done, and of the gate to wait at.
const REPORT: &str = "TRACER_LIVE_REPORT";

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reports, if this process was started for that.
pub(super) fn dispatch() -> Option<ExitCode> {
    let value = std::env::var(REPORT).ok()?;
    let fds: Vec<i32> = value.split(',').map(|fd| fd.parse().expect("a descriptor")).collect();
    let [truth, ready, hold] = fds[..] else { panic!("{REPORT}={value}") };
    let argv: Vec<String> = std::env::args_os().map(|argument| base64(argument.as_bytes())).collect();
    // SAFETY: these take no arguments and cannot fail.
    let ids = unsafe {
        json!({ "uid": libc::getuid(), "euid": libc::geteuid(), "gid": libc::getgid(), "egid": libc::getegid() })
    };
    Truth::inherited(truth).say("report", json!({ "argv": argv, "ids": ids }));
    // SAFETY: one byte to write, one to read: the other side closes its end or opens the gate.
    unsafe {
        libc::write(ready, [1u8].as_ptr().cast(), 1);
        let mut poll = libc::pollfd { fd: hold, events: libc::POLLIN, revents: 0 };
        libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32);
    }
    Some(ExitCode::SUCCESS)
}

/// Lets a child exec the reporting program, with the environment to pass on.
pub(super) struct Stage {
    truth: Truth,
    ready: Gate,
    hold: Gate,
}

impl Stage {
    pub(super) fn new(truth: Truth) -> Self {
        Self { truth, ready: Gate::new(), hold: Gate::new() }
    }

    /// Returns the environment that makes the program report.
    pub(super) fn environment(&self) -> CString {
        let value = format!("{REPORT}={},{},{}", self.truth.fd(), self.ready.fds().1, self.hold.fds().0);
        CString::new(value).expect("no NUL in numbers")
    }

    /// Execs `path` with exactly these arguments. Exits with 126 on failure.
    pub(super) fn exec(&self, path: &[u8], argv: &[&[u8]]) -> ! {
        self.try_exec(path, argv);
        kit::exit_group(126)
    }

    /// Execs, or returns on failure.
    pub(super) fn try_exec(&self, path: &[u8], argv: &[&[u8]]) {
        let path = CString::new(path).expect("a path has no NUL");
        self.execveat(libc::AT_FDCWD, &path, argv, 0);
    }

    /// Execs the file of a descriptor.
    pub(super) fn exec_fd(&self, fd: i32, argv: &[&[u8]]) -> ! {
        self.execveat(fd, c"", argv, libc::AT_EMPTY_PATH);
        kit::exit_group(126)
    }

    /// Execs, or returns on failure.
    pub(super) fn execveat(&self, fd: i32, path: &std::ffi::CStr, argv: &[&[u8]], flags: i32) {
        let argv: Vec<CString> = argv.iter().map(|arg| CString::new(*arg).expect("an argument has no NUL")).collect();
        let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let variable = self.environment();
        let environment = [variable.as_ptr(), std::ptr::null()];
        // SAFETY: both arrays end with a null pointer and outlive the call. execve for a plain path keeps the file
        // name as given, and so does execveat(AT_FDCWD, …).
        unsafe {
            if flags == 0 && fd == libc::AT_FDCWD {
                libc::execve(path.as_ptr(), pointers.as_ptr(), environment.as_ptr());
            } else {
                libc::syscall(libc::SYS_execveat, fd, path.as_ptr(), pointers.as_ptr(), environment.as_ptr(), flags);
            }
        }
    }

    /// In the parent: waits for the report, records what `/proc` shows of the program from outside, and lets it exit.
    pub(super) fn watch(&self, pid: u32) {
        self.watch_with(pid, |_| json!({}));
    }

    /// Like [`Self::watch`], with more facts, read while the program is held.
    pub(super) fn watch_with(&self, pid: u32, more: impl FnOnce(u32) -> Value) {
        // A child that could not exec does not report. Then the truth is its exit.
        let end = std::time::Instant::now() + PATIENCE;
        while !self.ready.pass_or_end(Duration::from_millis(20)) {
            assert!(!kit::has_ended(pid), "process {pid} exited without a report");
            assert!(std::time::Instant::now() < end, "process {pid} did not report:\n{}", proc::process_tree(pid));
        }
        let link = |name: &str| {
            std::fs::read_link(format!("/proc/{pid}/{name}"))
                .map_or(Value::Null, |path| json!(base64(path.as_os_str().as_bytes())))
        };
        let ident = Ident::of(pid);
        let stat = proc::stat(pid).expect("it is held");
        self.truth.say(
            "seen",
            json!({
                "pid": ident.pid,
                "start": ident.start,
                "exe": link("exe"),
                "cwd": link("cwd"),
                "comm": stat.comm,
                "ppid": stat.ppid,
                "cmdline": base64(&std::fs::read(format!("/proc/{pid}/cmdline")).expect("it is held")),
                "ns_pids": proc::ns_pids(pid),
                "more": more(pid),
            }),
        );
        self.hold.open();
    }

    /// Forks a child that execs in `body`, watches it, and records how it exited.
    pub(super) fn play(&self, body: impl FnOnce(&Self)) {
        let child = kit::fork(|| {
            body(self);
            126
        });
        self.watch(child);
        let status = kit::reap_and_record(self.truth, "ended", child);
        assert_eq!(status, 0, "the reporting program failed");
    }
}
