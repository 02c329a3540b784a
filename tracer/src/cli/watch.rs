//! `tracer tree --watch`: the live tree on the terminal.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Size;

use super::screen::{self, Canvas, LiveView, Pace};
use super::session::{builder, must_exist, report_unseen, runtime};
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
use crate::view::screen::Request;
use crate::view::users::Users;
use crate::view::watch::draw::draw;
use crate::view::watch::{LiveTree, WatchState};

/// Time between two frames, unless a key is pressed.
const FRAME: Duration = Duration::from_millis(100);

/// Time until a changed name or user is shown.
const REFRESH: Duration = Duration::from_secs(1);

/// The tree that the main thread updates and the screen's thread reads.
type SharedTree = Arc<Mutex<LiveTree>>;

/// Shows the live tree until a key or a signal ends it.
pub(super) fn execute(args: &TreeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if let Some(pid) = args.pid() {
        must_exist(pid)?;
    }
    report_unseen(&[What::Processes]);
    let output = Output::open(Target::Stdout)?;
    let canvas = Canvas { colour: globals.colours(&output), output };
    let tree: SharedTree = Arc::new(Mutex::new(LiveTree::new(args.pid(), args.keeps_exited())));
    let screen = TreeScreen {
        tree: Arc::clone(&tree),
        now: boot_time(),
        state: WatchState::default(),
        args: args.clone(),
        users: Users::of_system(),
    };
    runtime()?.block_on(async {
        let stop = Stop::catch(true)?.requested();
        let tracer = builder(&Capture::default()).refresh_every(REFRESH).start()?;
        let all = Matcher::new(&Filter::default())?;
        let mut consumer = TreeConsumer(tree);
        Box::pin(screen::show(tracer, all, &mut consumer, screen, Pace::every(FRAME), canvas, stop)).await?;
        Ok(ExitCode::Done)
    })
}

fn boot_time() -> Timestamp {
    Timestamp(clock::boot_ns().cast_signed())
}

/// Adds events to the tree.
struct TreeConsumer(SharedTree);

impl Consumer for TreeConsumer {
    fn take(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        Ok(())
    }
}

/// The live tree on the screen.
struct TreeScreen {
    tree: SharedTree,
    now: Timestamp,
    state: WatchState,
    args: TreeArgs,
    users: Users,
}

impl LiveView for TreeScreen {
    fn begin(&mut self) {
        self.advance();
    }

    fn advance(&mut self) -> bool {
        self.now = boot_time();
        self.tree.lock().unwrap_or_else(PoisonError::into_inner).tick(self.now)
    }

    fn layout(&mut self, size: Size) {
        let tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = self.args.options(&self.users);
        options.highlight = self.args.highlighted().and_then(|pid| tree.forest().find(pid));
        self.state.layout(&tree, self.now, size, &options);
    }

    fn draw(&self, screen: &mut Frame<'_>, colour: bool) {
        draw(screen, &self.state, self.args.glyphs(), colour);
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        self.state.key(key)
    }
}
