//! Pictures as lines, for pipes and files.

use super::rows::rows;
use super::state::State;
use super::text::{Columns, Look, nothing, summary};
use crate::analysis::roster::Picture;
use crate::view::line::Line;

/// One picture. Nothing is cut unless there is a width.
pub fn lines(picture: &Picture, state: &State, look: &Look, width: Option<usize>) -> Vec<Line> {
    let rows = rows(picture, state);
    let columns = Columns::of(&rows, look);
    let mut lines = vec![summary(picture, state, look), Line::new()];
    if rows.is_empty() {
        lines.push(nothing(picture, state));
    } else {
        lines.push(columns.heading(state));
        lines.extend(rows.iter().map(|row| columns.row(row)));
    }
    lines.into_iter().map(|line| line.cut(width, look.glyphs)).collect()
}
