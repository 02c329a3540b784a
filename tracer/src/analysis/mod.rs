//! Summaries of events: storms, container rosters, container starts, `PATH` searches. All of it is pure.

#[cfg(feature = "cli")]
pub mod audit;
pub(crate) mod lineage;
pub mod path_search;
pub mod role;
#[cfg(feature = "cli")]
pub mod roster;
pub mod storm;
