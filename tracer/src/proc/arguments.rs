//! Reads the arguments of processes from their memory.
//!
//! A reader may have to wait for that memory. A thread of the process may hold its lock and itself wait for something.
//! Or a page has to come from a file system that never responds. So arguments are read on threads that can be
//! abandoned. A process that blocks its reader costs its own arguments and a bounded time.

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

/// Readers are abandoned when none of them finishes anything in this time. The shorter time applies after many were
/// abandoned.
const TIMEOUT: Duration = Duration::from_millis(500);
const SHORT_TIMEOUT: Duration = Duration::from_millis(20);

/// Number of concurrent readers. More do not help: they share memory bandwidth, and the machine has other work.
const READERS: usize = 4;

/// With fewer processes than this, another reader is not worth its start.
const PER_READER: usize = 64;

/// A request starts no more readers after this many were abandoned. None are started while [`MAX_BLOCKED`] are blocked.
const MAX_ABANDONED: usize = 16;
const MAX_BLOCKED: usize = 256;

/// Maximum bytes per process, maximum total, and the limit per process beyond that total. An exec may have more than
/// the first (`_STK_LIM`, fs/exec.c). A process that moves its arguments has no limit.
const MAX_BYTES: u64 = 6 << 20;
const MAX_TOTAL_BYTES: usize = 64 << 20;
const REDUCED_MAX_BYTES: u64 = 4 << 10;

/// Processes whose reader was abandoned and has not returned since.
static BLOCKED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Reads the arguments of all processes that may have any.
pub(super) fn read(seeds: &mut [Seed]) {
    let may_have = |seed: &Seed| !seed.exiting && !seed.gone && !seed.process.kthread;
    let blocked = lock(&BLOCKED).clone();
    let wanted: Vec<usize> =
        (0..seeds.len()).filter(|&at| may_have(&seeds[at]) && !blocked.contains(&seeds[at].process.pid)).collect();
    if wanted.is_empty() {
        return;
    }
    let pids = wanted.iter().map(|&at| seeds[at].process.pid).collect();
    let results = Readers::new(pids).into_results();
    let now = boot_ns();
    for (at, result) in wanted.into_iter().zip(results) {
        let seed = &mut seeds[at];
        seed.image_until_ns = now;
        match result {
            ReadResult::Argv(argv) => seed.process.image_mut().set_argv(argv),
            ReadResult::None => {}
            ReadResult::Blocked => {
                tracing::warn!("the arguments of process {} are left out: reading them blocks", seed.process.pid);
            }
        }
    }
}

/// The result of reading the arguments of one process.
enum ReadResult {
    Argv(Argv),
    /// None: it is in the middle of an exec, is exiting, or cannot be accessed.
    None,
    /// Its reader was abandoned.
    Blocked,
}

/// Threads that read the arguments of a list of processes.
struct Readers {
    work: Arc<Work>,
    done: mpsc::Receiver<()>,
    notify: Sender<()>,
}

struct Work {
    pids: Vec<u32>,
    next: AtomicUsize,
    bytes: AtomicUsize,
    results: Mutex<Vec<Option<ReadResult>>>,
}

impl Readers {
    fn new(pids: Vec<u32>) -> Self {
        let results = Mutex::new(pids.iter().map(|_| None).collect());
        let work = Work { pids, next: AtomicUsize::new(0), bytes: AtomicUsize::new(0), results };
        let (notify, done) = mpsc::channel();
        Self { work: Arc::new(work), done, notify }
    }

    fn into_results(self) -> Vec<ReadResult> {
        let blocked = lock(&BLOCKED).len();
        let timeout = if blocked < MAX_ABANDONED { TIMEOUT } else { SHORT_TIMEOUT };
        let (mut running, mut abandoned) = (if blocked < MAX_BLOCKED { self.start() } else { 0 }, 0);
        let mut finished = 0;
        while running > 0 {
            match self.done.recv_timeout(timeout) {
                Ok(()) => running -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.work.finished();
                    if now != finished {
                        finished = now;
                        continue;
                    }
                    // All running readers are blocked.
                    abandoned += running;
                    self.work.abandon();
                    running = if abandoned < MAX_ABANDONED { self.start() } else { 0 };
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let results = std::mem::take(&mut *lock(&self.work.results));
        results.into_iter().map(|result| result.unwrap_or(ReadResult::Blocked)).collect()
    }

    /// Starts readers for the rest of the list. Returns their number.
    fn start(&self) -> usize {
        let left = self.work.pids.len().saturating_sub(self.work.next.load(Ordering::Relaxed));
        let started = (0..left.div_ceil(PER_READER).min(READERS)).filter(|_| {
            let (work, notify) = (self.work.clone(), self.notify.clone());
            let reader = thread::Builder::new().name("arguments".into()).stack_size(256 << 10);
            let read = move || {
                work.read();
                // The receiver may be gone.
                let _ = notify.send(());
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
            let result = arguments_of(pid, &self.bytes).map_or(ReadResult::None, ReadResult::Argv);
            let mut results = lock(&self.results);
            // This reader was abandoned if the results are gone or list its process as blocked.
            let late = results.get(at).is_none_or(|result| matches!(result, Some(ReadResult::Blocked)));
            if let Some(place) = results.get_mut(at) {
                *place = Some(result);
            }
            drop(results);
            if late {
                lock(&BLOCKED).retain(|&blocked| blocked != pid);
                // Others were started in its place.
                return;
            }
        }
    }

    fn finished(&self) -> usize {
        lock(&self.results).iter().flatten().count()
    }

    /// Marks the processes that are being read as blocked.
    fn abandon(&self) {
        let begun = self.next.load(Ordering::Relaxed).min(self.pids.len());
        let mut results = lock(&self.results);
        for (result, &pid) in results.iter_mut().zip(&self.pids).take(begun).filter(|(result, _)| result.is_none()) {
            *result = Some(ReadResult::Blocked);
            lock(&BLOCKED).push(pid);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the arguments of one process.
fn arguments_of(pid: u32, so_far: &AtomicUsize) -> Option<Argv> {
    let max = if so_far.load(Ordering::Relaxed) < MAX_TOTAL_BYTES { MAX_BYTES } else { REDUCED_MAX_BYTES };
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(max).read_to_end(&mut bytes).ok()?;
    so_far.fetch_add(bytes.len(), Ordering::Relaxed);
    if bytes.len() as u64 == max {
        tracing::warn!("the arguments of process {pid} are cut after {max} bytes");
    }
    // No bytes: it is in the middle of an exec. Since Linux 5.18 no list is empty: execve turns it into one empty
    // string.
    (!bytes.is_empty()).then(|| arguments(&bytes, || argument_count(pid)))
}

/// Returns how many arguments its last exec had. Its stack begins with that number (fs/binfmt_elf.c,
/// `create_elf_tables`).
fn argument_count(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| Stat::parse(&stat))?;
    let mut count = [0; 4];
    let read = |at| File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut count, at);
    let at = Some(stat.start_stack).filter(|&at| at != 0).ok_or(io::ErrorKind::NotFound);
    at.map_err(io::Error::from).and_then(read).ok()?;
    Some(u32::from_ne_bytes(count))
}

/// Parses arguments from `/proc/PID/cmdline`. One string may be followed by nothing but NULs. Those are empty
/// arguments, or the process wrote a title over its arguments (`setproctitle`). For a title, their number differs from
/// that of the exec.
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
    fn empty_arguments_are_kept() {
        assert_eq!(strings(b"solo\0\0\0\0", Some(4)), ["solo", "", "", ""]);
    }
}
