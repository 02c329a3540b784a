//! Starts other programs: from the root of the repository, in a clean environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read, Write};
use std::iter;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use duct::Expression;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::workspace;

/// Returns `program` with `args`, started from the root of the repository.
///
/// In duct the first setting counts: the caller cannot change a variable or directory that is set here.
pub(crate) fn command<A: Into<OsString>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Expression {
    let program = program.as_ref().to_os_string();
    let command = duct::cmd(program, args).dir(workspace::root());
    cleaning().fold(command, |command, (name, value)| match value {
        Some(value) => command.env(name, value),
        None => command.env_remove(name),
    })
}

/// How often cargo retries a registry that does not answer. The default is 3.
const RETRIES: (&str, &str) = ("CARGO_NET_RETRY", "10");

/// Returns the cargo that runs xtask, with `args`, building in xtask's target directory.
pub(crate) fn cargo<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Expression {
    command(cargo_program(), args).env(RETRIES.0, RETRIES.1).env("CARGO_TARGET_DIR", workspace::target_dir())
}

/// Returns `cargo install …` with a separate build directory, so that no file remains.
pub(crate) fn cargo_install<'a>(args: impl IntoIterator<Item = &'a str>) -> Expression {
    let cargo = command(cargo_program(), ["install"].into_iter().chain(args));
    cargo.env(RETRIES.0, RETRIES.1).stdin_null().stdout_to_stderr()
}

/// Runs something that needs the network. Retries it twice, after a pause.
pub(crate) fn retry<T>(mut what: impl FnMut() -> Result<T>) -> Result<T> {
    for wait in [10, 30] {
        match what() {
            Ok(done) => return Ok(done),
            Err(why) => workspace::say(&format!("{why:#}; once more in {wait} s")),
        }
        thread::sleep(Duration::from_secs(wait));
    }
    what()
}

/// Returns the cargo that runs xtask.
pub(crate) fn cargo_program() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Returns `argv` as root: directly, or through sudo, which may ask for a password only at a terminal.
pub(crate) fn as_root(argv: &[&str]) -> Result<Expression> {
    if is_root() {
        return Ok(command(argv[0], &argv[1..]));
    }
    let sudo = sudo().with_context(|| format!("as root, run: {}", argv.join(" ")))?;
    let quiet: &[&str] = if io::stdin().is_terminal() { &[] } else { &["-n"] };
    Ok(command(sudo, quiet.iter().chain(&["--"]).chain(argv).copied()))
}

/// Returns the sudo on PATH.
pub(crate) fn sudo() -> Result<PathBuf> {
    which::which("sudo").context("this needs root, and there is no sudo")
}

/// Returns true if xtask runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns the variables that cargo sets for xtask and that a child must not inherit, each with its new value.
pub(crate) fn cleaning() -> impl Iterator<Item = (OsString, Option<OsString>)> {
    const OURS: &[&str] = &[
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
        "RUST_RECURSION_COUNT",
    ];
    const OURS_BY_PREFIX: &[&str] = &["CARGO_BIN_", "CARGO_MANIFEST_", "CARGO_PKG_"];
    env::vars_os().filter_map(|(name, value)| {
        let known = name.to_str()?;
        if known == "LD_LIBRARY_PATH" {
            return Some((name, without_ours(&value)));
        }
        let ours = OURS.contains(&known) || OURS_BY_PREFIX.iter().any(|prefix| known.starts_with(prefix));
        ours.then_some((name, None))
    })
}

/// Removes the directories that cargo and rustup put in front. A traced command or a linker must not find libraries
/// there.
fn without_ours(library_path: &OsStr) -> Option<OsString> {
    let of_rust = |dir: &Path| dir.iter().any(|part| part == "rustlib") || dir.join("rustlib").is_dir();
    let ours = |dir: &PathBuf| dir.starts_with(workspace::target_dir()) || of_rust(dir);
    let theirs = env::split_paths(library_path).filter(|dir| !ours(dir));
    env::join_paths(theirs).ok().filter(|paths| !paths.is_empty())
}

/// Returns the PATH with `dir` in front.
pub(crate) fn path_with(dir: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(iter::once(dir.to_path_buf()).chain(env::split_paths(&path)))?)
}

/// Runs to the end, within `limit`.
pub(crate) fn within(limit: Duration, expression: &Expression) -> Result<()> {
    let running = expression.unchecked().start().context("cannot start")?;
    let Some(output) = running.wait_timeout(limit)? else {
        running.kill()?;
        bail!("no answer within {} s", limit.as_secs());
    };
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    Ok(())
}

/// Runs a cargo build whose output goes to stderr. Prints nothing if there was nothing to do.
pub(crate) fn build_quietly(expression: Expression) -> Result<()> {
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let expression = if colour { expression.env("CARGO_TERM_COLOR", "always") } else { expression };
    let mut rest = Lines::default();
    let status = stream(&expression, |chunk| {
        rest.feed(chunk, |line| {
            if !anstream::adapter::strip_str(line).to_string().trim_start().starts_with("Finished") {
                eprintln!("{line}");
            }
        });
        Ok(())
    })?;
    if !status.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// Runs to the end. Copies its output to stdout at once, even partial lines, so that a hanging test is visible.
/// Passes each line to `each_line`.
pub(crate) fn tee(expression: &Expression, mut each_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut rest = Lines::default();
    let status = stream(expression, |chunk| {
        let mut out = io::stdout().lock();
        out.write_all(chunk)?;
        out.flush()?;
        rest.feed(chunk, |line| {
            each_line(&anstream::adapter::strip_str(line).to_string());
        });
        Ok(())
    })?;
    rest.feed(b"\n", |line| each_line(line));
    Ok(status)
}

/// Runs to the end of the program, or of its output if that comes later, but at most `GRACE` later. A process that a
/// test left running may hold the pipe forever.
fn stream(expression: &Expression, mut each_chunk: impl FnMut(&[u8]) -> io::Result<()>) -> Result<ExitStatus> {
    const TICK_MS: u16 = 200;
    const GRACE: Duration = Duration::from_secs(2);

    let (mut reader, writer) = io::pipe()?;
    let running =
        expression.stdin_null().stderr_to_stdout().stdout_file(writer).unchecked().start().context("cannot start")?;
    let mut ended: Option<Instant> = None;
    let mut chunk = [0; 8192];
    loop {
        let ready = match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], TICK_MS) {
            Err(Errno::EINTR) => continue,
            ready => ready?,
        };
        if ready > 0 {
            match reader.read(&mut chunk)? {
                0 => break,
                count => each_chunk(&chunk[..count])?,
            }
        }
        if ended.is_none() && running.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        if ready == 0 && ended.is_some_and(|at| at.elapsed() > GRACE) {
            workspace::say("a process that was left behind still holds the output; not waiting for it");
            break;
        }
    }
    Ok(running.wait()?.status)
}

/// Splits a stream into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, chunk: &[u8], mut each_line: impl FnMut(&str)) {
        self.0.extend_from_slice(chunk);
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            each_line(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'));
        }
    }
}
