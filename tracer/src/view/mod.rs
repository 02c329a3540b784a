//! Pictures for people: models built from events alone, and how they are drawn.

pub mod escape;
