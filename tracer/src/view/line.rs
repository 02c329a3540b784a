//! Lines of styled text, of which all views consist.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use anstyle::{AnsiColor, Effects, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::glyphs::Glyphs;

/// The meaning of a piece of text, which decides its style.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Ordinary text.
    #[default]
    Plain,
    /// Less important text.
    Dim,
    /// A heading.
    Heading,
    /// A highlighted process: the current one and its ancestors.
    Highlight,
    /// A new process, or a success.
    Good,
    /// A recent change, or a notice.
    Notice,
    /// Failed, killed, lost.
    Bad,
    /// A process that just exited.
    Gone,
}

impl Role {
    /// Returns the style on a terminal.
    pub const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Dim => Style::new().effects(Effects::DIMMED),
            Self::Heading | Self::Highlight => Style::new().effects(Effects::BOLD),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Notice => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Gone => AnsiColor::Red.on_default().effects(Effects::STRIKETHROUGH.insert(Effects::DIMMED)),
        }
    }
}

/// A line of text in pieces with roles. Callers escape the text for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    spans: Vec<(Role, String)>,
}

impl Line {
    /// Creates an empty line.
    pub const fn new() -> Self {
        Self { spans: Vec::new() }
    }

    /// Adds text at the end.
    pub fn push(&mut self, role: Role, text: &str) {
        match self.spans.last_mut() {
            Some((last, existing)) if *last == role => existing.push_str(text),
            _ if text.is_empty() => {}
            _ => self.spans.push((role, text.to_owned())),
        }
    }

    /// Adds text at the end and returns the line.
    #[must_use]
    pub fn with(mut self, role: Role, text: &str) -> Self {
        self.push(role, text);
        self
    }

    /// Adds another line at the end.
    pub fn append(&mut self, other: &Self) {
        for (role, text) in &other.spans {
            self.push(*role, text);
        }
    }

    /// Returns the pieces.
    pub fn spans(&self) -> impl Iterator<Item = (Role, &str)> {
        self.spans.iter().map(|(role, text)| (*role, text.as_str()))
    }

    /// Returns the width in columns.
    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.width()).sum()
    }

    /// Truncates the line to a width. The last column then shows an ellipsis. `None` and 0 mean no limit.
    #[must_use]
    pub fn cut(mut self, width: Option<usize>, glyphs: &Glyphs) -> Self {
        let Some(width) = width.filter(|&width| width > 0) else { return self };
        // A character has at most as many columns as bytes, so most lines need no measuring.
        if self.spans.iter().map(|(_, text)| text.len()).sum::<usize>() <= width || self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(glyphs.ellipsis.width());
        for i in 0..self.spans.len() {
            let (role, text) = &mut self.spans[i];
            let role = *role;
            let end = fitting(text, &mut left);
            if end < text.len() {
                text.truncate(end);
                self.spans.truncate(i + 1);
                self.push(role, glyphs.ellipsis);
                break;
            }
        }
        self
    }

    /// Returns the text without styles.
    pub fn plain(&self) -> String {
        self.spans.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Returns the text, with styles if `colour` is set.
    pub fn render(&self, colour: bool) -> String {
        if !colour {
            return self.plain();
        }
        let mut out = String::new();
        for (role, text) in &self.spans {
            let style = role.style();
            let _ = write!(out, "{style}{text}{style:#}");
        }
        out
    }
}

/// Variation selectors. They can make the character before them two columns wide: emoji (UTS #51, with 16), quotes (UAX #11, with 2).
const VARIATIONS: RangeInclusive<char> = '\u{fe00}'..='\u{fe0f}';

/// Returns how many bytes of a text fit into the columns left, and subtracts their columns.
fn fitting(text: &str, left: &mut usize) -> usize {
    for (at, c) in text.char_indices() {
        let width = if VARIATIONS.contains(&c) { 1 } else { c.width().unwrap_or(0) };
        if width > *left {
            *left = 0;
            return at;
        }
        *left -= width;
    }
    text.len()
}

/// Writes lines to an output with one write.
pub fn print(lines: &[Line], output: &mut impl Write, colour: bool) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.render(colour));
        text.push('\n');
    }
    output.write_all(text.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::glyphs::{ASCII, UNICODE};
    use super::*;

    #[test]
    fn a_truncated_line_ends_with_an_ellipsis_and_keeps_styles() {
        let line = Line::new().with(Role::Dim, "ab").with(Role::Bad, "日本語").with(Role::Plain, "x");
        assert_eq!(line.width(), 9);
        assert_eq!(line.clone().cut(Some(9), &UNICODE), line);
        assert_eq!(line.clone().cut(Some(8), &UNICODE).plain(), "ab日本…");
        assert_eq!(line.clone().cut(Some(6), &UNICODE).plain(), "ab日…");
        assert_eq!(line.clone().cut(Some(3), &ASCII).plain(), "ab+");
        let quote = Line::new().with(Role::Plain, "\u{2018}\u{fe01}abc");
        assert_eq!(quote.cut(Some(3), &UNICODE).plain(), "\u{2018}\u{fe01}…");
        let emoji = Line::new().with(Role::Plain, "*\u{fe0f}abc");
        assert_eq!(emoji.clone().cut(Some(5), &UNICODE), emoji);
        assert_eq!(emoji.cut(Some(3), &UNICODE).plain(), "*\u{fe0f}…");
        assert_eq!(line.clone().cut(Some(3), &ASCII).render(true), "\x1b[2mab\x1b[0m\x1b[31m+\x1b[0m");
    }

    #[test]
    fn an_unknown_width_truncates_nothing() {
        let line = Line::new().with(Role::Plain, "whole");
        assert_eq!(line.clone().cut(None, &UNICODE), line);
        assert_eq!(line.clone().cut(Some(0), &UNICODE), line);
    }

    proptest! {
        #[test]
        fn a_truncated_line_fits(texts in proptest::collection::vec("\\PC{0,9}", 0..4), width in 1usize..20) {
            let mut line = Line::new();
            for (i, text) in texts.iter().enumerate() {
                line.push(if i % 2 == 0 { Role::Plain } else { Role::Bad }, text);
            }
            prop_assert!(line.cut(Some(width), &UNICODE).width() <= width);
        }
    }
}
