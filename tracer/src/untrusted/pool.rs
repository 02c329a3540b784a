//! Runs work that may block forever on threads that can be abandoned.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Maximum time for work on root's files and on another user's.
const TIME_FOR_ROOT: Duration = Duration::from_secs(1);
const TIME_FOR_USERS: Duration = Duration::from_millis(200);

/// Maximum number of stuck threads: per user, and in total. A user at the limit gets no further thread until one
/// returns, and takes none from others.
const MAX_STUCK_PER_USER: usize = 2;
const MAX_STUCK: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// Runs work on a separate thread and waits for a bounded time.
#[derive(Debug)]
pub struct Pool {
    /// The idle thread.
    thread: Option<Sender<Job>>,
    stuck: Arc<Mutex<HashMap<u32, usize>>>,
    roots_time: Duration,
    users_time: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self { thread: None, stuck: Arc::default(), roots_time: TIME_FOR_ROOT, users_time: TIME_FOR_USERS }
    }
}

impl Pool {
    /// Returns a pool for tests, where no work blocks and the machine may be busy.
    #[cfg(test)]
    pub(crate) fn patient() -> Self {
        let time = Duration::from_secs(100);
        Self { roots_time: time, users_time: time, ..Self::default() }
    }

    /// Runs work that depends on what a user controls. None if it takes too long, or if too many threads of that user
    /// are stuck.
    pub fn run<T: Send + 'static>(&mut self, uid: u32, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let time = if uid == 0 { self.roots_time } else { self.users_time };
        self.run_for(uid, time, work)
    }

    /// The same with a given time.
    pub fn run_for<T: Send + 'static>(
        &mut self,
        uid: u32,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if !self.may_run(uid) {
            return None;
        }
        let (done, result) = sync_channel(1);
        let stuck = Arc::clone(&self.stuck);
        let job: Job = Box::new(move || {
            let value = work();
            // The caller has given up: this thread was counted as stuck and is not any more.
            if done.send(value).is_err() {
                let mut stuck = stuck.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(count) = stuck.get_mut(&uid) {
                    *count = count.saturating_sub(1);
                }
                stuck.retain(|_, count| *count > 0);
            }
        });
        self.hand_over(job)?;
        if let Ok(value) = result.recv_timeout(time) {
            return Some(value);
        }
        // This drops its channel, so it ends once it returns.
        self.thread = None;
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: either the result has arrived, or the thread will fail to send it and decrement the counter.
        if let Ok(value) = result.try_recv() {
            return Some(value);
        }
        *stuck.entry(uid).or_default() += 1;
        tracing::debug!("a file of user {uid} blocks: its thread is given up");
        drop(result);
        None
    }

    /// Returns the number of stuck threads.
    #[cfg(test)]
    pub fn stuck(&self) -> usize {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn may_run(&self, uid: u32) -> bool {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let own = stuck.get(&uid).copied().unwrap_or_default();
        let others: usize = stuck.iter().filter(|(user, _)| **user != 0).map(|(_, count)| count).sum();
        own < MAX_STUCK_PER_USER && (uid == 0 || others < MAX_STUCK)
    }

    fn hand_over(&mut self, job: Job) -> Option<()> {
        let job = match &self.thread {
            Some(thread) => match thread.send(job) {
                Ok(()) => return Some(()),
                Err(back) => back.0,
            },
            None => job,
        };
        let (jobs, theirs) = channel::<Job>();
        let spawned = thread::Builder::new().name("untrusted".into()).spawn(move || {
            while let Ok(job) = theirs.recv() {
                job();
            }
        });
        if let Err(error) = spawned {
            tracing::debug!("no thread for files that others named: {error}");
            return None;
        }
        jobs.send(job).ok()?;
        self.thread = Some(jobs);
        Some(())
    }
}
