//! Numbers of the kernel and their names, users, and how `/proc` is mounted.

pub mod errno;
pub mod passwd;
pub mod procfs;
pub mod signals;
pub mod tty;
