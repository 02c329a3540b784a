//! Draws the live tree.

use ratatui::Frame;
use ratatui::widgets::Paragraph;

use super::state::WatchState;
use crate::view::glyphs::Glyphs;
use crate::view::screen::widgets::{Ink, styled};

/// Draws what the state shows.
pub fn draw(frame: &mut Frame<'_>, state: &WatchState, glyphs: &Glyphs, colour: bool) {
    let area = frame.area();
    let lines = styled(state.lines.clone(), area.width, Ink { glyphs, colour });
    frame.render_widget(Paragraph::new(lines), area);
}
