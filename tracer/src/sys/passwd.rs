//! Users by name and number, read from `/etc/passwd`.
//!
//! The C library would use its name service (`getpwnam`, `getpwuid`). That loads further libraries by configuration, and a
//! static binary crashes if one of them does not fit. So this module reads the file. It runs `getent` only for a name that
//! a user typed and the file lacks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const PASSWD: &str = "/etc/passwd";

/// Largest part of the file that is read, in bytes: enough for some 200,000 users.
const MAX_BYTES: u64 = 16 << 20;

/// Largest part of the output of `getent` that is read, in bytes. It is one line.
const MAX_ANSWER: u64 = 64 << 10;

/// Time limit for `getent`, which may query a server.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a name has no number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    /// Neither the file nor `getent` has it.
    #[error("no user has this name: give one that `getent passwd` lists, or a number")]
    NoSuchName,
    /// `getent` did not answer.
    #[error("`getent passwd` does not answer within {} seconds: give a number", TIMEOUT.as_secs())]
    NoAnswer,
}

/// Returns the number of the user with this name.
pub fn uid_of(name: &str) -> Result<u32, UnknownUser> {
    let listed = Passwd::of_system().read().into_iter().find(|user| user.name == name);
    listed.map_or_else(|| query(Command::new("getent"), name, TIMEOUT), |user| Ok(user.uid))
}

/// The file of users.
#[derive(Debug)]
pub(super) struct Passwd {
    pub(super) path: PathBuf,
}

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
}

impl Passwd {
    /// Returns the users of this machine.
    pub(super) fn of_system() -> Self {
        Self { path: PASSWD.into() }
    }

    /// Returns all users in the file. None if it cannot be read.
    pub(super) fn read(&self) -> Vec<User> {
        let open = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&self.path);
        let regular = |file: &File| file.metadata().is_ok_and(|meta| meta.is_file());
        let mut bytes = Vec::new();
        if let Some(file) = open.ok().filter(regular) {
            // The part before an error is still good.
            let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
        }
        users(&bytes)
    }
}

/// Parses the lines that name a user. Lines with `+` or `-` refer to another service.
fn users(bytes: &[u8]) -> Vec<User> {
    let text = String::from_utf8_lossy(bytes);
    let user = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let names_one = !name.is_empty() && !name.starts_with(['+', '-', '#']);
        names_one.then(|| User { name: name.to_owned(), uid })
    };
    text.lines().filter_map(user).collect()
}

/// Runs `getent passwd NAME`: users of a directory service are not in the file.
fn query(mut getent: Command, name: &str, timeout: Duration) -> Result<u32, UnknownUser> {
    if name.is_empty() || name.starts_with('-') {
        return Err(UnknownUser::NoSuchName);
    }
    getent.args(["passwd", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Not every system has `getent`.
    let Ok(mut child) = getent.spawn() else { return Err(UnknownUser::NoSuchName) };
    let answer = answer(&mut child, Instant::now() + timeout);
    let _ = child.kill();
    let _ = child.wait();
    let answer = answer.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => UnknownUser::NoAnswer,
        _ => UnknownUser::NoSuchName,
    })?;
    // The service may spell the name differently, but it is the same user.
    users(&answer).first().map(|user| user.uid).ok_or(UnknownUser::NoSuchName)
}

/// Reads everything that a child writes until it closes its output.
fn answer(child: &mut Child, end: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let Some(mut output) = child.stdout.take() else { return Ok(answer) };
    let mut buffer = [0; 4096];
    while (answer.len() as u64) < MAX_ANSWER {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => match output.read(&mut buffer)? {
                0 => break,
                count => answer.extend_from_slice(&buffer[..count]),
            },
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_a_user_are_read() {
        let file = b"root:x:0:0:root:/root:/bin/bash\n# note\n\n+nis:x:7:7:::\n-bad:x:8:8:::\n+::::::\nshort\n\
            odd:x:nine:9:::\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\xff:x:44:44:::";
        let found: Vec<(String, u32)> = users(file).into_iter().map(|user| (user.name, user.uid)).collect();
        let wanted = [("root", 0), ("www-data", 33), ("\u{fffd}", 44)];
        assert_eq!(found, wanted.map(|(name, uid)| (name.to_owned(), uid)));
    }

    #[test]
    fn getent_runs_with_a_time_limit() {
        let program = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "getent"]);
            command
        };
        let long = Duration::from_mins(1);
        let script = "test \"$1 $2\" = 'passwd carol' || exit 2; echo 'CAROL:*:70000:70000::/:/bin/sh'";
        assert_eq!(query(program(script), "carol", long), Ok(70000));
        assert_eq!(query(program(script), "nobody here", long), Err(UnknownUser::NoSuchName));
        assert_eq!(query(program("exit 0"), "-h", long), Err(UnknownUser::NoSuchName));
        assert_eq!(query(Command::new("/no/such/getent"), "carol", long), Err(UnknownUser::NoSuchName));
        let began = Instant::now();
        let short = Duration::from_millis(100);
        assert_eq!(query(program("exec sleep 300"), "carol", short), Err(UnknownUser::NoAnswer));
        assert!(began.elapsed() < long, "it stops at the limit");
        assert_eq!(query(program("exec yes"), "carol", long), Err(UnknownUser::NoSuchName), "the output is bounded");
    }
}
