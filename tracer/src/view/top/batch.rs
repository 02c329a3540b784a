//! Frames as lines, for pipes and files: `tracer top -b`.

use super::model::TopFrame;
use super::rows::rows;
use super::state::TopState;
use super::text::{heading, row, summary};
use crate::view::line::Line;
use crate::view::style::TextStyle;

/// Returns the lines of a frame. They are truncated only to a given width.
pub fn lines(frame: &TopFrame, state: &TopState, style: &TextStyle, width: Option<usize>) -> Vec<Line> {
    let mut lines = summary(frame, state, style);
    lines.push(Line::new());
    lines.push(heading(state));
    lines.extend(rows(frame, state, &style.users, style.glyphs).iter().map(|one| row(one, frame)));
    lines.into_iter().map(|line| line.cut(width, style.glyphs)).collect()
}
