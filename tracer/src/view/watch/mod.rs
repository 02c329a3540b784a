//! `tracer tree --watch`: the live tree on a screen.
//!
//! [`model`] takes events. [`state`] holds what the screen shows of it, and takes keys. [`draw`] draws that.

pub mod draw;
pub mod model;
pub mod state;
#[cfg(test)]
mod tests;

pub use model::LiveTree;
pub use state::WatchState;
