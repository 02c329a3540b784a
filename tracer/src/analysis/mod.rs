//! Summaries of events: storms, container rosters, container starts, `PATH` searches. All of it is pure.

pub mod audit;
pub(crate) mod lineage;
pub mod path_search;
pub mod roster;
pub mod storm;
