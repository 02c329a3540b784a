//! Names, images and more of containers, from the files that engines and runtimes keep: no socket of any is asked.
//!
//! A separate thread ([`Names`]) does this: it is asked, and answers when it can. A file that is not there yet is looked for
//! again until the container ends. Files that other processes named are read through [`crate::untrusted`], so that a file
//! that blocks holds up nothing but what it would have described.

mod cgroup;
mod docker;
mod engines;
mod files;
mod worker;

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::enrich::info::{Answer, Ask};
pub use cgroup::Mounts;
pub use worker::Worker;

/// Questions that may wait for the thread. What finds no room is kept by the caller.
const WAITING: usize = 1024;

/// What is sent to the thread.
#[derive(Debug)]
enum Job {
    Ask(Ask),
    /// All that was asked before is to be looked for first.
    Sync(SyncSender<()>),
}

/// The thread that reads files.
#[derive(Debug)]
pub struct Names {
    jobs: SyncSender<Job>,
    answers: UnboundedReceiver<Answer>,
}

impl Names {
    /// Starts it. It ends when this is dropped.
    pub fn start(worker: Worker) -> std::io::Result<Self> {
        let (jobs, theirs) = sync_channel(WAITING);
        let (out, answers) = unbounded_channel();
        thread::Builder::new().name("names".into()).spawn(move || worker.work(&theirs, &out))?;
        Ok(Self { jobs, answers })
    }

    /// Asks, without waiting; hands back what found no room.
    pub fn ask(&self, asks: Vec<Ask>) -> Vec<Ask> {
        let mut left = Vec::new();
        for ask in asks {
            if let Err(TrySendError::Full(Job::Ask(ask))) = self.jobs.try_send(Job::Ask(ask)) {
                left.push(ask);
            }
        }
        left
    }

    /// Asks, and waits until all was looked for once, or for this time. Hands back what found no room.
    pub fn ask_and_wait(&self, mut asks: Vec<Ask>, time: Duration) -> Vec<Ask> {
        let end = Instant::now() + time;
        let pause = Duration::from_millis(1);
        loop {
            asks = self.ask(asks);
            if asks.is_empty() || Instant::now() >= end {
                break;
            }
            thread::sleep(pause);
        }
        let (done, looked) = sync_channel(1);
        let mut job = Job::Sync(done);
        while let Err(TrySendError::Full(back)) = self.jobs.try_send(job) {
            if Instant::now() >= end {
                return asks;
            }
            job = back;
            thread::sleep(pause);
        }
        // Whether it came in time is all the same: answers are taken as they come.
        let _ = looked.recv_timeout(end.saturating_duration_since(Instant::now()));
        asks
    }

    /// An answer, if there is one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// An answer, once there is one.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.answers.poll_recv(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            // A thread that is gone does not answer.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
