//! The record format shared by tracer's kernel programs and its user-space side.
//!
//! There is no logic here. [`record`] has the structures that cross the ring buffer. [`config`] and [`offsets`] have
//! the constants that user space sets at load time. [`stats`] has the counters, and [`limits`] the shared sizes.
//!
//! Every structure is `repr(C)`, contains only integers and explicit padding, and has its size asserted at compile
//! time. So both sides read the same bytes with any compiler. With the feature `bytes`, a record decodes and encodes
//! itself: its fields are listed once.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod limits;
pub mod offsets;
pub mod record;
pub mod stats;
