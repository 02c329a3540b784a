//! Execs that the kernel refuses, each for another reason.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit;
use super::report::base64;
use crate::support::{Ident, Truth};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("exec-failed-reasons", reasons),
    ("exec-failed-strange", strange),
    ("exec-failed-thread", from_thread),
    ("exec-failed-spawn", spawned),
    ("exec-failed-storm", storm),
    ("exec-failed-search", search),
];

/// The process that tries, and where it writes the truth.
struct Attempts {
    truth: Truth,
    me: Ident,
}

impl Attempts {
    fn by_me(truth: Truth) -> Self {
        Self { truth, me: Ident::me() }
    }

    /// Tries to exec a program that cannot be run, and records the result. `fd` is passed to execveat.
    fn attempt(&self, fd: Option<i32>, path: &[u8], argv: &[&[u8]], flags: i32) -> i32 {
        let file = CString::new(path).expect("a path has no NUL");
        let strings: Vec<CString> = argv.iter().map(|arg| CString::new(*arg).expect("no NUL")).collect();
        let mut pointers: Vec<*const libc::c_char> = strings.iter().map(|arg| arg.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let errno = call(fd, file.as_ptr(), pointers.as_ptr(), flags);
        let argv: Vec<String> = argv.iter().map(|arg| base64(arg)).collect();
        self.truth.say(
            "tried",
            json!({
                "pid": self.me.pid, "start": self.me.start, "tid": kit::gettid(), "fd": fd,
                "path": base64(path), "argv": argv, "errno": errno,
            }),
        );
        errno
    }
}

/// Makes the system call and returns the error.
pub(super) fn call(fd: Option<i32>, path: *const libc::c_char, argv: *const *const libc::c_char, flags: i32) -> i32 {
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: the targets of the pointers outlive the call; a bad pointer is an error, not a fault.
    let done = unsafe {
        match fd {
            None => libc::syscall(libc::SYS_execve, path, argv, environment.as_ptr()),
            Some(fd) => libc::syscall(libc::SYS_execveat, fd, path, argv, environment.as_ptr(), flags),
        }
    };
    assert_eq!(done, -1, "an exec that succeeds does not return");
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Makes a file with this content and mode.
pub(super) fn file(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).expect("a new file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// One child tries each reason in turn.
fn reasons(truth: Truth, arguments: &[String]) {
    let place = Path::new(&arguments[0]);
    let in_place = |name: &[u8]| place.join(OsStr::from_bytes(name));
    file(&in_place(b"plain"), b"#!/bin/sh\n", 0o644);
    file(&in_place(b"garbage"), b"\x01\x02 not a program \xff", 0o755);
    file(&in_place(b"script"), b"#!/no/such/interpreter -x\n", 0o755);
    symlink("circle", in_place(b"circle")).expect("a new link");
    let child = kit::fork(|| {
        let attempts = Attempts::by_me(truth);
        let directory = fs::File::open(place).expect("it exists");
        let plain = fs::File::open(in_place(b"plain")).expect("it exists");
        let tried = [
            attempts.attempt(None, b"/no/such/program", &[b"such", b"--flag"], 0),
            attempts.attempt(None, bytes(&in_place(b"plain")), &[b"plain"], 0),
            attempts.attempt(None, bytes(&in_place(b"garbage")), &[b"garbage"], 0),
            attempts.attempt(None, bytes(&in_place(b"script")), &[b"script"], 0),
            attempts.attempt(None, bytes(&in_place(b"plain/below")), &[b"below"], 0),
            attempts.attempt(None, bytes(&in_place(b"circle")), &[b"circle"], 0),
            attempts.attempt(None, bytes(&in_place(b"caf\xe9")), &[b"caf\xe9", b"", b"new\nline"], 0),
            attempts.attempt(None, bytes(place), &[b"a directory"], 0),
            attempts.attempt(None, b"relative/path", &[b"relative"], 0),
            attempts.attempt(Some(directory.as_raw_fd()), b"missing", &[b"missing"], 0),
            attempts.attempt(Some(plain.as_raw_fd()), b"", &[b"by descriptor"], libc::AT_EMPTY_PATH),
        ];
        i32::from(tried.contains(&0))
    });
    kit::reap_and_record(truth, "ended", child);
}

/// Invalid arguments and paths.
fn strange(truth: Truth, _: &[String]) {
    let child = kit::fork(|| {
        let attempts = Attempts::by_me(truth);
        let me = attempts.me;
        let nowhere = 8 as *const libc::c_char;
        let say = |what: &str, errno: i32| {
            truth.say(what, json!({ "pid": me.pid, "start": me.start, "errno": errno }));
        };
        let path = c"/no/such/program".as_ptr();
        say("bad path", call(None, nowhere, [nowhere].as_ptr(), 0));
        say("no argv", call(None, path, std::ptr::null(), 0));
        say("bad argument", call(None, path, [c"good".as_ptr(), nowhere, std::ptr::null()].as_ptr(), 0));
        say("bad list", call(None, path, nowhere.cast(), 0));
        let many: Vec<Vec<u8>> = (0..1000).map(|n| format!("argument {n}").into_bytes()).collect();
        let many: Vec<&[u8]> = many.iter().map(|argument| &argument[..]).collect();
        attempts.attempt(None, b"/no/many", &many, 0);
        attempts.attempt(None, b"/no/long", &[b"long", &vec![b'x'; 100_000], b"after"], 0);
        attempts.attempt(None, b"/no/large", &[&[b'y'; 4000], &[b'z'; 4000], &[b'a'; 4000]], 0);
        0
    });
    kit::reap_and_record(truth, "ended", child);
}

/// By a thread that is not the leader.
fn from_thread(truth: Truth, _: &[String]) {
    let attempts = Attempts::by_me(truth);
    std::thread::scope(|scope| {
        scope.spawn(|| attempts.attempt(None, b"/no/such/program", &[b"such"], 0));
    });
}

/// By the C library, in a child that shares the memory of its parent.
fn spawned(truth: Truth, _: &[String]) {
    let (path, argument) = (c"/no/such/program".as_ptr(), c"spawned".as_ptr().cast_mut());
    let (argv, environment) = ([argument, std::ptr::null_mut()], [std::ptr::null_mut()]);
    let mut pid = 0;
    // SAFETY: strings and arrays that outlive the call.
    let errno = unsafe {
        libc::posix_spawn(&raw mut pid, path, std::ptr::null(), std::ptr::null(), argv.as_ptr(), environment.as_ptr())
    };
    truth.say("spawned", json!({ "errno": errno }));
}

/// Fails a given number of times, as fast as possible.
fn storm(truth: Truth, arguments: &[String]) {
    let times: u32 = arguments[0].parse().expect("a number");
    let me = Ident::me();
    let argument = c"storm".as_ptr();
    for _ in 0..times {
        let errno = call(None, c"/no/such/program".as_ptr(), [argument, std::ptr::null()].as_ptr(), 0);
        assert_eq!(errno, libc::ENOENT);
    }
    truth.say("storm", json!({ "pid": me.pid, "start": me.start, "times": times }));
}

/// Searches PATH like the C library.
fn search(truth: Truth, arguments: &[String]) {
    let [path, program] = arguments else { panic!("PATH PROGRAM") };
    let [path, program] = [path, program].map(|text| CString::new(&**text).expect("no NUL"));
    let child = kit::fork(|| {
        // SAFETY: this process has one thread; the strings and the list outlive the calls.
        unsafe {
            assert_eq!(libc::setenv(c"PATH".as_ptr(), path.as_ptr(), 1), 0, "setenv");
            libc::execvp(program.as_ptr(), [program.as_ptr(), c"-x".as_ptr(), std::ptr::null()].as_ptr());
        }
        127
    });
    kit::reap_and_record(truth, "ended", child);
}
