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
use crate::view::line::{Line, Role};
use crate::view::screen::{Typed, bottom, help as help_lines, popup, select, styled};

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
    state.clamp(&rows, page);
    let shown: Vec<Line> = rows.iter().skip(state.offset).take(page).map(|row| text::row(row, picture)).collect();
    let mut shown = styled(shown, look.glyphs, area.width, colour);
    select(&mut shown, state.selected - state.offset);
    frame.render_widget(Paragraph::new(shown), table);
    let typed = match state.over {
        Over::Filter => Some(Typed::filter(&state.filter)),
        Over::Search => {
            Some(Typed { what: "Search: ", text: &state.search, how: "F3 goes on to the next, Enter ends it" })
        }
        _ => None,
    };
    frame.render_widget(Paragraph::new(bottom(typed, &help::FOOT, colour)), foot);
    match state.over {
        Over::Help => {
            let lines = help_lines(&help::KEYS, &help::COLUMNS);
            let title = " Help: arrows scroll it, any other key closes it ";
            popup(frame, title, &lines, &mut state.scroll, look.glyphs, colour);
        }
        Over::Details => {
            if let Some((key, known)) = &mut state.details {
                // Whoever is gone is shown as it was last.
                if let Some(lines) = text::details(*key, &rows, picture, look) {
                    *known = lines;
                }
                let title = " Details: arrows scroll them, any other key closes them ";
                popup(frame, title, known, &mut state.scroll, look.glyphs, colour);
            }
        }
        Over::SortMenu => menu(frame, " Sort by ", state, look, colour),
        Over::UserMenu => menu(frame, " Processes of ", state, look, colour),
        Over::Nothing | Over::Filter | Over::Search => {}
    }
    (rows, page)
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, picture: &Picture, colour: bool) {
    let skip = picture.history.len().saturating_sub(usize::from(area.width));
    let rates = picture.history.iter().skip(skip).copied();
    let style = if colour { Style::new().fg(Color::Green) } else { Style::new() };
    frame.render_widget(Sparkline::default().data(rates.collect::<Vec<_>>()).style(style), area);
}

/// Lines of which one is selected.
fn menu(frame: &mut Frame<'_>, title: &str, state: &State, look: &Look, colour: bool) {
    let line = |(at, choice): (usize, &String)| {
        let role = if at == state.choice { Role::Notice } else { Role::Plain };
        let mark = if at == state.choice { "> " } else { "  " };
        Line::new().with(role, &format!("{mark}{}", crate::view::escape::text(choice)))
    };
    let lines: Vec<Line> = state.choices.iter().enumerate().map(line).collect();
    let room = usize::from(frame.area().height.saturating_sub(2)).max(1);
    let mut scroll = (state.choice + 1).saturating_sub(room);
    popup(frame, title, &lines, &mut scroll, look.glyphs, colour);
}
