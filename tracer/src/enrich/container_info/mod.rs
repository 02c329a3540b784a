//! Names, images and more of containers, from the files of engines and runtimes. No engine is contacted through its
//! socket.
//!
//! A separate thread ([`InfoLookup`]) takes requests and replies when it can. It retries a missing file until the
//! container exits. Files that other processes named are read through [`crate::untrusted`]: a file that blocks delays
//! nothing but its own content.

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

use crate::enrich::info::{InfoReply, InfoRequest};
pub use cgroup::Mounts;
pub use worker::Worker;

/// Requests that may be queued for the thread. The caller keeps what does not fit.
const MAX_QUEUED: usize = 1024;

/// A message to the thread.
#[derive(Debug)]
enum Job {
    Request(InfoRequest),
    /// A request to confirm that all earlier requests were handled.
    Sync(SyncSender<()>),
}

/// The handle of the thread that reads files.
#[derive(Debug)]
pub struct InfoLookup {
    jobs: SyncSender<Job>,
    replies: UnboundedReceiver<InfoReply>,
}

impl InfoLookup {
    /// Starts the thread. It ends when this is dropped.
    pub fn start(worker: Worker) -> std::io::Result<Self> {
        let (jobs, theirs) = sync_channel(MAX_QUEUED);
        let (out, replies) = unbounded_channel();
        thread::Builder::new().name("names".into()).spawn(move || worker.work(&theirs, &out))?;
        Ok(Self { jobs, replies })
    }

    /// Queues requests without waiting. Returns those that did not fit.
    pub fn request(&self, requests: Vec<InfoRequest>) -> Vec<InfoRequest> {
        let mut left = Vec::new();
        for request in requests {
            if let Err(TrySendError::Full(Job::Request(request))) = self.jobs.try_send(Job::Request(request)) {
                left.push(request);
            }
        }
        left
    }

    /// Queues requests and waits until all were handled once, or for `time`. Returns those that did not fit.
    pub fn request_and_wait(&self, mut requests: Vec<InfoRequest>, time: Duration) -> Vec<InfoRequest> {
        let end = Instant::now() + time;
        let pause = Duration::from_millis(1);
        loop {
            requests = self.request(requests);
            if requests.is_empty() || Instant::now() >= end {
                break;
            }
            thread::sleep(pause);
        }
        let (done, finished) = sync_channel(1);
        let mut job = Job::Sync(done);
        while let Err(TrySendError::Full(back)) = self.jobs.try_send(job) {
            if Instant::now() >= end {
                return requests;
            }
            job = back;
            thread::sleep(pause);
        }
        // A timeout is harmless: replies are taken when they arrive.
        let _ = finished.recv_timeout(end.saturating_duration_since(Instant::now()));
        requests
    }

    /// Returns a reply, if there is one.
    pub fn try_reply(&mut self) -> Option<InfoReply> {
        self.replies.try_recv().ok()
    }

    /// Waits for a reply.
    pub fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<InfoReply> {
        match self.replies.poll_recv(cx) {
            Poll::Ready(Some(reply)) => Poll::Ready(reply),
            // A thread that has ended does not reply.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
