//! The process table: case by case, compared with a model of the kernel, and with arbitrary input.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test")]

mod cgroups;
mod containers;
mod events;
mod failed;
mod history;
mod kit;
mod late_matches;
mod loss;
mod memory;
mod model;
mod origins;
mod random;
mod start;
mod tree;
mod trust;
mod unseen;
mod zombies;
