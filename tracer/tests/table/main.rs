//! The process table: case by case, against a model of the kernel, and against whatever comes.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test")]

mod cgroups;
mod containers;
mod events;
mod failed;
mod history;
mod kit;
mod loss;
mod memory;
mod model;
mod origins;
mod random;
mod start;
mod strangers;
mod tree;
mod trust;
mod unseen;
mod zombies;
