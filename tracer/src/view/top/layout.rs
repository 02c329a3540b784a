//! Fits the state to a frame and to the size of the screen.

use ratatui::layout::{Constraint, Layout, Rect, Size};

use super::help;
use super::model::TopFrame;
use super::rows::{self, rows};
use super::state::TopState;
use super::text;
use crate::view::glyphs;
use crate::view::line::Line;
use crate::view::screen::Overlay;
use crate::view::screen::widgets::{help as help_lines, popup_end};
use crate::view::style::TextStyle;

/// Height of the graph of earlier rates, on a screen that is high enough.
const HISTORY_ROWS: u16 = 3;

/// Where the parts of the view are.
pub(super) struct Areas {
    pub(super) summary: Rect,
    pub(super) history: Rect,
    pub(super) heading: Rect,
    pub(super) table: Rect,
    pub(super) bottom: Rect,
}

impl Areas {
    /// Divides the screen below a summary of `summary_lines` lines.
    pub(super) fn of(screen: Rect, summary_lines: usize, style: &TextStyle) -> Self {
        // The bars of the graph are not ASCII.
        let history = if screen.height >= 20 && style.glyphs != &glyphs::ASCII { HISTORY_ROWS } else { 0 };
        let [summary, history, heading, table, bottom] = Layout::vertical([
            Constraint::Length(summary_lines as u16),
            Constraint::Length(history),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(screen);
        Self { summary, history, heading, table, bottom }
    }
}

/// Returns the lines of the help.
pub(super) fn help() -> Vec<Line> {
    help_lines(&help::KEYS, &help::COLUMNS)
}

impl TopState {
    /// Fits rows, selection, viewport and popup to a frame and a size. Call it before each drawing.
    pub fn layout(&mut self, frame: &TopFrame, style: &TextStyle, size: Size) {
        let screen = Rect::new(0, 0, size.width, size.height);
        let table = Areas::of(screen, text::summary(frame, self, style).len(), style).table;
        self.viewport.rows = usize::from(table.height);
        self.rows = rows(frame, self, &style.users, style.glyphs);
        self.users = rows::users(frame, &style.users);
        self.follow_selection();
        match self.overlay {
            Overlay::Help => self.scroll = self.scroll.min(popup_end(help().len(), size.height)),
            Overlay::Details => {
                if let Some((key, known)) = &mut self.details {
                    // The last details of a row stay when the row is gone.
                    if let Some(lines) = text::details(*key, &self.rows, frame, style) {
                        *known = lines;
                    }
                    self.scroll = self.scroll.min(popup_end(known.len(), size.height));
                }
            }
            _ => {}
        }
    }
}
