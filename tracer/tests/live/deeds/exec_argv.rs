//! Execs with arguments of every kind, from threads, in scripts, and execs that fail.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, fork, reap_and_record};
use super::report::Stage;
use crate::support::{Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("exec-argv", argv),
    ("exec-thread", from_thread),
    ("exec-threads", from_threads),
    ("exec-script", script),
    ("exec-chain", chain),
    ("exec-fails", fails),
    ("exec-fails-late", fails_late),
    ("exec-vfork", vfork),
];

/// Kernel limit of one argument, including its NUL (`MAX_ARG_STRLEN`, include/uapi/linux/binfmts.h).
const MAX_ARGUMENT: usize = 32 * 4096;

fn me() -> Vec<u8> {
    this_binary().as_os_str().as_bytes().to_vec()
}

/// Lets the next exec have arguments of many megabytes: a quarter of the stack limit, at most 6 MiB.
fn allow_large_arguments() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit, then reads it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(64 << 20);
        assert_eq!(libc::setrlimit(libc::RLIMIT_STACK, &raw const limit), 0, "a larger stack");
    }
}

fn argv(truth: Truth, arguments: &[String]) {
    let argv: Vec<Vec<u8>> = match arguments[0].as_str() {
        "none" => vec![],
        "other-name" => vec![b"another name altogether".to_vec(), b"-x".to_vec()],
        "not-utf8" => vec![b"prog".to_vec(), b"\xff\xfe".to_vec(), b"caf\xe9".to_vec(), "é".as_bytes().to_vec()],
        "awkward" => [
            &b"prog"[..],
            b"",
            b"two\nlines",
            b"\ttab\r",
            b"\x1b[31mred\x1b]0;title\x07",
            b"\"quotes\" \\ '",
            b"",
            "\u{202e}rtl \u{2028} \u{feff}".as_bytes(),
            b"\x01\x7f",
            b"",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        "two-mib" => (0..32u8).map(|n| vec![b'a' + n % 26; 64 << 10]).collect(),
        "longest" => vec![b"prog".to_vec(), vec![b'x'; MAX_ARGUMENT - 1], b"last".to_vec()],
        "many" => (0..20_000).map(|n: u32| n.to_string().into_bytes()).collect(),
        "at-limit" => {
            // Exactly 64 KiB, including NULs.
            let mut argv = vec![vec![b'y'; 999]; 65];
            argv.push(vec![b'z'; (64 << 10) - 65 * 1000 - 1]);
            argv
        }
        other => panic!("no such arguments: {other}"),
    };
    let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
    Stage::new(truth).play(|stage| {
        allow_large_arguments();
        stage.exec(&me(), &argv)
    });
}

/// A thread that is not the leader execs, while the leader and others sleep.
fn from_thread(truth: Truth, _: &[String]) {
    Stage::new(truth).play(|stage| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| thread::sleep(kit::PATIENCE));
            }
            scope.spawn(|| {
                truth.say("thread", json!({ "tid": kit::gettid() }));
                stage.exec(&me(), &[b"from-thread"])
            });
            thread::sleep(kit::PATIENCE);
        });
    });
}

/// LEADER COUNT: COUNT execs of one process, each from a thread that is not the leader. The leader stays, or has
/// exited by then. At last it waits for the end of its input.
fn from_threads(truth: Truth, arguments: &[String]) {
    let leader_goes = arguments[0] == "gone";
    let count: u32 = arguments[1].parse().expect("a count");
    if count == 0 {
        truth.say("done", json!({}));
        std::io::stdin().read_line(&mut String::new()).expect("a pipe");
        return;
    }
    // Each program opens it again. SAFETY: F_SETFD takes an int and touches only this descriptor, which is ours.
    unsafe { libc::fcntl(truth.fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    let mut again: Vec<_> = std::env::args_os().skip(1).collect();
    *again.last_mut().expect("the count") = (count - 1).to_string().into();
    // The exec ends all others, in any order, while the process is observed.
    for _ in 0..3 {
        thread::spawn(|| thread::sleep(kit::PATIENCE));
    }
    // `/proc/self/exe` is that of the leader, and is empty once the leader has exited.
    let (leader, program) = (kit::gettid(), this_binary());
    let execs = thread::spawn(move || {
        while leader_goes && is_alive(leader) {
            thread::yield_now();
        }
        panic!("exec: {}", Command::new(program).args(again).exec())
    });
    if leader_goes {
        kit::exit_thread(0);
    }
    let _ = execs.join();
}

/// Returns true if a thread of this process has not exited.
fn is_alive(thread: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn write_script(path: &Path, interpreter: &str) {
    fs::write(path, format!("#!{interpreter}\n")).expect("a new file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// A `#!` script, whose interpreter may be a script too. The innermost interpreter is this program.
fn script(truth: Truth, arguments: &[String]) {
    let [directory, nested] = arguments else { panic!("DIRECTORY NESTED") };
    let directory = Path::new(directory);
    // The `#!` line holds only 255 bytes; a link is short.
    let interpreter = directory.join("interpreter");
    std::os::unix::fs::symlink(this_binary(), &interpreter).expect("a new link");
    let (inner, outer) = (directory.join("inner"), directory.join("outer"));
    write_script(&inner, &format!("{} -a b", interpreter.display()));
    write_script(&outer, &format!("{} -c", inner.display()));
    let script = if nested == "nested" { outer } else { inner };
    Stage::new(truth).play(|stage| stage.exec(script.as_os_str().as_bytes(), &[b"given", b"x", b"y"]));
}

/// A process that execs itself repeatedly: DIRECTORY holds the truth of the later ones, LEFT is their number.
fn chain(truth: Truth, arguments: &[String]) {
    let [directory, left @ ..] = arguments else { panic!("DIRECTORY [LEFT]") };
    let again = |left: u32| -> ! {
        let (me, own_truth, left) = (this_binary(), format!("{directory}/truth"), left.to_string());
        let arguments = [&*me.to_string_lossy(), "--deed", "exec-chain", &own_truth, directory, &left]
            .map(|argument| CString::new(argument).expect("no NUL"));
        panic!("exec: {:?}", nix::unistd::execv(&arguments[0], &arguments));
    };
    match left.first().map(|left| left.parse::<u32>().expect("a count")) {
        None => {
            let child = fork(|| again(3));
            reap_and_record(truth, "ended", child);
        }
        Some(0) => {}
        Some(left) => again(left - 1),
    }
}

/// Execs that fail in different ways. The process continues after each.
fn fails(truth: Truth, arguments: &[String]) {
    let directory = Path::new(&arguments[0]);
    let (plain, no_format) = (directory.join("plain"), directory.join("no-format"));
    fs::write(&plain, "not executable").expect("a new file");
    fs::write(&no_format, "neither ELF nor script").expect("a new file");
    fs::set_permissions(&no_format, fs::Permissions::from_mode(0o755)).expect("our own file");
    let missing = directory.join("missing-interpreter");
    write_script(&missing, "/nonexistent/interpreter");
    let stage = Stage::new(truth);
    let child = fork(|| {
        for path in [Path::new("/nonexistent"), &plain, &no_format, &missing, directory] {
            stage.try_exec(path.as_os_str().as_bytes(), &[b"prog"]);
        }
        stage.try_exec(&me(), &[&vec![b'x'; MAX_ARGUMENT]]);
        77
    });
    reap_and_record(truth, "ended", child);
}

/// An exec that fails after the old program is gone: the kernel kills the process.
fn fails_late(truth: Truth, arguments: &[String]) {
    // An ELF header and one segment whose address is outside user memory.
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    for half in [2u16, machine] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for word in [0x40_0000u64, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for word in [0u64, 0xffff_8000_0000_0000, 0xffff_8000_0000_0000, 4096, 4096, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf.resize(4096, 0);
    let path = Path::new(&arguments[0]).join("impossible");
    fs::write(&path, elf).expect("a new file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let stage = Stage::new(truth);
    let child = fork(|| stage.exec(path.as_os_str().as_bytes(), &[b"impossible"]));
    reap_and_record(truth, "ended", child);
}

/// The plan of a vfork child. It shares its parent's memory, so everything is prepared.
struct VforkPlan {
    path: CString,
    argv: [*const libc::c_char; 2],
    environment: [*const libc::c_char; 2],
}

/// The vfork child: execs, or exits with 127 like a shell's child.
extern "C" fn vfork_child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passes its plan and is suspended while we use it; only system calls are made.
    unsafe {
        let plan = &*plan.cast::<VforkPlan>();
        libc::execve(plan.path.as_ptr(), plan.argv.as_ptr(), plan.environment.as_ptr());
        libc::_exit(127)
    }
}

/// vfork, and in its child an exec that works or one that fails, while the parent is suspended.
fn vfork(truth: Truth, arguments: &[String]) {
    let stage = Stage::new(truth);
    let path = if arguments[0] == "works" { this_binary() } else { "/nonexistent".into() };
    let (name, environment) = (c"vforked", stage.environment());
    let mut plan = VforkPlan {
        path: CString::new(path.as_os_str().as_bytes()).expect("no NUL"),
        argv: [name.as_ptr(), std::ptr::null()],
        environment: [environment.as_ptr(), std::ptr::null()],
    };
    let mut stack = vec![0u128; 4096];
    // SAFETY: the child runs on a separate stack, which outlives it because CLONE_VFORK suspends us until it is done
    // with our memory. It makes system calls only.
    let child = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(vfork_child, top.cast(), flags, (&raw mut plan).cast())
    };
    assert!(child > 0, "clone: {}", std::io::Error::last_os_error());
    if arguments[0] == "works" {
        stage.watch(child as u32);
    }
    reap_and_record(truth, "ended", child as u32);
}
