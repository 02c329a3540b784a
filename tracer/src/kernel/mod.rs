//! The edge to the running kernel: BTF, loading, the ring buffer.

pub mod btf;
pub mod capabilities;
pub mod error;
pub mod exec_failed;
pub mod hierarchy;
pub mod hook;
pub mod load;
mod memlock;
mod misses;
mod object;
pub mod own_btf;
mod pause;
pub mod place;
pub mod probe;
mod records;
mod release;
pub mod ring;
pub mod sets;
mod shared;
mod tracefs;
mod unpreempted;
