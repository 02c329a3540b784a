//! A picture on a screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::widgets::Paragraph;

use super::help;
use super::rows::rows;
use super::state::{Over, State};
use super::text::{Columns, Look, details, nothing, summary};
use crate::analysis::roster::Picture;
use crate::view::line::Line;
use crate::view::screen::{Typed, bottom, help as help_lines, popup, select, styled};

/// Draws a picture. Gives how many rows there are, and how many of them fit.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture, state: &mut State, look: &Look, colour: bool) -> (usize, usize) {
    let area = frame.area();
    let lines = |lines: Vec<Line>| styled(lines, look.glyphs, area.width, colour);
    let [top, heading, table, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(area);
    let rows = rows(picture, state);
    let page = usize::from(table.height);
    state.clamp(rows.len(), page);
    // Of all rows, or the columns would jump with each line that comes into view.
    let columns = Columns::of(&rows, look);
    frame.render_widget(Paragraph::new(lines(vec![summary(picture, state, look)])), top);
    frame.render_widget(Paragraph::new(lines(vec![columns.heading(state)])), heading);
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(lines(vec![nothing(picture, state)])), table);
    } else {
        let mut shown = lines(rows.iter().skip(state.offset).take(page).map(|one| columns.row(one)).collect());
        select(&mut shown, state.selected - state.offset);
        frame.render_widget(Paragraph::new(shown), table);
    }
    let typed = (state.over == Over::Filter).then(|| Typed::filter(&state.filter));
    frame.render_widget(Paragraph::new(bottom(typed, &help::FOOT, colour)), foot);
    match state.over {
        Over::Help => {
            let lines = help_lines(&help::KEYS, &help::COLUMNS);
            popup(frame, " Help: any key closes it ", &lines, &mut 0, look.glyphs, colour);
        }
        Over::Details => {
            if let Some(one) = rows.get(state.selected) {
                popup(frame, " Details: any key closes it ", &details(one, look), &mut 0, look.glyphs, colour);
            }
        }
        Over::Nothing | Over::Filter => {}
    }
    (rows.len(), page)
}
