//! The terminal while tracer draws on it, and the thread that does.
//!
//! A thread of its own draws, writes and listens to the keyboard: a terminal or reader that is slow (or stopped with Ctrl-S)
//! never holds up the reading of events.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossterm::event::{self, Event as Input};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use tokio::sync::oneshot;

use crate::clock;
use crate::event::time::Timestamp;
use crate::filter::{Filter, Spec};
use crate::pipeline::{self, Wanted};
use crate::sink::{Output, Sink};
use crate::source::live::Tracer;

/// What a terminal that does not know its size is taken for.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Takes events in while another thread draws, until either is told to end.
pub(super) async fn follow(
    tracer: Tracer,
    sink: &mut dyn Sink,
    wanted: &Wanted,
    told: impl Future<Output = ()>,
    draw: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let (end, ended) = oneshot::channel();
    let artist = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let result = draw(&stop);
            // Nobody hears it who has ended already.
            let _ = end.send(());
            result
        }
    });
    let shutdown = async {
        tokio::select! {
            () = told => {}
            _ = ended => {}
        }
    };
    // All events go to the picture: who is who is learnt from those that are not shown too.
    let everything = Filter::new(&Spec::default())?;
    let result = pipeline::run(tracer, everything, sink, wanted, shutdown, |_| true).await;
    stop.store(true, Ordering::Relaxed);
    // The terminal is as it was before anything is said about what went wrong.
    let drawn =
        artist.join().map_err(|_| anyhow::anyhow!("drawing the picture failed: this is a bug, please report it"))?;
    result?;
    drawn
}

/// Waits so long for input.
pub(super) fn next_input(patience: Duration) -> Option<Input> {
    match event::poll(patience) {
        Ok(true) => event::read().ok(),
        Ok(false) => None,
        Err(_) => {
            // There is no keyboard; signals still end it.
            thread::sleep(patience);
            None
        }
    }
}

/// The time that a picture shows.
pub(super) fn now() -> Timestamp {
    Timestamp(clock::utc_minus_boot_ns().saturating_add_unsigned(clock::boot_ns()))
}

/// The terminal while it is ours; given back however this ends.
pub(super) struct Screen {
    output: Output,
}

impl Screen {
    pub(super) fn enter(mut output: Output) -> io::Result<Self> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back(&mut io::stdout());
            usual(info);
        }));
        terminal::enable_raw_mode()?;
        let screen = execute!(output, EnterAlternateScreen, cursor::Hide);
        let screen = screen.map(|()| Self { output });
        if screen.is_err() {
            give_back(&mut io::stdout());
        }
        screen
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = terminal_size::terminal_size_of(&self.output);
        size.map_or(USUAL_SIZE, |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)))
    }

    /// Writes what was made ready.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(&mut self.output);
    }
}

/// Nothing is left to be done about a terminal that cannot be given back.
fn give_back(output: &mut impl io::Write) {
    let _ = execute!(output, cursor::Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}
