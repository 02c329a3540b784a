//! Numbers of the kernel and their names, users, how `/proc` is mounted, and what this process was started with.

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
