//! Views for people: models built from events alone, and how they are drawn.
//!
//! A model ([`forest`], [`summary`]) takes events and knows no terminal. Drawing turns a model into [`mod@line`]s of styled
//! text. Only `cli` writes them to a terminal. So each view is tested as text.

pub mod containers;
pub mod doctor;
pub mod escape;
mod failures;
pub mod forest;
pub mod glyphs;
pub mod label;
pub mod line;
mod order;
#[cfg(test)]
mod samples;
pub mod screen;
pub mod start;
pub mod start_diff;
pub mod style;
pub mod summary;
pub mod top;
pub mod tree;
pub mod units;
pub mod users;
pub mod watch;
