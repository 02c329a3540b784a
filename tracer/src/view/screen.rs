//! What live screens have in common: styled lines, a bar of keys, what lies over the rest.

use anstyle::{AnsiColor, Color as Ansi, Effects};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::escape;
use super::glyphs::{self, Glyphs};
use super::line::{Line, Role};

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

/// What lies over a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    #[default]
    Nothing,
    /// Help.
    Help,
    /// All about one row.
    Details,
    /// A line in which a filter is typed.
    Filter,
}

/// What is being typed: what for, what it is so far, and which keys end it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed<'a> {
    pub(super) what: &'static str,
    pub(super) text: &'a str,
    pub(super) how: &'static str,
}

impl<'a> Typed<'a> {
    /// A filter.
    pub(super) const fn filter(text: &'a str) -> Self {
        Self { what: "Filter: ", text, how: "Enter keeps it, Esc clears it" }
    }
}

/// The line at the bottom: keys and what they do; or what is being typed.
pub(super) fn bottom(typed: Option<Typed<'_>>, keys: &[(&'static str, &'static str)], colour: bool) -> Text<'static> {
    if let Some(Typed { what, text, how }) = typed {
        return Text::from(vec![
            Span::styled(what, style(Role::Heading, colour)),
            Span::raw(escape::text(text).into_owned()),
            Span::raw(format!("_  ({how})")),
        ]);
    }
    let names = keys.iter().flat_map(|(key, what)| {
        [
            Span::styled(*key, style(Role::Heading, colour)),
            Span::styled(format!("{what:<7}"), Style::new().add_modifier(Modifier::REVERSED)),
        ]
    });
    Text::from(names.collect::<Vec<_>>())
}

/// What keys do and columns mean, as lines.
pub(super) fn help(keys: &[(&str, &str)], columns: &[(&str, &str)]) -> Vec<Line> {
    let line =
        |(name, what): &(&str, &str)| Line::new().with(Role::Heading, &format!("{name:<11}")).with(Role::Plain, what);
    let mut lines: Vec<Line> = keys.iter().map(line).collect();
    lines.push(Line::new());
    lines.extend(columns.iter().map(line));
    lines
}

/// A frame over the middle, as large as it need be. What does not fit is scrolled, as far as there is something to see.
pub(super) fn popup(
    frame: &mut Frame<'_>,
    title: &str,
    lines: &[Line],
    scroll: &mut usize,
    glyphs: &Glyphs,
    colour: bool,
) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len());
    let width = u16::try_from(widest + 2).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let border = if glyphs == &glyphs::ASCII { ASCII_BORDER } else { border::PLAIN };
    let block = Block::bordered().border_set(border).title(title.to_owned());
    let inner = width.saturating_sub(2);
    let room = usize::from(height.saturating_sub(2));
    *scroll = (*scroll).min(lines.len().saturating_sub(room));
    let lines = lines.iter().skip(*scroll).take(room).cloned().collect();
    frame.render_widget(Paragraph::new(styled(lines, glyphs, inner, colour)).block(block), place);
}

/// Lines as the screen wants them.
pub(super) fn styled(lines: Vec<Line>, glyphs: &Glyphs, width: u16, colour: bool) -> Vec<Text<'static>> {
    let one = |line: Line| {
        let line = line.cut(Some(usize::from(width)), glyphs);
        Text::from(
            line.spans().map(|(role, text)| Span::styled(text.to_owned(), style(role, colour))).collect::<Vec<_>>(),
        )
    };
    lines.into_iter().map(one).collect()
}

/// The row that is selected stands out.
pub(super) fn select(rows: &mut [Text<'static>], at: usize) {
    if let Some(row) = rows.get_mut(at) {
        *row = std::mem::take(row).style(Style::new().add_modifier(Modifier::REVERSED));
    }
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
