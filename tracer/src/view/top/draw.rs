//! Draws a frame on the screen.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::{Paragraph, Sparkline};

use super::help;
use super::layout::{self, Areas};
use super::model::TopFrame;
use super::state::TopState;
use super::text;
use crate::view::line::Line;
use crate::view::screen::Overlay;
use crate::view::screen::widgets::{Ink, Prompt, bottom, menu, popup, select, styled};
use crate::view::style::TextStyle;

/// Draws a frame, for which [`TopState::layout`] has prepared the state.
pub fn draw(screen: &mut Frame<'_>, frame: &TopFrame, state: &TopState, style: &TextStyle, colour: bool) {
    let width = screen.area().width;
    let ink = Ink { glyphs: style.glyphs, colour };
    let paragraph = |lines: Vec<Line>| Paragraph::new(styled(lines, width, ink));
    let summary = text::summary(frame, state, style);
    let areas = Areas::of(screen.area(), summary.len(), style);
    screen.render_widget(paragraph(summary), areas.summary);
    draw_history(screen, areas.history, frame, colour);
    screen.render_widget(paragraph(vec![text::heading(state)]), areas.heading);
    let visible = state.viewport.visible(&state.rows).map(|row| text::row(row, frame)).collect();
    let mut visible = styled(visible, width, ink);
    select(&mut visible, state.selected - state.viewport.offset);
    screen.render_widget(Paragraph::new(visible), areas.table);
    let prompt = match state.overlay {
        Overlay::Filter => Some(Prompt::filter(&state.filter)),
        Overlay::Search => {
            Some(Prompt { label: "Search: ", text: &state.search, hint: "F3 goes on to the next, Enter ends it" })
        }
        _ => None,
    };
    screen.render_widget(Paragraph::new(bottom(prompt, &help::FOOT, colour)), areas.bottom);
    match (state.overlay, &state.details) {
        (Overlay::Help, _) => {
            popup(screen, " Help: arrows scroll it, any other key closes it ", &layout::help(), state.scroll, ink);
        }
        (Overlay::Details, Some((_, lines))) => {
            popup(screen, " Details: arrows scroll them, any other key closes them ", lines, state.scroll, ink);
        }
        (Overlay::SortMenu, _) => menu(screen, " Sort by ", &state.choices, state.choice, ink),
        (Overlay::UserMenu, _) => menu(screen, " Processes of ", &state.choices, state.choice, ink),
        _ => {}
    }
}

fn draw_history(screen: &mut Frame<'_>, area: Rect, frame: &TopFrame, colour: bool) {
    let skip = frame.history.len().saturating_sub(usize::from(area.width));
    let rates = frame.history.iter().skip(skip).copied();
    let style = if colour { Style::new().fg(Color::Green) } else { Style::new() };
    screen.render_widget(Sparkline::default().data(rates.collect::<Vec<_>>()).style(style), area);
}
