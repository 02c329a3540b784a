//! Small system interfaces: names of kernel numbers, users, the mount of `/proc`, signals, and the original environment.

pub mod errno;
#[cfg(feature = "cli")]
pub mod inherited;
pub mod passwd;
pub mod procfs;
pub mod signals;
#[cfg(feature = "cli")]
pub mod sigwait;
pub mod tty;
#[cfg(feature = "cli")]
pub mod user_names;
