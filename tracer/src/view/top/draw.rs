//! A picture on a screen.

use anstyle::{AnsiColor, Color as Ansi, Effects};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline};

use super::help;
use super::model::Picture;
use super::rows::{Row, rows};
use super::state::{Over, State};
use super::text::{self, Look};
use crate::view::glyphs;
use crate::view::line::{Line, Role};

/// Rows of the screen for the rates so far, where there is room for them.
const HISTORY_ROWS: u16 = 3;

/// What is around a popup where there is only ASCII.
const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

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
    frame.render_widget(Paragraph::new(styled(summary, look, area.width, colour)), top);
    draw_history(frame, rates, picture, colour);
    frame.render_widget(Paragraph::new(styled(vec![text::heading(state)], look, area.width, colour)), heading);
    let rows = rows(picture, state, &look.users, look.glyphs);
    let page = usize::from(table.height);
    state.clamp(rows.len(), page);
    let shown: Vec<Line> = rows.iter().skip(state.offset).take(page).map(|row| text::row(row, picture)).collect();
    let mut shown = styled(shown, look, area.width, colour);
    if let Some(line) = shown.get_mut(state.selected - state.offset) {
        *line = std::mem::take(line).style(Style::new().add_modifier(Modifier::REVERSED));
    }
    frame.render_widget(Paragraph::new(shown), table);
    frame.render_widget(Paragraph::new(bottom(state, colour)), foot);
    match state.over {
        Over::Help => popup(frame, " Help: any key closes it ", help_lines(), look, colour),
        Over::Details => {
            if let Some(row) = rows.get(state.selected) {
                let lines = text::details(row.key, &rows, picture, look);
                popup(frame, " Details: any key closes it ", lines, look, colour);
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

fn bottom(state: &State, colour: bool) -> Text<'static> {
    if state.over == Over::Filter {
        let typed = crate::view::escape::text(&state.filter).into_owned();
        return Text::from(vec![
            Span::styled("Filter: ", style(Role::Heading, colour)),
            Span::raw(typed),
            Span::raw("_  (Enter keeps it, Esc clears it)"),
        ]);
    }
    let names = help::FOOT.iter().flat_map(|(key, what)| {
        [
            Span::styled(*key, style(Role::Heading, colour)),
            Span::styled(format!("{what:<7}"), Style::new().add_modifier(Modifier::REVERSED)),
        ]
    });
    Text::from(names.collect::<Vec<_>>())
}

fn help_lines() -> Vec<Line> {
    let line =
        |(name, what): &(&str, &str)| Line::new().with(Role::Heading, &format!("{name:<11}")).with(Role::Plain, what);
    let mut lines: Vec<Line> = help::KEYS.iter().map(line).collect();
    lines.push(Line::new());
    lines.extend(help::COLUMNS.iter().map(line));
    lines
}

/// A frame over the middle, as large as it need be.
fn popup(frame: &mut Frame<'_>, title: &str, lines: Vec<Line>, look: &Look, colour: bool) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len());
    let width = u16::try_from(widest + 2).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let border = if look.glyphs == &glyphs::ASCII { ASCII_BORDER } else { border::PLAIN };
    let block = Block::bordered().border_set(border).title(title.to_owned());
    let inner = width.saturating_sub(2);
    frame.render_widget(Paragraph::new(styled(lines, look, inner, colour)).block(block), place);
}

/// Lines as the screen wants them.
fn styled(lines: Vec<Line>, look: &Look, width: u16, colour: bool) -> Vec<Text<'static>> {
    let one = |line: Line| {
        let line = line.cut(Some(usize::from(width)), look.glyphs);
        Text::from(
            line.spans().map(|(role, text)| Span::styled(text.to_owned(), style(role, colour))).collect::<Vec<_>>(),
        )
    };
    lines.into_iter().map(one).collect()
}

/// How a role looks here: as everywhere.
fn style(role: Role, colour: bool) -> Style {
    let mut out = Style::new();
    if !colour {
        return out;
    }
    let style = role.style();
    if let Some(Ansi::Ansi(colour)) = style.get_fg_color() {
        out = out.fg(match colour {
            AnsiColor::Red => Color::Red,
            AnsiColor::Green => Color::Green,
            AnsiColor::Yellow => Color::Yellow,
            _ => Color::Reset,
        });
    }
    for (effect, modifier) in [
        (Effects::BOLD, Modifier::BOLD),
        (Effects::DIMMED, Modifier::DIM),
        (Effects::STRIKETHROUGH, Modifier::CROSSED_OUT),
    ] {
        if style.get_effects().contains(effect) {
            out = out.add_modifier(modifier);
        }
    }
    out
}
