//! `tracer containers`: the table of all containers, live or from a file.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::Frame;

use crate::analysis::roster::{Picture, Roster};
use crate::cli::live_view::{self, Canvas, Pace, Show};
use crate::cli::screen::{self, now};
use crate::cli::session::{builder, runtime, say_unseen};
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
use crate::view::containers::state::{Sort, Wish as Key};
use crate::view::containers::{Look, State, batch};
use crate::view::line;

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// Which containers; all if empty.
    pub(super) only: Vec<String>,
    pub(super) from: Option<&'a Path>,
    pub(super) json: bool,
    pub(super) batch: bool,
    pub(super) delay: Duration,
    pub(super) count: Option<u64>,
    pub(super) sort: Sort,
    pub(super) width: Option<usize>,
}

/// What both threads look at.
type Shared = Arc<Mutex<Roster>>;

/// Shows the table until it is told to end.
pub(super) fn execute(wish: Wish<'_>, globals: &Globals) -> anyhow::Result<ExitCode> {
    let recording = wish.from.map(|file| from::open(file, globals)).transpose()?;
    let mut output = globals.open()?;
    let colour = globals.colours(&output);
    let roster: Shared = Arc::new(Mutex::new(Roster::new(clock::boot_ns())));
    let mut show = ShowRoster {
        roster: Arc::clone(&roster),
        state: State { only: wish.only, sort: wish.sort, ..State::default() },
        json: wish.json,
        width: wish.width,
        look: Look::of_system(),
        rows: 0,
        page: 0,
    };
    if let Some(recording) = recording {
        let mut roster = Roster::default();
        from::each(recording, |event| {
            roster.apply(event);
            Ok(())
        })?;
        let terminal = terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0));
        show.width = show.width.or(terminal);
        show.write(&roster.last(), &mut output, colour, false)?;
        return Ok(ExitCode::Done);
    }
    let text = wish.batch || wish.json || wish.count.is_some();
    let pace = Pace {
        batch: text || globals.target().is_some() || !screen::is_possible(),
        delay: wish.delay,
        iterations: wish.count.unwrap_or(u64::MAX),
    };
    say_unseen(&[What::Processes, What::Containers]);
    runtime()?.block_on(async {
        let told = Stop::catch(!pace.batch)?.requested();
        let tracer = builder(&Capture::default()).start()?;
        let everything = Matcher::new(&Filter::default())?;
        let canvas = Canvas { output, colour };
        Box::pin(live_view::live(tracer, everything, &mut RosterView(roster), show, pace, canvas, told)).await
    })?;
    Ok(ExitCode::Done)
}

/// Takes events into the roster.
struct RosterView(Shared);

impl Consumer for RosterView {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        Ok(())
    }
}

/// Shows the roster.
struct ShowRoster {
    roster: Shared,
    state: State,
    json: bool,
    width: Option<usize>,
    look: Look,
    /// What was drawn last: how many rows, and how many fit.
    rows: usize,
    page: usize,
}

impl Show for ShowRoster {
    type Picture = Picture;

    fn first(&self) -> Picture {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).first(clock::boot_ns(), now())
    }

    fn next(&self) -> Picture {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).tick(clock::boot_ns(), now())
    }

    fn write(&self, picture: &Picture, output: &mut Output, colour: bool, again: bool) -> io::Result<()> {
        if self.json {
            let mut lines = Vec::new();
            for one in rows(picture, &self.state) {
                serde_json::to_writer(&mut lines, one)?;
                lines.push(b'\n');
            }
            output.write_all(&lines)?;
            return output.flush();
        }
        let mut lines = batch::lines(picture, &self.state, &self.look, self.width);
        if again {
            lines.insert(0, line::Line::new());
        }
        line::print(&lines, output, colour)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, picture: &Picture, colour: bool) {
        (self.rows, self.page) = draw(frame, picture, &mut self.state, &self.look, colour);
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Key> {
        self.state.key(key, self.rows, self.page)
    }

    fn is_paused(&self) -> bool {
        self.state.paused
    }
}
