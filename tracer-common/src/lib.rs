//! The record format shared by tracer's kernel programs and its user-space side.
//!
//! No logic and no dependencies live here: only the shapes that cross the ring buffer
//! ([`record`]), the constants handed to the kernel side at load time ([`config`], [`offsets`]),
//! its counters ([`stats`]) and the sizes both sides agree on ([`limits`]).
//!
//! Every shape is `repr(C)`, made of integers only, padded by hand, and its size is asserted at
//! compile time, so that both sides read the same bytes whatever compiler built them.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod limits;
pub mod offsets;
pub mod record;
pub mod stats;
