//! Small system interfaces: names of kernel numbers, users, the mount of `/proc`, signals, and the original environment.

pub mod errno;
pub mod inherited;
pub mod passwd;
pub mod procfs;
pub mod signals;
pub mod sigwait;
pub mod tty;
