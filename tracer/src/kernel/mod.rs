//! The interface to the running kernel: BTF, loading of programs, the ring buffer.

pub mod btf;
pub mod capabilities;
pub mod error;
pub mod exec_failed;
pub mod fallback;
pub mod filter_maps;
pub mod hierarchy;
pub mod hook;
pub mod iterator;
pub mod load;
mod log;
pub(crate) mod memlock;
mod mmap;
pub(crate) mod nonpreemptible;
pub(crate) mod object;
pub mod options;
pub mod preflight;
mod records;
pub(crate) mod release;
pub mod ring;
pub mod running_btf;
mod skipped;
mod syscall;
mod timer;
mod tracefs;
pub mod visibility;
