//! Every Linux process from birth to death: exact events, an exact tree, JSON lines.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod decode;
pub mod doctor;
pub mod enrich;
pub mod errno;
pub mod event;
pub mod field;
pub mod filter;
pub mod gaps;
pub mod id;
mod intern;
pub mod kernel;
mod lineage;
pub mod live;
pub mod merge;
pub mod names;
pub mod passed_over;
pub mod pipeline;
pub mod record;
pub mod schema;
pub mod search;
pub mod seed;
pub mod signals;
pub mod sink;
pub mod slow;
pub mod states;
pub mod storm;
pub mod table;
pub mod text;
pub mod time;
pub mod tty;
pub mod usage;
pub mod view;

pub use live::{Builder, StartError, Tracer};
