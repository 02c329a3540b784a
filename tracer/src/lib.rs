//! Every Linux process from fork to exit: exact events, an exact tree, JSON lines.

pub mod analysis;
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
pub mod view;

pub use source::live::{Builder, StartError, Tracer};
