//! `tracer top`: which processes spawn others, frame by frame.
//!
//! [`model`] takes events and sums them up for each interval. [`rows`] makes a table of the sums: grouped, sorted, filtered and
//! folded as [`state`] says. [`draw`] draws the table on a screen, [`batch`] writes it as lines. Only `cli` knows a terminal or a
//! clock.

pub mod batch;
pub mod draw;
mod help;
mod layout;
pub mod model;
pub mod rows;
pub mod state;
#[cfg(test)]
mod tests;
mod text;

pub use model::Top;
pub use state::TopState;
