//! `tracer tree --watch`: the live tree on the terminal.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{cursor, queue};

use super::screen::{self, Came, Screen};
use super::session::{builder, must_exist, runtime, say_unseen};
use super::stop::Stop;
use super::tree::TreeArgs;
use super::{Capture, ExitCode, Globals};
use crate::clock;
use crate::event::Event;
use crate::event::time::Timestamp;
use crate::filter::{Filter, Matcher};
use crate::kernel::visibility::What;
use crate::pipeline::consumer::Consumer;
use crate::sink::{Output, Target};
use crate::view::line::Line;
use crate::view::users::Users;
use crate::view::watch::Scene;

/// Time between two pictures, unless a key is pressed.
const FRAME: Duration = Duration::from_millis(100);

/// Time after which names and users that have changed show.
const REFRESH: Duration = Duration::from_secs(1);

/// What both threads look at.
type Shared = Arc<Mutex<Scene>>;

/// Shows the live tree until it is told to end.
pub(super) fn watch(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if let Some(pid) = args.pid() {
        must_exist(pid)?;
    }
    say_unseen(&[What::Processes]);
    let output = Output::open(Target::Stdout)?;
    let colour = globals.colours(&output);
    let scene: Shared = Arc::new(Mutex::new(Scene::new(args.pid(), args.keeps_dead())));
    runtime()?.block_on(async {
        let told = Stop::catch(true)?.requested();
        let tracer = builder(&Capture::default()).refresh_every(REFRESH).start()?;
        let everything = Matcher::new(&Filter::default())?;
        let (args, watched) = (args.clone(), Arc::clone(&scene));
        let artist = move |stop: &AtomicBool| draw(&args, &watched, output, colour, stop);
        screen::follow(tracer, everything, &mut SceneView(scene), told, artist).await?;
        Ok(ExitCode::Done)
    })
}

/// Takes events into the scene.
struct SceneView(Shared);

impl Consumer for SceneView {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
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
        let now = Timestamp(clock::boot_ns().cast_signed());
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
            show(&mut screen, &frame, colour)?;
        }
        let wish = match screen.next(FRAME)? {
            Came::Nothing => None,
            Came::Input(input) => wish(&input),
            Came::Back => Some(Wish::Redraw),
            Came::Gone => return Ok(()),
        };
        fresh = match wish {
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

/// What an input asks for.
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

/// Shows a picture in one go, so that it does not flicker.
fn show(screen: &mut Screen, frame: &[Line], colour: bool) -> io::Result<()> {
    let mut bytes = Vec::new();
    queue!(bytes, BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
    for (i, line) in frame.iter().enumerate() {
        bytes.extend_from_slice(if i > 0 { b"\r\n" } else { b"" });
        bytes.extend_from_slice(line.render(colour).as_bytes());
        queue!(bytes, Clear(ClearType::UntilNewLine))?;
    }
    queue!(bytes, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
    screen.write(&bytes)
}
