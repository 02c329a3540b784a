//! `tracer containers --audit`: shows the steps of container starts, live or from a file.

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

/// Time between two checks for a complete start when no events come.
const CHECK: Duration = Duration::from_millis(200);

/// The starts to show.
#[derive(Clone, Debug)]
pub(super) struct AuditPlan<'a> {
    /// The container. The empty text is a prefix of every id.
    pub(super) only: &'a str,
    pub(super) from: Option<&'a Path>,
    pub(super) json: bool,
    pub(super) count: Option<u64>,
}

/// Shows starts until a signal or `-n` ends it.
pub(super) fn execute(plan: &AuditPlan<'_>, globals: &Globals) -> anyhow::Result<ExitCode> {
    let recording = plan.from.map(|file| from::open(file, globals)).transpose()?;
    let output = globals.open()?;
    let mut printer = Printer {
        colour: globals.colours(&output),
        width: terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0)),
        output,
        json: plan.json,
        only: plan.only.to_owned(),
        left: plan.count.unwrap_or(u64::MAX),
        printed: false,
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

/// Shared by the consumer of events and the task that looks at the clock.
struct Audit {
    starts: Starts,
    printer: Printer,
}

/// Prints starts as they happen.
async fn follow(printer: Printer) -> anyhow::Result<()> {
    let stop = Stop::catch(false)?.requested();
    let tracer = builder(&Capture::default()).start()?;
    let audit = Arc::new(Mutex::new(Audit { starts: Starts::default(), printer }));
    let mut consumer = AuditConsumer(Arc::clone(&audit));
    let enough = async {
        loop {
            tokio::time::sleep(CHECK).await;
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
            () = stop => {}
            result = enough => failed = result,
        }
    };
    let all = Matcher::new(&Filter::default())?;
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    pipeline::run(tracer, all, &mut consumer, &wanted, shutdown, |_| true).await?;
    failed?;
    let Audit { starts, printer } = &mut *audit.lock().unwrap_or_else(PoisonError::into_inner);
    printer.print(&starts.finish())?;
    Ok(())
}

/// Adds events to the audit.
struct AuditConsumer(Arc<Mutex<Audit>>);

impl Consumer for AuditConsumer {
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
    /// The container. The empty text is a prefix of every id.
    only: String,
    /// The number of starts that are still to be printed.
    left: u64,
    /// Whether a start was printed as text.
    printed: bool,
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
            if std::mem::replace(&mut self.printed, true) {
                self.output.write_all(b"\n")?;
            }
            line::print(&start::lines(start, self.width, Glyphs::of_locale()), &mut self.output, self.colour)?;
        }
        Ok(())
    }
}
