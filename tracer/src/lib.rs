//! Every Linux process from birth to death: exact events, an exact tree, JSON lines.

pub mod event;
pub mod id;
pub mod kernel;
pub mod record;
pub mod text;
pub mod time;
