//! `tracer tree --watch`: the terminal that shows the live tree.
//!
//! A thread of its own draws and listens to the keyboard, so that a terminal that is slow (or stopped with Ctrl-S)
//! never holds up the reading of events.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};
use tokio::sync::oneshot;

use super::trace::{builder, runtime, told_to_end};
use super::tree::TreeArgs;
use super::{Capture, ExitCode, Globals};
use crate::clock;
use crate::event::Event;
use crate::filter::{Filter, Spec};
use crate::pipeline::{self, Wanted};
use crate::sink::{Output, Sink, Target};
use crate::time::Timestamp;
use crate::view::line::Line;
use crate::view::users::Users;
use crate::view::watch::Scene;

/// Time between two pictures, unless a key is pressed.
const FRAME: Duration = Duration::from_millis(100);

/// What a terminal that does not know its size is taken for.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// What both threads look at.
type Shared = Arc<Mutex<Scene>>;

/// Shows the live tree until it is told to end.
pub(super) fn watch(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if let Some(pid) = args.pid() {
        super::trace::must_exist(pid)?;
    }
    let output = Output::open(Target::Stdout)?;
    let colour = globals.colours(&output);
    let scene: Shared = Arc::new(Mutex::new(Scene::new(args.pid(), args.keeps_dead())));
    runtime()?.block_on(async {
        let told = told_to_end()?;
        let tracer = builder(&Capture::default()).start()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let artist = thread::spawn({
            let (args, scene, stop) = (args.clone(), Arc::clone(&scene), Arc::clone(&stop));
            move || {
                let result = draw(&args, &scene, output, colour, &stop);
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
        let filter = Filter::new(&Spec::default())?;
        let wanted = Wanted { snapshot: true, ..Wanted::default() };
        let result = pipeline::run(tracer, filter, &mut SceneSink(scene), &wanted, shutdown, |_| true).await;
        stop.store(true, Ordering::Relaxed);
        // The terminal is as it was before anything is said about what went wrong.
        let drawn =
            artist.join().map_err(|_| anyhow::anyhow!("drawing the tree failed: this is a bug, please report it"))?;
        result?;
        drawn?;
        Ok(ExitCode::Done)
    })
}

/// Takes events into the scene.
struct SceneSink(Shared);

impl Sink for SceneSink {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Draws picture after picture until a key, or the other thread, ends it.
fn draw(args: &TreeArgs, scene: &Shared, output: Output, colour: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut screen = Screen::enter(output).context("cannot take over the terminal: is standard output one?")?;
    let users = Users::of_system();
    let mut fresh = true;
    while !stop.load(Ordering::Relaxed) {
        let (columns, rows) = screen.size();
        let now = now();
        let frame = {
            let mut scene = scene.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = scene.tick(now);
            (changed || fresh).then(|| {
                let mut options = args.options(&users);
                options.highlight = args.highlighted().and_then(|pid| scene.forest().find(pid));
                scene.frame(now, columns, rows, &options)
            })
        };
        if let Some(frame) = frame {
            screen.show(&frame, colour)?;
        }
        fresh = match next_input() {
            None => false,
            Some(Wish::End) => return Ok(()),
            Some(Wish::Scroll(pages, lines)) => {
                let page = isize::try_from(rows.saturating_sub(2)).unwrap_or(isize::MAX);
                let lines = pages.saturating_mul(page).saturating_add(lines);
                scene.lock().unwrap_or_else(PoisonError::into_inner).scroll(lines);
                true
            }
            Some(Wish::Redraw) => true,
        };
    }
    Ok(())
}

/// What is wished for by a key.
enum Wish {
    End,
    /// By so many pages, and so many lines.
    Scroll(isize, isize),
    Redraw,
}

/// Waits for a key until the next picture is due.
fn next_input() -> Option<Wish> {
    match event::poll(FRAME) {
        Ok(true) => wish(&event::read().ok()?),
        Ok(false) => None,
        Err(_) => {
            // There is no keyboard; signals still end it.
            thread::sleep(FRAME);
            None
        }
    }
}

fn wish(input: &Input) -> Option<Wish> {
    /// More pages than there are.
    const ALL: isize = isize::MAX / 2;
    let key = match input {
        Input::Key(key) if key.kind != KeyEventKind::Release => key,
        Input::Resize(..) => return Some(Wish::Redraw),
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Wish::End,
        KeyCode::Char('l') if control => Wish::Redraw,
        KeyCode::Char('q') | KeyCode::Esc => Wish::End,
        KeyCode::Char('j') | KeyCode::Down => Wish::Scroll(0, 1),
        KeyCode::Char('k') | KeyCode::Up => Wish::Scroll(0, -1),
        KeyCode::Char(' ') | KeyCode::PageDown => Wish::Scroll(1, 0),
        KeyCode::Char('b') | KeyCode::PageUp => Wish::Scroll(-1, 0),
        KeyCode::Char('g') | KeyCode::Home => Wish::Scroll(0, -ALL),
        KeyCode::Char('G') | KeyCode::End => Wish::Scroll(0, ALL),
        _ => return None,
    })
}

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

    /// Shows a picture in one go, so that it does not flicker.
    fn show(&mut self, frame: &[Line], colour: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (i, line) in frame.iter().enumerate() {
            bytes.extend_from_slice(if i > 0 { b"\r\n" } else { b"" });
            bytes.extend_from_slice(line.render(colour).as_bytes());
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        queue!(bytes, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.output.write_all(&bytes)
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
