//! A picture on a screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::widgets::{Paragraph, Sparkline};

use super::help;
use super::model::Picture;
use super::rows::{Row, rows};
use super::state::{Over, State};
use super::text::{self, Look};
use crate::view::glyphs;
use crate::view::line::Line;
use crate::view::screen::{bottom, help as help_lines, popup, select, styled};

/// Rows of the screen for the rates so far, where there is room for them.
const HISTORY_ROWS: u16 = 3;

/// Draws a picture. Gives its rows, and how many of them fit.
pub fn draw(
    frame: &mut Frame<'_>,
    picture: &Picture,
    state: &mut State,
    look: &Look,
    colour: bool,
) -> (Vec<Row>, usize) {
    let area = frame.area();
    let summary = text::summary(picture, state, look);
    // Its bars are not in ASCII.
    let history = if area.height >= 20 && look.glyphs != &glyphs::ASCII { HISTORY_ROWS } else { 0 };
    let [top, rates, heading, table, foot] = Layout::vertical([
        Constraint::Length(summary.len() as u16),
        Constraint::Length(history),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(styled(summary, look.glyphs, area.width, colour)), top);
    draw_history(frame, rates, picture, colour);
    frame.render_widget(Paragraph::new(styled(vec![text::heading(state)], look.glyphs, area.width, colour)), heading);
    let rows = rows(picture, state, &look.users, look.glyphs);
    let page = usize::from(table.height);
    state.clamp(rows.len(), page);
    let shown: Vec<Line> = rows.iter().skip(state.offset).take(page).map(|row| text::row(row, picture)).collect();
    let mut shown = styled(shown, look.glyphs, area.width, colour);
    select(&mut shown, state.selected - state.offset);
    frame.render_widget(Paragraph::new(shown), table);
    let typed = (state.over == Over::Filter).then_some(&*state.filter);
    frame.render_widget(Paragraph::new(bottom(typed, &help::FOOT, colour)), foot);
    match state.over {
        Over::Help => {
            popup(frame, " Help: any key closes it ", help_lines(&help::KEYS, &help::COLUMNS), look.glyphs, colour);
        }
        Over::Details => {
            if let Some(row) = rows.get(state.selected) {
                let lines = text::details(row.key, &rows, picture, look);
                popup(frame, " Details: any key closes it ", lines, look.glyphs, colour);
            }
        }
        Over::Nothing | Over::Filter => {}
    }
    (rows, page)
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, picture: &Picture, colour: bool) {
    let skip = picture.history.len().saturating_sub(usize::from(area.width));
    let rates = picture.history.iter().skip(skip).copied();
    let style = if colour { Style::new().fg(Color::Green) } else { Style::new() };
    frame.render_widget(Sparkline::default().data(rates.collect::<Vec<_>>()).style(style), area);
}
