//! What live screens draw alike: styled lines, the bar of keys, popups and menus.

use anstyle::{AnsiColor, Color as Ansi, Effects};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::view::escape;
use crate::view::glyphs::{self, Glyphs};
use crate::view::line::{Line, Role};

/// The border of a popup if there is only ASCII.
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

/// How lines are drawn.
#[derive(Clone, Copy, Debug)]
pub(in crate::view) struct Ink<'a> {
    pub(in crate::view) glyphs: &'a Glyphs,
    pub(in crate::view) colour: bool,
}

/// A line of input.
#[derive(Clone, Copy, Debug)]
pub(in crate::view) struct Prompt<'a> {
    /// What the text is for.
    pub(in crate::view) label: &'static str,
    /// The text so far.
    pub(in crate::view) text: &'a str,
    /// The keys that end the input.
    pub(in crate::view) hint: &'static str,
}

impl<'a> Prompt<'a> {
    /// Asks for a filter.
    pub(in crate::view) const fn filter(text: &'a str) -> Self {
        Self { label: "Filter: ", text, hint: "Enter keeps it, Esc clears it" }
    }
}

/// Returns the line at the bottom: the prompt if there is one, or else the keys and what they do.
pub(in crate::view) fn bottom(
    prompt: Option<Prompt<'_>>,
    keys: &[(&'static str, &'static str)],
    colour: bool,
) -> Text<'static> {
    if let Some(Prompt { label, text, hint }) = prompt {
        return Text::from(vec![
            Span::styled(label, style(Role::Heading, colour)),
            Span::raw(escape::text(text).into_owned()),
            Span::raw(format!("_  ({hint})")),
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

/// Returns the lines of a help text.
pub(in crate::view) fn help(keys: &[(&str, &str)], columns: &[(&str, &str)]) -> Vec<Line> {
    let line =
        |(name, what): &(&str, &str)| Line::new().with(Role::Heading, &format!("{name:<11}")).with(Role::Plain, what);
    let mut lines: Vec<Line> = keys.iter().map(line).collect();
    lines.push(Line::new());
    lines.extend(columns.iter().map(line));
    lines
}

/// Returns the furthest that a popup of `lines` lines can be scrolled on a screen of a given height.
pub(in crate::view) fn popup_end(lines: usize, height: u16) -> usize {
    lines.saturating_sub(usize::from(height.saturating_sub(2)))
}

/// Draws a popup over the middle of the screen, as large as its lines need. It begins with the line at `scroll`.
pub(in crate::view) fn popup(frame: &mut Frame<'_>, title: &str, lines: &[Line], scroll: usize, ink: Ink<'_>) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len());
    let width = u16::try_from(widest + 2).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let border = if ink.glyphs == &glyphs::ASCII { ASCII_BORDER } else { border::PLAIN };
    let block = Block::bordered().border_set(border).title(title.to_owned());
    let rows = usize::from(height.saturating_sub(2));
    let visible = lines.iter().skip(scroll.min(popup_end(lines.len(), area.height))).take(rows).cloned().collect();
    let inner = width.saturating_sub(2);
    frame.render_widget(Paragraph::new(styled(visible, inner, ink)).block(block), place);
}

/// Draws a menu in a popup. The line at `choice` is marked and visible.
pub(in crate::view) fn menu(frame: &mut Frame<'_>, title: &str, choices: &[String], choice: usize, ink: Ink<'_>) {
    let line = |(at, text): (usize, &String)| {
        let (role, mark) = if at == choice { (Role::Notice, "> ") } else { (Role::Plain, "  ") };
        Line::new().with(role, &format!("{mark}{}", escape::text(text)))
    };
    let lines: Vec<Line> = choices.iter().enumerate().map(line).collect();
    let rows = usize::from(frame.area().height.saturating_sub(2)).max(1);
    popup(frame, title, &lines, (choice + 1).saturating_sub(rows), ink);
}

/// Converts lines for the screen. Lines that are wider than `width` are truncated.
pub(in crate::view) fn styled(lines: Vec<Line>, width: u16, ink: Ink<'_>) -> Vec<Text<'static>> {
    let convert = |line: Line| {
        let line = line.cut(Some(usize::from(width)), ink.glyphs);
        let spans = line.spans().map(|(role, text)| Span::styled(text.to_owned(), style(role, ink.colour)));
        Text::from(spans.collect::<Vec<_>>())
    };
    lines.into_iter().map(convert).collect()
}

/// Marks the selected row.
pub(in crate::view) fn select(rows: &mut [Text<'static>], at: usize) {
    if let Some(row) = rows.get_mut(at) {
        *row = std::mem::take(row).style(Style::new().add_modifier(Modifier::REVERSED));
    }
}

/// Returns the style of a role, the same as in plain output.
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
