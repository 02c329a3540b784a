//! Work that may block for ever, on threads that can be given up.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest time that work for root's files and for another user's may take.
const ROOTS_TIME: Duration = Duration::from_secs(1);
const USERS_TIME: Duration = Duration::from_millis(200);

/// Threads that may be stuck at a time: because of one user, and because of all. A user who has used up the share gets no
/// further thread until one comes back, and takes none from the others.
const STUCK_BY_USER: usize = 2;
const STUCK_IN_ALL: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// Runs work on a separate thread and waits for it for a bounded time.
#[derive(Debug)]
pub struct Pool {
    /// The thread that is free.
    thread: Option<Sender<Job>>,
    stuck: Arc<Mutex<HashMap<u32, usize>>>,
    roots_time: Duration,
    users_time: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self { thread: None, stuck: Arc::default(), roots_time: ROOTS_TIME, users_time: USERS_TIME }
    }
}

impl Pool {
    /// One for tests, where no work blocks and the machine may be busy.
    #[cfg(test)]
    pub(crate) fn patient() -> Self {
        let time = Duration::from_secs(100);
        Self { roots_time: time, users_time: time, ..Self::default() }
    }

    /// Runs work that depends on what a user controls. None if it takes too long, or if too much of that user's is stuck.
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
            // Nobody waits any more: this thread was counted as stuck, and is not.
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
        // Its channel is gone with this, so it ends once it comes back.
        self.thread = None;
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: either the result is there by now, or the thread will find nobody and count down.
        if let Ok(value) = result.try_recv() {
            return Some(value);
        }
        *stuck.entry(uid).or_default() += 1;
        tracing::debug!("a file of user {uid} blocks: its thread is given up");
        drop(result);
        None
    }

    /// How many threads are stuck.
    #[cfg(test)]
    pub fn stuck(&self) -> usize {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn may_run(&self, uid: u32) -> bool {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let own = stuck.get(&uid).copied().unwrap_or_default();
        let others: usize = stuck.iter().filter(|(user, _)| **user != 0).map(|(_, count)| count).sum();
        own < STUCK_BY_USER && (uid == 0 || others < STUCK_IN_ALL)
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
