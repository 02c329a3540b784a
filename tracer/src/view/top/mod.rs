//! `tracer top`: who spawns how much, one picture after the other.
//!
//! [`model`] takes events and sums them up when told the time; [`rows`] makes a table of the sums, grouped, sorted,
//! filtered and folded as [`state`] wishes; [`draw`] puts it on a screen, [`batch`] into lines. Only the command line's edge
//! knows a terminal or a clock.

pub mod batch;
pub mod draw;
mod help;
pub mod model;
pub mod rows;
pub mod state;
#[cfg(test)]
mod tests;
mod text;

pub use model::Top;
pub use state::State;
