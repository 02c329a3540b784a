//! `tracer containers`: the table of all containers, live or from a file.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Size;

use crate::analysis::roster::{Roster, RosterFrame};
use crate::cli::screen::{self, BatchView, Canvas, LiveView, Pace, now};
use crate::cli::session::{builder, report_unseen, runtime};
use crate::cli::stop::Stop;
use crate::cli::{Capture, ExitCode, Globals, from};
use crate::clock;
use crate::event::Event;
use crate::filter::{Filter, Matcher};
use crate::kernel::visibility::What;
use crate::pipeline::consumer::Consumer;
use crate::sink::Output;
use crate::view::containers::draw::draw;
use crate::view::containers::rows::rows;
use crate::view::containers::state::Sort;
use crate::view::containers::{ContainersState, batch};
use crate::view::line;
use crate::view::screen::Request;
use crate::view::style::TextStyle;

/// The table to show.
#[derive(Clone, Debug)]
pub(super) struct TablePlan<'a> {
    /// The containers to show. Empty for all.
    pub(super) only: Vec<String>,
    pub(super) from: Option<&'a Path>,
    pub(super) json: bool,
    pub(super) batch: bool,
    pub(super) delay: Duration,
    pub(super) count: Option<u64>,
    pub(super) sort: Sort,
    pub(super) width: Option<usize>,
}

/// The roster that the main thread fills and the screen's thread reads.
type SharedRoster = Arc<Mutex<Roster>>;

/// Shows the table until a key, a signal or `-n` ends it.
pub(super) fn execute(plan: TablePlan<'_>, globals: &Globals) -> anyhow::Result<ExitCode> {
    let recording = plan.from.map(|file| from::open(file, globals)).transpose()?;
    let mut output = globals.open()?;
    let colour = globals.colours(&output);
    let roster: SharedRoster = Arc::new(Mutex::new(Roster::new(clock::boot_ns())));
    let mut screen = ContainersScreen {
        roster: Arc::clone(&roster),
        frame: RosterFrame::default(),
        state: ContainersState { only: plan.only, sort: plan.sort, ..ContainersState::default() },
        json: plan.json,
        width: plan.width,
        style: TextStyle::of_system(),
    };
    if let Some(recording) = recording {
        let mut roster = Roster::default();
        from::each(recording, |event| {
            roster.apply(event);
            Ok(())
        })?;
        let terminal = terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0));
        screen.width = screen.width.or(terminal);
        screen.frame = roster.last();
        screen.write(&mut output, colour, true)?;
        return Ok(ExitCode::Done);
    }
    let text = plan.batch || plan.json || plan.count.is_some();
    let batch = text || globals.target().is_some() || !screen::is_possible();
    let pace = Pace { delay: plan.delay, frames: plan.count.unwrap_or(u64::MAX) };
    report_unseen(&[What::Processes, What::Containers]);
    runtime()?.block_on(async {
        let stop = Stop::catch(!batch)?.requested();
        let tracer = builder(&Capture::default()).start()?;
        let all = Matcher::new(&Filter::default())?;
        let canvas = Canvas { output, colour };
        let mut consumer = RosterConsumer(roster);
        if batch {
            Box::pin(screen::write(tracer, all, &mut consumer, screen, pace, canvas, stop)).await
        } else {
            Box::pin(screen::show(tracer, all, &mut consumer, screen, pace, canvas, stop)).await
        }
    })?;
    Ok(ExitCode::Done)
}

/// Adds events to the roster.
struct RosterConsumer(SharedRoster);

impl Consumer for RosterConsumer {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        Ok(())
    }
}

/// The table on the screen, or as text.
struct ContainersScreen {
    roster: SharedRoster,
    frame: RosterFrame,
    state: ContainersState,
    json: bool,
    width: Option<usize>,
    style: TextStyle,
}

impl LiveView for ContainersScreen {
    fn begin(&mut self) {
        let roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        self.frame = roster.first(clock::boot_ns(), now());
    }

    fn advance(&mut self) -> bool {
        let frame = self.roster.lock().unwrap_or_else(PoisonError::into_inner).tick(clock::boot_ns(), now());
        if !self.state.paused {
            self.frame = frame;
        }
        !self.state.paused
    }

    fn layout(&mut self, size: Size) {
        self.state.layout(&self.frame, size);
    }

    fn draw(&self, screen: &mut Frame<'_>, colour: bool) {
        draw(screen, &self.frame, &self.state, &self.style, colour);
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        self.state.key(key)
    }
}

impl BatchView for ContainersScreen {
    fn write(&self, output: &mut Output, colour: bool, first: bool) -> io::Result<()> {
        if self.json {
            let mut lines = Vec::new();
            for one in rows(&self.frame, &self.state) {
                serde_json::to_writer(&mut lines, one)?;
                lines.push(b'\n');
            }
            output.write_all(&lines)?;
            return output.flush();
        }
        let mut lines = batch::lines(&self.frame, &self.state, &self.style, self.width);
        if !first {
            lines.insert(0, line::Line::new());
        }
        line::print(&lines, output, colour)
    }
}
