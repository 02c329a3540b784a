//! `tracer containers`: the table of all containers, one picture after the other.
//!
//! [`crate::analysis::roster`] takes events and gives pictures; [`rows`] sorts and filters them as [`state`] wishes; [`draw`] puts them on
//! a screen, [`batch`] into lines. Only the command line's edge knows a terminal or a clock.

pub mod batch;
pub mod draw;
mod help;
pub mod rows;
pub mod state;
#[cfg(test)]
mod tests;
mod text;

pub use state::State;
pub use text::Look;
