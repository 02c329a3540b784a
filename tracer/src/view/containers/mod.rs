//! `tracer containers`: the table of all containers, frame by frame.
//!
//! [`crate::analysis::roster`] takes events and returns frames. [`rows`] sorts and filters them as [`state`] says. [`draw`] draws
//! them on a screen, [`batch`] writes them as lines. Only `cli` knows a terminal or a clock.

pub mod batch;
pub mod draw;
mod help;
pub mod rows;
pub mod state;
#[cfg(test)]
mod tests;
mod text;

pub use state::ContainersState;
