//! Every Linux process from fork to exit: exact events, an exact tree, JSON lines.
//!
//! The feature `cli` (on by default) adds the command `tracer` and its views on a terminal. The library needs no terminal crate
//! without it.

#![cfg_attr(not(feature = "cli"), allow(dead_code, reason = "some of the library serves only the command"))]

pub mod analysis;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod doctor;
pub mod enrich;
pub mod event;
pub mod filter;
pub mod kernel;
pub mod pipeline;
pub mod proc;
pub mod record;
pub mod sink;
pub mod source;
pub mod sys;
pub mod table;
pub mod untrusted;
#[cfg(feature = "cli")]
pub mod view;

pub use source::live::{Builder, StartError, Tracer};
