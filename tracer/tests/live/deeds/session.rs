//! A separate session on a separate terminal, with a separate process group in it.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;

use nix::libc;
use nix::pty::openpty;
use serde_json::{Value, json};

use super::Deed;
use super::kit;
use super::report::Stage;
use crate::support::{Truth, proc, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[("session", session)];

/// The login uid to set.
const LOGIN: &str = "4711";

/// Returns what `/proc` shows of a process, where 0 is this process.
fn shown(pid: u32) -> Value {
    let stat = if pid == 0 { proc::stat("self") } else { proc::stat(pid) }.expect("it exists");
    json!({
        "pid": stat.pid, "start": stat.start, "pgid": stat.pgid, "sid": stat.sid, "tty": stat.pts(),
        "loginuid": proc::loginuid(stat.pid),
    })
}

/// A leader with a terminal. Its child, in a separate group, execs another program.
fn session(truth: Truth, _: &[String]) {
    let terminal = openpty(None, None).expect("a terminal");
    let leader = kit::fork(|| {
        // This fails if audit is not built in, or does not allow it. The test compares with what `/proc` shows.
        let _ = std::fs::write("/proc/self/loginuid", LOGIN);
        // SAFETY: integers only.
        unsafe {
            assert!(libc::setsid() > 0, "setsid: {}", io::Error::last_os_error());
            let done = libc::ioctl(terminal.slave.as_raw_fd(), libc::TIOCSCTTY, 0);
            assert_eq!(done, 0, "TIOCSCTTY: {}", io::Error::last_os_error());
        }
        truth.say("leader", shown(0));
        let stage = Stage::new(truth);
        let child = kit::fork(|| {
            // SAFETY: integers only.
            assert_eq!(unsafe { libc::setpgid(0, 0) }, 0, "setpgid: {}", io::Error::last_os_error());
            stage.exec(this_binary().as_os_str().as_bytes(), &[b"in a separate group"])
        });
        stage.watch_with(child, shown);
        kit::reap_and_record(truth, "ended", child);
        truth.say("leader at its end", shown(0));
        0
    });
    kit::reap_and_record(truth, "ended", leader);
}
