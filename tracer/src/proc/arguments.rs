//! The arguments of processes, which lie in their own memory.
//!
//! Whoever reads them waits for that memory: its lock may be held by a thread of the process that itself waits for something,
//! and a page of it may have to come from a file system that never answers. So they are read by threads that can be given up.
//! A process that blocks its reader costs its own arguments and a bounded time, whatever it does.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Seed;
use super::dir::Stat;
use crate::clock::boot_ns;
use crate::record::text::Argv;

/// Readers are given up when none of them has finished anything in this time; in the shorter one where many were given up
/// before.
const PATIENCE: Duration = Duration::from_millis(500);
const SHORT_PATIENCE: Duration = Duration::from_millis(20);

/// Readers at a time. More do not help: they share the memory's bandwidth, and the machine has other work.
const READERS: usize = 4;

/// For fewer processes than this, another reader is not worth its start.
const PER_READER: usize = 64;

/// No more readers are started for one request after this many were given up, and none at all while [`MOST_BLOCKED`] wait.
const MOST_GIVEN_UP: usize = 16;
const MOST_BLOCKED: usize = 256;

/// Most bytes that are read of one process, and of all of them before the rest is cut short. An exec may have more than the
/// first (`_STK_LIM`, fs/exec.c), a process that moves its arguments has no limit.
const MOST_BYTES: u64 = 6 << 20;
const MOST_BYTES_OF_ALL: usize = 64 << 20;
const MOST_BYTES_THEN: u64 = 4 << 10;

/// Processes whose arguments a reader was given up over, and has not got since.
static BLOCKED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Reads the arguments of all that may have any.
pub(super) fn read(seeds: &mut [Seed]) {
    let may_have = |seed: &Seed| !seed.exiting && !seed.gone && !seed.process.kthread;
    let blocked = lock(&BLOCKED).clone();
    let wanted: Vec<usize> =
        (0..seeds.len()).filter(|&at| may_have(&seeds[at]) && !blocked.contains(&seeds[at].process.pid)).collect();
    if wanted.is_empty() {
        return;
    }
    let pids = wanted.iter().map(|&at| seeds[at].process.pid).collect();
    let answers = Readers::new(pids).answers();
    let now = boot_ns();
    for (at, answer) in wanted.into_iter().zip(answers) {
        let seed = &mut seeds[at];
        seed.image_until_ns = now;
        match answer {
            Answer::Argv(argv) => seed.process.image_mut().set_argv(argv),
            Answer::None => {}
            Answer::Blocked => tracing::warn!(
                "the arguments of process {} are left out: it blocks whoever reads them",
                seed.process.pid
            ),
        }
    }
}

/// What became of a look at the arguments of one process.
enum Answer {
    Argv(Argv),
    /// It has none: it is in the middle of an exec, ends, or is not ours to look at.
    None,
    /// Nobody has got an answer.
    Blocked,
}

/// Threads that read the arguments of some processes.
struct Readers {
    work: Arc<Work>,
    done: mpsc::Receiver<()>,
    tell: Sender<()>,
}

struct Work {
    pids: Vec<u32>,
    next: AtomicUsize,
    bytes: AtomicUsize,
    answers: Mutex<Vec<Option<Answer>>>,
}

impl Readers {
    fn new(pids: Vec<u32>) -> Self {
        let answers = Mutex::new(pids.iter().map(|_| None).collect());
        let work = Work { pids, next: AtomicUsize::new(0), bytes: AtomicUsize::new(0), answers };
        let (tell, done) = mpsc::channel();
        Self { work: Arc::new(work), done, tell }
    }

    fn answers(self) -> Vec<Answer> {
        let blocked = lock(&BLOCKED).len();
        let patience = if blocked < MOST_GIVEN_UP { PATIENCE } else { SHORT_PATIENCE };
        let (mut running, mut given_up) = (if blocked < MOST_BLOCKED { self.start() } else { 0 }, 0);
        let mut finished = 0;
        while running > 0 {
            match self.done.recv_timeout(patience) {
                Ok(()) => running -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.work.finished();
                    if now != finished {
                        finished = now;
                        continue;
                    }
                    // All that run are blocked.
                    given_up += running;
                    self.work.give_up();
                    running = if given_up < MOST_GIVEN_UP { self.start() } else { 0 };
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let answers = std::mem::take(&mut *lock(&self.work.answers));
        answers.into_iter().map(|answer| answer.unwrap_or(Answer::Blocked)).collect()
    }

    /// Starts readers for what is left. Returns how many.
    fn start(&self) -> usize {
        let left = self.work.pids.len().saturating_sub(self.work.next.load(Ordering::Relaxed));
        let started = (0..left.div_ceil(PER_READER).min(READERS)).filter(|_| {
            let (work, tell) = (self.work.clone(), self.tell.clone());
            let reader = thread::Builder::new().name("arguments".into()).stack_size(256 << 10);
            let read = move || {
                work.read();
                // Nobody may be left to hear it.
                let _ = tell.send(());
            };
            reader.spawn(read).is_ok()
        });
        started.count()
    }
}

impl Work {
    fn read(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&pid) = self.pids.get(at) else { return };
            let answer = arguments_of(pid, &self.bytes).map_or(Answer::None, Answer::Argv);
            let mut answers = lock(&self.answers);
            // It was given up if the answers are gone, or it is listed as blocked.
            let late = answers.get(at).is_none_or(|answer| matches!(answer, Some(Answer::Blocked)));
            if let Some(place) = answers.get_mut(at) {
                *place = Some(answer);
            }
            drop(answers);
            if late {
                lock(&BLOCKED).retain(|&blocked| blocked != pid);
                // Others were started in its place.
                return;
            }
        }
    }

    fn finished(&self) -> usize {
        lock(&self.answers).iter().flatten().count()
    }

    /// Those that are being read are blocked.
    fn give_up(&self) {
        let begun = self.next.load(Ordering::Relaxed).min(self.pids.len());
        let mut answers = lock(&self.answers);
        for (answer, &pid) in answers.iter_mut().zip(&self.pids).take(begun).filter(|(answer, _)| answer.is_none()) {
            *answer = Some(Answer::Blocked);
            lock(&BLOCKED).push(pid);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arguments of one process.
fn arguments_of(pid: u32, so_far: &AtomicUsize) -> Option<Argv> {
    let most = if so_far.load(Ordering::Relaxed) < MOST_BYTES_OF_ALL { MOST_BYTES } else { MOST_BYTES_THEN };
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    so_far.fetch_add(bytes.len(), Ordering::Relaxed);
    if bytes.len() as u64 == most {
        tracing::warn!("the arguments of process {pid} are cut after {most} bytes");
    }
    // No bytes: in the middle of an exec. (There is no empty list since Linux 5.18: execve makes it one empty string.)
    (!bytes.is_empty()).then(|| arguments(&bytes, || argument_count(pid)))
}

/// How many arguments its last exec gave it: with that number its stack begins (fs/binfmt_elf.c, `create_elf_tables`).
fn argument_count(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| Stat::parse(&stat))?;
    let mut count = [0; 4];
    let read = |at| File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut count, at);
    let at = Some(stat.start_stack).filter(|&at| at != 0).ok_or(io::ErrorKind::NotFound);
    at.map_err(io::Error::from).and_then(read).ok()?;
    Some(u32::from_ne_bytes(count))
}

/// The arguments as `/proc/PID/cmdline` has them. One string followed by nothing but NULs is either followed by empty
/// arguments, or a title that the process wrote over its arguments (`setproctitle`): then there are not as many of them as it
/// was given.
fn arguments(bytes: &[u8], count: impl FnOnce() -> Option<u32>) -> Argv {
    let title = bytes.trim_ascii_end().iter().rposition(|&b| b != 0).map_or(&b""[..], |last| &bytes[..=last]);
    let padding = bytes.len() - title.len();
    let one = padding > 2 && !title.contains(&0);
    if one && count() != Some(padding as u32) { Argv::new(title) } else { Argv::new(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(bytes: &[u8], count: Option<u32>) -> Vec<String> {
        arguments(bytes, || count).lossy.iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_title_over_the_arguments_is_one_string() {
        assert_eq!(strings(b"sshd: listener\0\0\0\0\0", Some(2)), ["sshd: listener"]);
        assert_eq!(strings(b"sshd: listener\0\0\0\0\0", None), ["sshd: listener"]);
        assert_eq!(strings(b"a\0b\0\0\0\0", None), ["a", "b", "", "", ""]);
        assert_eq!(strings(b"sh\0\0", None), ["sh", ""]);
        assert!(strings(b"", None).is_empty());
    }

    #[test]
    fn empty_arguments_are_arguments() {
        assert_eq!(strings(b"solo\0\0\0\0", Some(4)), ["solo", "", "", ""]);
    }
}
