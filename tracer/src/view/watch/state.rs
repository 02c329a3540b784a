//! What the screen shows of the live tree. Keys scroll it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::model::LiveTree;
use crate::event::time::Timestamp;
use crate::view::line::{Line, Role};
use crate::view::screen::{Request, Viewport, keys};
use crate::view::tree::Options;
use crate::view::units;

/// The part of the live tree that is on the screen.
#[derive(Clone, Debug, Default)]
pub struct WatchState {
    viewport: Viewport,
    /// The lines of the screen.
    pub(super) lines: Vec<Line>,
}

impl WatchState {
    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        let code = match key.code {
            KeyCode::Char('d') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(Request::End),
            KeyCode::Char('q') | KeyCode::Esc => return Some(Request::End),
            KeyCode::Char(' ') => KeyCode::PageDown,
            KeyCode::Char('b') => KeyCode::PageUp,
            KeyCode::Char('g') => KeyCode::Home,
            code => code,
        };
        if let Some(request) = keys::global(key) {
            return Some(request);
        }
        // One line of a page stays on the screen.
        self.viewport.offset = keys::moved(code, self.viewport.offset, self.viewport.rows.saturating_sub(1))?;
        Some(Request::Redraw)
    }

    /// Fits the lines to the tree and to the size of the screen.
    pub fn layout(&mut self, tree: &LiveTree, now: Timestamp, size: Size, options: &Options<'_>) {
        let width = Some(usize::from(size.width));
        let glyphs = options.glyphs;
        let lines = tree.lines(now, &Options { width, ..*options });
        self.viewport.rows = usize::from(size.height).saturating_sub(1);
        self.viewport.clamp(lines.len());
        let hidden = lines.len().saturating_sub(self.viewport.offset + self.viewport.rows);
        self.lines = vec![tree.header(glyphs).cut(width, glyphs)];
        self.lines.extend(self.viewport.visible(lines));
        if hidden > 0 && self.lines.len() > 1 {
            self.lines.pop();
            let more = format!("{} {}", glyphs.ellipsis, units::counted(hidden as u64 + 1, "more line"));
            self.lines.push(Line::new().with(Role::Dim, &more).cut(width, glyphs));
        }
    }
}
