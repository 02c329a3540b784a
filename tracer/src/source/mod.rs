//! Where events come from.

pub mod live;
