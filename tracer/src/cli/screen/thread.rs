//! The thread that draws or writes a view.
//!
//! It is separate, so that a terminal or a reader that is slow (or stopped with Ctrl-S) never delays the reading of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::filter::Matcher;
use crate::pipeline::consumer::Consumer;
use crate::pipeline::{self, Wanted};
use crate::source::EventSource;

/// Feeds events to a consumer while another thread draws. Ends when `stop` completes, or when that thread ends.
pub(super) async fn follow(
    source: impl EventSource,
    filter: Matcher,
    consumer: &mut dyn Consumer,
    stop: impl Future<Output = ()>,
    draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let mut thread = ScreenThread::start(draw)?;
    let shutdown = async {
        tokio::select! {
            () = stop => {}
            () = thread.ended() => {}
        }
    };
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    let result = pipeline::run(source, filter, consumer, &wanted, shutdown, |_| true).await;
    // The terminal is restored before an error is written to it.
    let drawn = thread.join();
    result?;
    drawn
}

/// Lets another thread draw data that no longer changes. Ends when `stop` completes, or when that thread ends.
pub(super) async fn browse(
    stop: impl Future<Output = ()>,
    draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let mut thread = ScreenThread::start(draw)?;
    tokio::select! {
        () = stop => {}
        () = thread.ended() => {}
    }
    thread.join()
}

struct ScreenThread {
    /// Asks the thread to end.
    stop: Arc<AtomicBool>,
    /// Completes when the thread has ended.
    ended: oneshot::Receiver<()>,
    handle: JoinHandle<anyhow::Result<()>>,
}

impl ScreenThread {
    fn start(draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let handle = thread::Builder::new().name("tracer-screen".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let result = draw(&stop);
                // The receiver may be gone already.
                let _ = end.send(());
                result
            }
        });
        let handle =
            handle.context("cannot start a thread: raise the limits on processes and memory (`ulimit -u`, `-v`)")?;
        Ok(Self { stop, ended, handle })
    }

    /// Completes when the thread has ended.
    async fn ended(&mut self) {
        // An error means that the thread panicked. Then it has ended, too.
        let _ = (&mut self.ended).await;
    }

    /// Ends the thread and returns its result.
    fn join(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.handle.join().map_err(|_| anyhow::anyhow!("drawing the view failed: this is a bug, please report it"))?
    }
}
