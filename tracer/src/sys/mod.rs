//! Numbers of the kernel and their names, users, how `/proc` is mounted, and what this process was started with.

pub mod errno;
pub mod inherited;
pub mod passwd;
pub mod procfs;
pub mod signals;
pub mod sigwait;
pub mod tty;
