//! The edge to the running kernel: BTF, loading, the ring buffer.

pub mod btf;
pub mod exec_failed;
pub mod hierarchy;
pub mod load;
mod misses;
pub mod own_btf;
pub mod place;
pub mod probe;
mod records;
pub mod ring;
pub mod sets;
mod shared;
mod tracefs;
mod unpreempted;
