//! Numbers of the kernel and their names.

pub mod errno;
pub mod signals;
pub mod tty;
