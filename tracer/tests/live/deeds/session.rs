//! A session of its own, on a terminal of its own, with a process group of its own in it.

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

/// Which uid is to have logged in.
const LOGIN: &str = "4711";

/// What `/proc` shows of a process, 0 being oneself.
fn shown(pid: u32) -> Value {
    let stat = if pid == 0 { proc::stat("self") } else { proc::stat(pid) }.expect("it is there");
    json!({
        "pid": stat.pid, "start": stat.start, "pgid": stat.pgid, "sid": stat.sid, "tty": stat.pts(),
        "loginuid": proc::loginuid(stat.pid),
    })
}

/// A leader with a terminal; its child, in a group of its own, becomes another program.
fn session(truth: Truth, _: &[String]) {
    let terminal = openpty(None, None).expect("a terminal");
    let leader = kit::fork(|| {
        // Where audit is not built in, or does not allow it, it stays as it is: what `/proc` shows counts.
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
            stage.exec(this_binary().as_os_str().as_bytes(), &[b"in a group of its own"])
        });
        stage.watch_with(child, shown);
        kit::wait_and_say(truth, "ended", child);
        truth.say("leader at its end", shown(0));
        0
    });
    kit::wait_and_say(truth, "ended", leader);
}
