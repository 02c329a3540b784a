//! Pictures as lines, for pipes and files: `tracer top -b`.

use super::model::Picture;
use super::rows::rows;
use super::state::State;
pub use super::text::Look;
use super::text::{heading, row, summary};
use crate::view::line::Line;

/// One picture. Nothing is cut unless there is a width.
pub fn lines(picture: &Picture, state: &State, look: &Look, width: Option<usize>) -> Vec<Line> {
    let mut lines = summary(picture, state, look);
    lines.push(Line::new());
    lines.push(heading(state));
    lines.extend(rows(picture, state, &look.users, look.glyphs).iter().map(|one| row(one, picture)));
    lines.into_iter().map(|line| line.cut(width, look.glyphs)).collect()
}
