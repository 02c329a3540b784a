//! Names, images and more of containers, from the files that engines and runtimes keep: no socket of any is asked.
//!
//! This reads files, so it is done off the way of records: by a thread of its own ([`Names`]), which is asked and answers when
//! it can. A file that is not there yet is looked for again, until the container ends.

mod docker;
mod engines;
mod files;
mod memory;
mod worker;

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::enrich::info::{Answer, Ask};
use crate::kernel::hierarchy::{self, Mount};
pub use worker::Worker;

/// Questions that may wait for the thread. What finds no room is kept by the caller.
const WAITING: usize = 1024;

/// The thread that reads files.
#[derive(Debug)]
pub struct Names {
    asks: SyncSender<Ask>,
    answers: UnboundedReceiver<Answer>,
}

impl Names {
    /// Starts it. It ends when this is dropped.
    pub fn start(worker: Worker) -> std::io::Result<Self> {
        let (asks, theirs) = sync_channel(WAITING);
        let (out, answers) = unbounded_channel();
        thread::Builder::new().name("names".into()).spawn(move || worker.work(&theirs, &out))?;
        Ok(Self { asks, answers })
    }

    /// Asks, without waiting; hands back what found no room.
    pub fn ask(&self, asks: Vec<Ask>) -> Vec<Ask> {
        let mut left = Vec::new();
        for ask in asks {
            if let Err(TrySendError::Full(ask)) = self.asks.try_send(ask) {
                left.push(ask);
            }
        }
        left
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

/// Where the memory controller is mounted.
pub fn memory_mount() -> Option<Mount> {
    hierarchy::memory()
}
