//! The record format shared by tracer's kernel programs and its user-space side.
//!
//! There is no logic here: only the structures that cross the ring buffer ([`record`]), the constants that user space sets at
//! load time ([`config`], [`offsets`]), the counters ([`stats`]), and the sizes that both sides rely on ([`limits`]).
//!
//! Every structure is `repr(C)`, made of integers only and padded by hand, and its size is asserted at compile time. So both
//! sides read the same bytes, whatever compiler built them. With the feature `bytes` a record reads itself from bytes and writes
//! itself as bytes: its fields are listed once.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod limits;
pub mod offsets;
pub mod record;
pub mod stats;
