//! `tracer containers`: how containers start, live or from a file.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::trace::{builder, runtime, told_to_end};
use super::{Capture, ExitCode, Globals};
use crate::audit::{Start, Starts};
use crate::clock;
use crate::event::Event;
use crate::filter::{Filter, Spec};
use crate::pipeline::{self, Wanted};
use crate::sink::{Output, Sink};
use crate::view::glyphs::Glyphs;
use crate::view::{line, start};

/// How often it is looked whether a start is to be told though nothing happens.
const LOOK: Duration = Duration::from_millis(200);

/// Show how containers start, step by step
///
/// With --audit: waits for containers to start (Docker, containerd, Podman, plain runc and crun), and shows for each
/// what it took: the client, the daemon, the shim, the runtime, the stages of init, until the container's first process execs
/// its entrypoint. That is when a container is called ready here; what a program does then to get ready for its own work is
/// not known. Each step lasts until the next one begins, so they add up to the whole. Then comes all else that ran
/// meanwhile.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct ContainersArgs {
    /// Show each start of a container step by step; only of this one, if named (its name, its id or how that begins)
    #[arg(long, value_name = "NAME|ID", num_args = 0..=1, default_missing_value = "", required = true)]
    audit: String,

    /// Read events from FILE, as `tracer stream` or `tracer run -o` wrote them, instead of tracing; - is standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    from: Option<PathBuf>,

    /// Write JSON: one object a line for each start
    #[arg(long)]
    json: bool,

    /// End after so many starts
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  tracer containers --audit
  tracer containers --audit web
  tracer containers --audit --from events.jsonl --json";

const LONG_EXAMPLES: &str = "\
Examples:
  tracer containers --audit
      Every container that is started from now on, step by step.
  tracer containers --audit web
      Only those called web.
  tracer run -- docker run --rm alpine true
      Run a container, and see its start in the end.
  tracer stream -o events.jsonl; tracer containers --audit --from events.jsonl
      The starts in a file of events.

Columns:
  AT       since the start began: the client's exec; where no client was seen, the first step that was
  TOOK     until the next step began; these add up to the time to the entrypoint's exec
  LASTED   until the program ended or the process exec'd the next one; - if it still ran
  STEP     client, daemon, shim, runtime (it makes the container), init (what becomes the container's first process),
           start (the runtime lets the entrypoint go), entrypoint, first child
           A daemon runs already: its step begins with the first process it makes for this start.
           Of all else that ran: below it (it descends from one of the steps), inside (it ran in the container),
           names it (its arguments name the container), daemon's (a child of the daemon, at that time)
  COMMAND  its arguments; (in brackets) the name of a process that is only a copy of another

The client of a daemon is found by its arguments (name, image, command), or else it is the one that was waiting then.

Exit status:
  0  ended by SIGINT, SIGTERM, -n or the end of the file, or because the reader went away
  1  tracing is not possible (see `tracer doctor`), or the file cannot be read
  2  wrong usage";

/// Shows starts until it is told to end.
pub fn execute(args: &ContainersArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let output = globals.open()?;
    let mut printer = Printer {
        colour: globals.colours(&output),
        width: terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0)),
        output,
        json: args.json,
        only: args.audit.clone(),
        left: args.count.unwrap_or(u64::MAX),
        told: false,
    };
    if let Some(file) = &args.from {
        let mut starts = Starts::default();
        read(file, |event| {
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
    let told = told_to_end()?;
    let tracer = builder(&Capture::default()).start()?;
    let audit = Arc::new(Mutex::new(Audit { starts: Starts::default(), printer }));
    let mut sink = AuditSink(Arc::clone(&audit));
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
    let everything = Filter::new(&Spec::default())?;
    let wanted = Wanted { snapshot: true, ..Wanted::default() };
    pipeline::run(tracer, everything, &mut sink, &wanted, shutdown, |_| true).await?;
    failed?;
    let Audit { starts, printer } = &mut *audit.lock().unwrap_or_else(PoisonError::into_inner);
    printer.print(&starts.finish())?;
    Ok(())
}

/// Takes events into the audit.
struct AuditSink(Arc<Mutex<Audit>>);

impl Sink for AuditSink {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).starts.apply(event);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Audit { starts, printer } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        printer.print(&starts.take_by_events())
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

/// Reads events from a file, line by line.
fn read(file: &Path, mut take: impl FnMut(&Event) -> io::Result<()>) -> anyhow::Result<()> {
    let named = || file.display().to_string();
    let reader: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot open {}", named()))?)
    };
    for (number, text) in BufReader::new(reader).lines().enumerate() {
        let text = text.with_context(|| format!("cannot read {}", named()))?;
        if text.is_empty() {
            continue;
        }
        let event: Event = serde_json::from_str(&text).with_context(|| {
            format!("line {} of {} is no event, as `tracer stream` writes them", number + 1, named())
        })?;
        take(&event)?;
    }
    Ok(())
}
