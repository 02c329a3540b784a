//! Frames as lines, for pipes and files.

use super::rows::rows;
use super::state::ContainersState;
use super::text::{Columns, nothing, summary};
use crate::analysis::roster::RosterFrame;
use crate::view::line::Line;
use crate::view::style::TextStyle;

/// Returns the lines of a frame. They are truncated only to a given width.
pub fn lines(frame: &RosterFrame, state: &ContainersState, style: &TextStyle, width: Option<usize>) -> Vec<Line> {
    let rows = rows(frame, state);
    let columns = Columns::of(&rows, style);
    let mut lines = vec![summary(frame, state, style), Line::new()];
    if rows.is_empty() {
        lines.push(nothing(frame, state));
    } else {
        lines.push(columns.heading(state));
        lines.extend(rows.iter().map(|row| columns.row(row)));
    }
    lines.into_iter().map(|line| line.cut(width, style.glyphs)).collect()
}
