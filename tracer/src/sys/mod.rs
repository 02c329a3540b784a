//! Numbers of the kernel and their names, users.

pub mod errno;
pub mod passwd;
pub mod signals;
pub mod tty;
