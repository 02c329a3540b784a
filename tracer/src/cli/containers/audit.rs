//! `tracer containers --audit`: how containers start, step by step, live or from a file.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::analysis::audit::{Start, Starts};
use crate::cli::session::{builder, runtime};
use crate::cli::stop::Stop;
use crate::cli::{Capture, ExitCode, Globals, from};
use crate::clock;
use crate::event::Event;
use crate::filter::{Filter, Matcher};
use crate::pipeline::consumer::Consumer;
use crate::pipeline::{self, Wanted};
use crate::sink::Output;
use crate::view::glyphs::Glyphs;
use crate::view::{line, start};

/// How often it is looked whether a start is to be told though nothing happens.
const LOOK: Duration = Duration::from_millis(200);

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// Which container; every id begins with nothing.
    pub(super) only: &'a str,
    pub(super) from: Option<&'a Path>,
    pub(super) json: bool,
    pub(super) count: Option<u64>,
}

/// Shows starts until it is told to end.
pub(super) fn execute(wish: &Wish<'_>, globals: &Globals) -> anyhow::Result<ExitCode> {
    let recording = wish.from.map(|file| from::open(file, globals)).transpose()?;
    let output = globals.open()?;
    let mut printer = Printer {
        colour: globals.colours(&output),
        width: terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0)),
        output,
        json: wish.json,
        only: wish.only.to_owned(),
        left: wish.count.unwrap_or(u64::MAX),
        told: false,
    };
    if let Some(recording) = recording {
        let mut starts = Starts::default();
        from::each(recording, |event| {
            starts.apply(event);
            printer.print(&starts.take_by_events())
        })?;
        printer.print(&starts.finish())?;
        return Ok(ExitCode::Done);
    }
    runtime()?.block_on(follow(printer))?;
    Ok(ExitCode::Done)
}

/// What both look at: who takes events in, and who looks at the clock.
struct Audit {
    starts: Starts,
    printer: Printer,
}

/// Tells starts as they happen.
async fn follow(printer: Printer) -> anyhow::Result<()> {
    let told = Stop::catch(false)?.requested();
    let tracer = builder(&Capture::default()).start()?;
    let audit = Arc::new(Mutex::new(Audit { starts: Starts::default(), printer }));
    let mut view = AuditView(Arc::clone(&audit));
    let enough = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let Audit { starts, printer } = &mut *audit.lock().unwrap_or_else(PoisonError::into_inner);
            printer.print(&starts.take(clock::boot_ns()))?;
            if printer.left == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let mut failed = Ok(());
    let shutdown = async {
        tokio::select! {
            () = told => {}
            result = enough => failed = result,
        }
    };
    let everything = Matcher::new(&Filter::default())?;
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    pipeline::run(tracer, everything, &mut view, &wanted, shutdown, |_| true).await?;
    failed?;
    let Audit { starts, printer } = &mut *audit.lock().unwrap_or_else(PoisonError::into_inner);
    printer.print(&starts.finish())?;
    Ok(())
}

/// Takes events into the audit.
struct AuditView(Arc<Mutex<Audit>>);

impl Consumer for AuditView {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).starts.apply(event);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Audit { starts, printer } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = starts.take(clock::boot_ns());
        printer.print(&starts)
    }
}

/// Writes starts.
struct Printer {
    output: Output,
    colour: bool,
    width: Option<usize>,
    json: bool,
    /// Which container is meant; every id begins with nothing.
    only: String,
    left: u64,
    told: bool,
}

impl Printer {
    fn print(&mut self, starts: &[Start]) -> io::Result<()> {
        for start in starts {
            if self.left == 0 || !start.is_of(&self.only) {
                continue;
            }
            self.left -= 1;
            if self.json {
                let mut line = serde_json::to_vec(start)?;
                line.push(b'\n');
                self.output.write_all(&line)?;
                self.output.flush()?;
                continue;
            }
            if std::mem::replace(&mut self.told, true) {
                self.output.write_all(b"\n")?;
            }
            line::print(&start::lines(start, self.width, Glyphs::of_locale()), &mut self.output, self.colour)?;
        }
        Ok(())
    }
}
