//! Draws a frame on the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect, Size};
use ratatui::widgets::Paragraph;

use super::help;
use super::rows::rows;
use super::state::ContainersState;
use super::text::{Columns, details, nothing, summary};
use crate::analysis::roster::RosterFrame;
use crate::view::line::Line;
use crate::view::screen::Overlay;
use crate::view::screen::widgets::{Ink, Prompt, bottom, help as help_lines, popup, select, styled};
use crate::view::style::TextStyle;

/// Returns where summary, heading, table and bottom line are.
fn areas(screen: Rect) -> [Rect; 4] {
    let line = Constraint::Length(1);
    Layout::vertical([line, line, Constraint::Min(0), line]).areas(screen)
}

impl ContainersState {
    /// Fits selection and viewport to a frame and to the size of the screen. Call it before each drawing.
    pub fn layout(&mut self, frame: &RosterFrame, size: Size) {
        let [_, _, table, _] = areas(Rect::new(0, 0, size.width, size.height));
        self.viewport.rows = usize::from(table.height);
        self.rows = rows(frame, self).len();
        self.selected = self.selected.min(self.rows.saturating_sub(1));
        self.viewport.reveal(self.selected, self.rows);
    }
}

/// Draws a frame, for which [`ContainersState::layout`] has prepared the state.
pub fn draw(screen: &mut Frame<'_>, frame: &RosterFrame, state: &ContainersState, style: &TextStyle, colour: bool) {
    let ink = Ink { glyphs: style.glyphs, colour };
    let width = screen.area().width;
    let paragraph = |lines: Vec<Line>| Paragraph::new(styled(lines, width, ink));
    let [top, heading, table, foot] = areas(screen.area());
    let rows = rows(frame, state);
    // The widths are those of all rows, so that columns do not move when the table is scrolled.
    let columns = Columns::of(&rows, style);
    screen.render_widget(paragraph(vec![summary(frame, state, style)]), top);
    screen.render_widget(paragraph(vec![columns.heading(state)]), heading);
    if rows.is_empty() {
        screen.render_widget(paragraph(vec![nothing(frame, state)]), table);
    } else {
        let visible = state.viewport.visible(&rows).map(|one| columns.row(one)).collect();
        let mut visible = styled(visible, width, ink);
        select(&mut visible, state.selected - state.viewport.offset);
        screen.render_widget(Paragraph::new(visible), table);
    }
    let prompt = (state.overlay == Overlay::Filter).then(|| Prompt::filter(&state.filter));
    screen.render_widget(Paragraph::new(bottom(prompt, &help::FOOT, colour)), foot);
    match (state.overlay, rows.get(state.selected)) {
        (Overlay::Help, _) => {
            popup(screen, " Help: any key closes it ", &help_lines(&help::KEYS, &help::COLUMNS), 0, ink);
        }
        (Overlay::Details, Some(one)) => {
            popup(screen, " Details: any key closes it ", &details(one, style), 0, ink);
        }
        _ => {}
    }
}
